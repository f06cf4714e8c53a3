//! Building what EVE shows of a transaction.

use serde_json::{Map, Value};

/// The object under `key`, made if it is not there.
///
/// # Panics
/// Never: what is no object is replaced by one.
pub fn object<'m>(map: &'m mut Map<String, Value>, key: &str) -> &'m mut Map<String, Value> {
    let entry = map.entry(key).or_insert_with(|| Value::Object(Map::new()));
    if !entry.is_object() {
        *entry = Value::Object(Map::new());
    }
    match entry {
        Value::Object(object) => object,
        _ => unreachable!("it was just made an object"),
    }
}

/// Adds to the list under `key`, unless it has `max` entries already; whether there was room.
pub fn push(map: &mut Map<String, Value>, key: &str, value: Value, max: usize) -> bool {
    let Value::Array(list) = map.entry(key).or_insert_with(|| Value::Array(Vec::new())) else { return false };
    let room = list.len() < max;
    if room {
        list.push(value);
    }
    room
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_and_lists() {
        let mut map = Map::new();
        map.insert("a".into(), 1.into());
        object(&mut map, "a").insert("b".into(), 2.into());
        assert!(push(&mut map, "c", 3.into(), 1) && !push(&mut map, "c", 4.into(), 1));
        assert!(!push(&mut map, "a", 4.into(), 9));
        assert_eq!(Value::from(map), serde_json::json!({"a": {"b": 2}, "c": [3]}));
    }
}
