//! EVE's `dns` object, version 3: one for each message.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::message::{Data, Message, Record};
use super::{Transaction, names};

/// Writes what EVE shows of a message.
pub(super) fn write(transaction: &mut Transaction, message: &Message) {
    let header = message.header;
    let log = &mut transaction.log;
    log.insert("version".into(), json!(3));
    log.insert("type".into(), json!(if header.is_response() { "response" } else { "request" }));
    log.insert("tx_id".into(), json!(transaction.id));
    log.insert("id".into(), json!(header.id));
    log.insert("flags".into(), json!(format!("{:x}", header.flags)));
    for (name, bit) in [("qr", 0x8000), ("aa", 0x0400), ("tc", 0x0200), ("rd", 0x0100), ("ra", 0x0080), ("z", 0x0040)] {
        if header.flags & bit != 0 {
            log.insert(name.into(), json!(true));
        }
    }
    log.insert("opcode".into(), json!(header.opcode()));
    log.insert("rcode".into(), json!(names::rcode(header.rcode())));
    if !message.questions.is_empty() {
        let questions: Vec<Value> = message
            .questions
            .iter()
            .map(|question| json!({"rrname": text(&question.name), "rrtype": names::kind(question.kind)}))
            .collect();
        log.insert("queries".into(), Value::Array(questions));
    }
    for (name, records) in
        [("answers", &message.answers), ("authorities", &message.authorities), ("additionals", &message.additionals)]
    {
        if !records.is_empty() {
            log.insert(name.into(), Value::Array(records.iter().map(record).collect()));
        }
    }
    if let Some(grouped) = grouped(&message.answers) {
        log.insert("grouped".into(), grouped);
    }
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn record(record: &Record) -> Value {
    let mut shown = Map::new();
    shown.insert("rrname".into(), json!(text(&record.name)));
    shown.insert("rrtype".into(), json!(names::kind(record.kind)));
    shown.insert("ttl".into(), json!(record.ttl));
    match &record.data {
        Data::Authority { mname, rname, numbers: [serial, refresh, retry, expire, minimum] } => {
            shown.insert(
                "soa".into(),
                json!({"mname": text(mname), "rname": text(rname), "serial": serial, "refresh": refresh,
                       "retry": retry, "expire": expire, "minimum": minimum}),
            );
        }
        Data::Service { priority, weight, port, target } => {
            shown.insert(
                "srv".into(),
                json!({"priority": priority, "weight": weight, "port": port, "name": text(target)}),
            );
        }
        Data::HostKey { algorithm, kind, fingerprint } => {
            let mut hex = String::with_capacity(fingerprint.len() * 3);
            for (at, byte) in fingerprint.iter().enumerate() {
                let _ = write!(hex, "{}{byte:02x}", if at == 0 { "" } else { ":" });
            }
            shown.insert("sshfp".into(), json!({"fingerprint": hex, "algo": algorithm, "type": kind}));
        }
        other => {
            if let Some(value) = flat(other) {
                shown.insert("rdata".into(), json!(value));
            }
        }
    }
    Value::Object(shown)
}

/// Data that is one string.
fn flat(data: &Data) -> Option<String> {
    match data {
        Data::Address(address) => Some(address.to_string()),
        Data::Name(name) => Some(text(name)),
        Data::Texts(texts) => Some(text(&texts.concat())),
        _ => None,
    }
}

/// Answers by type.
fn grouped(answers: &[Record]) -> Option<Value> {
    let mut groups = Map::new();
    for answer in answers {
        if let (1 | 2 | 5 | 12 | 15 | 16 | 28, Some(value)) = (answer.kind, flat(&answer.data)) {
            let group = groups.entry(names::kind(answer.kind)).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(values) = group {
                values.push(Value::String(value));
            }
        }
    }
    (!groups.is_empty()).then_some(Value::Object(groups))
}
