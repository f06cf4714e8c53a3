//! `entropy`: how evenly the bytes of a buffer are to be spread.

use super::super::rule::{Entropy, EntropyCompare};
use super::super::{Fault, Read, number};

/// Reads the value of `entropy`.
pub(super) fn read(text: &str) -> Read<Entropy> {
    let mut entropy = Entropy { offset: 0, len: None, compare: EntropyCompare::AtLeast(0.0) };
    let mut seen = false;
    for word in text.split(',').map(str::trim) {
        let (key, rest) = word.split_once(char::is_whitespace).unwrap_or((word, ""));
        match key {
            "offset" => entropy.offset = usize::from(number::narrow::<u16>(rest)?),
            "bytes" => entropy.len = Some(usize::from(number::narrow::<u16>(rest)?)).filter(|&len| len > 0),
            "value" => {
                entropy.compare = compare(rest.trim())?;
                seen = true;
            }
            _ => return Err(Fault::new(format!("'{word}' is not understood"))),
        }
    }
    if seen { Ok(entropy) } else { Err(Fault::new("value is missing")) }
}

type Make = fn(f64) -> EntropyCompare;

fn compare(text: &str) -> Read<EntropyCompare> {
    use EntropyCompare as Compare;
    let number = |text: &str| {
        let bad = || Fault::new(format!("no number: '{text}'"));
        text.trim().parse::<f64>().ok().filter(|number| (0.0..=8.0).contains(number)).ok_or_else(bad)
    };
    if let Some((low, high)) = text.split_once('-') {
        return Ok(match low.trim().strip_prefix('!') {
            Some(low) => Compare::NotBetween(number(low)?, number(high)?),
            None => Compare::Between(number(low)?, number(high)?),
        });
    }
    let operators: [(&str, Make); 7] = [
        (">=", Compare::AtLeast),
        ("<=", Compare::AtMost),
        ("!=", Compare::NotEqual),
        (">", Compare::Greater),
        ("<", Compare::Less),
        ("=", Compare::Equal),
        ("!", Compare::NotEqual),
    ];
    for (operator, make) in operators {
        if let Some(rest) = text.strip_prefix(operator) {
            return Ok(make(number(rest)?));
        }
    }
    Ok(Compare::Equal(number(text)?))
}
