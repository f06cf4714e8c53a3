//! Messages by hand, whole, split, cut short and mutated.

use serde_json::json;

use super::*;
use crate::Direction::{ToClient, ToServer};
use crate::app::Content;

const QUERY: &[u8] = b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01";
/// example.com CNAME www.example.com, which is 192.0.2.7; TXT in the additional section.
const ANSWER: &[u8] = b"\x00\x01\x81\x80\x00\x01\x00\x02\x00\x00\x00\x01\x07example\x03com\x00\x00\x01\x00\x01\
    \xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x06\x03www\xc0\x0c\
    \xc0\x29\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x07\
    \x00\x00\x10\x00\x01\x00\x00\x00\x00\x00\x06\x02hi\x02yo";

fn datagram(direction: Direction, bytes: &[u8]) -> Transaction {
    let mut dns = over_datagrams(&Limits::default());
    dns.parse(direction, bytes).unwrap();
    dns.transactions().pop_front().unwrap()
}

fn values(transaction: &Transaction, buffer: Buffer) -> Vec<String> {
    let of = |content: &&Content| content.buffer == buffer;
    transaction.buffers.iter().filter(of).map(|content| String::from_utf8_lossy(&content.data).into_owned()).collect()
}

fn event_names(transaction: &Transaction) -> Vec<&str> {
    transaction.events.iter().map(|(_, name)| *name).collect()
}

#[test]
fn query() {
    let transaction = datagram(ToServer, QUERY);
    assert!(transaction.complete());
    assert_eq!(values(&transaction, Buffer::DnsQuery), ["example.com"]);
    assert_eq!(values(&transaction, Buffer::DnsQueriesRrname), ["example.com"]);
    assert_eq!(
        serde_json::Value::Object(transaction.log),
        json!({"version": 3, "type": "request", "tx_id": 0, "id": 1, "flags": "100", "rd": true, "opcode": 0,
               "rcode": "NOERROR", "queries": [{"rrname": "example.com", "rrtype": "A"}]})
    );
}

#[test]
fn answer() {
    let transaction = datagram(ToClient, ANSWER);
    assert_eq!(event_names(&transaction), [""; 0]);
    assert_eq!(values(&transaction, Buffer::DnsAnswersRrname), ["example.com", "www.example.com"]);
    assert_eq!(
        values(&transaction, Buffer::DnsResponseRrname),
        ["example.com", "example.com", "www.example.com", "www.example.com", ""]
    );
    let log = serde_json::Value::Object(transaction.log);
    assert_eq!(log["answers"][0]["rdata"], "www.example.com");
    assert_eq!(log["answers"][1]["rdata"], "192.0.2.7");
    assert_eq!(log["additionals"][0]["rdata"], "hiyo");
    assert_eq!(log["grouped"], json!({"CNAME": ["www.example.com"], "A": ["192.0.2.7"]}));
    assert_eq!(log["flags"], "8180");
}

#[test]
fn oddities_are_events() {
    let with_flags = |flags: u16| {
        let mut bytes = QUERY.to_vec();
        bytes[2..4].copy_from_slice(&flags.to_be_bytes());
        bytes
    };
    assert_eq!(event_names(&datagram(ToServer, &with_flags(0x0140))), ["dns.z_flag_set"]);
    assert_eq!(event_names(&datagram(ToServer, &with_flags(0x4900))), ["dns.invalid_opcode"]);
    assert_eq!(event_names(&datagram(ToServer, &with_flags(0x8180))), ["dns.not_a_request"]);
    assert_eq!(event_names(&datagram(ToClient, QUERY)), ["dns.not_a_response"]);
    assert_eq!(event_names(&datagram(ToServer, &QUERY[..QUERY.len() - 1])), ["dns.malformed_data"]);
    assert_eq!(event_names(&datagram(ToServer, &QUERY[..7])), ["dns.malformed_data"]);
    let mut looping = QUERY.to_vec();
    looping.truncate(12);
    looping.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01");
    assert_eq!(event_names(&datagram(ToServer, &looping)), ["dns.malformed_data", "dns.infinite_loop"]);
}

#[test]
fn a_stream_gives_the_same_however_it_is_split() {
    let frame = |message: &[u8]| [&(message.len() as u16).to_be_bytes()[..], message].concat();
    let bytes = [frame(QUERY), frame(QUERY), vec![0, 0], frame(QUERY)].concat();
    let parse = |cuts: &[usize]| {
        let mut dns = over_stream(&Limits::default());
        let mut start = 0;
        for &cut in cuts.iter().chain([&bytes.len()]) {
            dns.parse(ToServer, &bytes[start..cut]).unwrap();
            start = cut;
        }
        format!("{:?}", dns.transactions())
    };
    let whole = parse(&[]);
    assert_eq!(whole.matches("DnsQuery,").count(), 3);
    for cut in 0..bytes.len() {
        assert_eq!(parse(&[cut]), whole, "split at {cut}");
    }
    assert_eq!(parse(&(0..bytes.len()).collect::<Vec<_>>()), whole);
}

#[test]
fn hostile_bytes_do_no_harm() {
    for source in [QUERY, ANSWER] {
        for at in 0..source.len() {
            datagram(ToClient, &source[..at]);
            for value in [0, 1, 0x3f, 0x40, 0xc0, 0xff] {
                let mut mutated = source.to_vec();
                mutated[at] = value;
                datagram(ToClient, &mutated);
                datagram(ToServer, &mutated);
                let mut dns = over_stream(&Limits::default());
                dns.parse(ToServer, &mutated).unwrap();
                dns.close(ToServer);
            }
        }
    }
}
