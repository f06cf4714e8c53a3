//! TCP through the whole engine: order, gaps, overlaps, who is believed.

mod common;

use common::{ACK, Conversation, FIN, RST};

const RULES: &str = r#"
alert tcp-stream any any -> any 80 (content:"ABCDEF"; sid:1;)
alert tcp-stream any any -> any 80 (content:"ABCxEF"; sid:2;)
alert tcp any any -> any any (stream-event:reassembly_seq_gap; sid:3;)
alert tcp any any -> any any (stream-event:reassembly_overlap_different_data; sid:4;)
alert tcp any any -> any any (flow:established; content:"HELLO"; sid:5;)
"#;

#[test]
fn bytes_are_put_in_order() {
    let mut talk = Conversation::new(RULES, &[]);
    talk.handshake();
    talk.segment(0, 3, ACK, b"DEF");
    talk.segment(0, 0, ACK, b"ABC");
    talk.next[0] += 6;
    talk.segment(1, 0, ACK, b"");
    assert_eq!(talk.finish().alerts(), [1]);
}

#[test]
fn what_was_acknowledged_and_never_seen_is_a_gap() {
    let mut talk = Conversation::new(RULES, &[]);
    talk.handshake();
    talk.segment(0, 0, ACK, b"ABC");
    talk.segment(0, 13, ACK, b"DEF");
    talk.next[0] += 16;
    talk.segment(1, 0, ACK, b"");
    let heard = talk.finish();
    assert_eq!(heard.alerts(), [3]);
    assert_eq!(heard.of("flow").next().unwrap()["tcp"]["ts_gap"], true);
}

#[test]
fn whose_bytes_count_in_an_overlap_is_a_setting() {
    // The first copy counts for Linux, the last one where it is told so.
    for (policy, expected) in [("linux", [4, 1]), ("last", [4, 2])] {
        let mut talk = Conversation::new(RULES, &[("stream.policy", policy)]);
        talk.handshake();
        talk.segment(0, 0, ACK, b"ABCDEF");
        talk.segment(0, 3, ACK, b"x");
        talk.next[0] += 6;
        talk.segment(1, 0, ACK, b"");
        talk.segment(0, 0, ACK, b"");
        assert_eq!(talk.finish().alerts(), expected, "{policy}");
    }
}

#[test]
fn sequence_numbers_wrap() {
    let mut talk = Conversation::new(RULES, &[]);
    talk.next[0] = u32::MAX - 2;
    talk.handshake();
    talk.say(0, b"");
    talk.segment(0, 0, ACK, b"ABCDEF");
    talk.next[0] = talk.next[0].wrapping_add(6);
    talk.segment(1, 0, ACK, b"");
    assert_eq!(talk.finish().alerts(), [1]);
}

#[test]
fn inline_bytes_are_handed_over_before_they_are_acknowledged() {
    let mut talk = Conversation::new(RULES, &[("simulate-ips", "true")]);
    talk.handshake();
    talk.segment(0, 0, ACK, b"ABCDEF");
    assert_eq!(talk.heard.alerts(), [1]);
}

#[test]
fn a_flow_without_handshake_is_established_once_it_is_answered() {
    let hello = |setting: &str, answer: u8| {
        let mut talk = Conversation::new(RULES, &[("stream.midstream", setting)]);
        talk.segment(0, 0, ACK, b"HELLO");
        talk.next[0] += 5;
        talk.segment(1, 0, answer, b"");
        talk.segment(0, 0, ACK, b"");
        talk.finish().alerts()
    };
    assert!(hello("false", ACK).is_empty());
    assert_eq!(hello("true", ACK), [5]);
    assert_eq!(hello("answered", ACK), [5]);
    assert!(hello("answered", RST).is_empty());
}

#[test]
fn memory_for_waiting_bytes_is_bounded() {
    let mut talk = Conversation::new("", &[("stream.reassembly.memcap", "64kb")]);
    talk.handshake();
    // Everything behind a hole waits.
    for place in 0..200 {
        talk.segment(0, 1 + place * 1000, ACK, &[b'x'; 1000]);
    }
    assert!(talk.engine.stats().reassembly_no_memory > 100);
}

#[test]
fn http_is_told_once_with_both_halves() {
    let mut talk = Conversation::new("", &[]);
    talk.handshake();
    talk.say(0, b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n");
    talk.say(1, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    talk.segment(0, 0, FIN | ACK, b"");
    talk.next[0] += 1;
    talk.segment(1, 0, FIN | ACK, b"");
    let heard = talk.finish();
    let told: Vec<_> = heard.of("http").collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["http"]["status"], 200);
    let flow = heard.of("flow").next().unwrap();
    assert_eq!((&flow["app_proto"], &flow["flow"]["pkts_toserver"]), (&"http".into(), &5.into()));
}
