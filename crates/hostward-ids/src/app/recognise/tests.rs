//! What is recognised, from whole and from split beginnings.

use super::{Recognition, TCP, UDP, recognise};
use crate::Direction::{self, ToClient, ToServer};
use crate::app::Protocol;

/// A port that says nothing.
const ANY: u16 = 4444;

const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01";

#[test]
fn streams_are_recognised_on_any_port_and_however_they_are_split() {
    let framed: Vec<u8> = [&[0, QUERY.len() as u8], QUERY].concat();
    let cases: &[(Direction, &[u8], Protocol)] = &[
        (ToServer, b"GET / HTTP/1.1\r\n", Protocol::Http1),
        (ToServer, b"\r\nPOST /x HTTP/1.0\r\n", Protocol::Http1),
        (ToServer, b"FOO /x HTTP/1.1\r\n", Protocol::Http1),
        (ToClient, b"HTTP/1.1 200 OK\r\n", Protocol::Http1),
        (ToServer, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Protocol::Http2),
        (ToClient, b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", Protocol::Http2),
        (ToServer, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Protocol::Tls),
        (ToClient, b"\x16\x03\x03\x00\x5a\x02\x00\x00", Protocol::Tls),
        (ToServer, b"SSH-2.0-OpenSSH_9.6\r\n", Protocol::Ssh),
        (ToClient, b"220 mx.example.org ESMTP\r\n", Protocol::Smtp),
        (ToServer, b"EHLO there\r\n", Protocol::Smtp),
        (ToClient, b"220 (vsFTPd 3.0.3)\r\n", Protocol::Ftp),
        (ToServer, b"USER anonymous\r\n", Protocol::Ftp),
        (ToServer, b"\x00\x00\x00\x54\xffSMBr", Protocol::Smb),
        (ToServer, b"\x00\x00\x00\x54\xfeSMB@", Protocol::Smb),
        (ToServer, b"\x05\x00\x0b\x03\x10\x00\x00\x00\x48\x00\x00\x00", Protocol::Dcerpc),
        (ToServer, &framed, Protocol::Dns),
    ];
    for (direction, bytes, protocol) in cases {
        assert_eq!(recognise(TCP, *direction, ANY, bytes), Recognition::Found(*protocol), "{protocol:?}");
        for len in 0..bytes.len() {
            let part = recognise(TCP, *direction, ANY, &bytes[..len]);
            assert!(part == Recognition::More || part == Recognition::Found(*protocol), "{protocol:?} {len} {part:?}");
        }
    }
}

#[test]
fn ports_decide_where_a_greeting_does_not() {
    assert_eq!(recognise(TCP, ToClient, 21, b"220 welcome\r\n"), Recognition::Found(Protocol::Ftp));
    assert_eq!(recognise(TCP, ToClient, 25, b"220 welcome\r\n"), Recognition::Found(Protocol::Smtp));
    assert_eq!(recognise(TCP, ToClient, ANY, b"220 welcome\r\n"), Recognition::Unknown);
    assert_eq!(recognise(TCP, ToServer, 110, b"USER somebody\r\n"), Recognition::Unknown);
}

#[test]
fn others_are_not_recognised() {
    for bytes in
        [&b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09"[..], b"hello world\r\n", b"+OK POP3 ready\r\n", &[0xff; 2000]]
    {
        for direction in [ToServer, ToClient] {
            assert_eq!(recognise(TCP, direction, ANY, bytes), Recognition::Unknown, "{bytes:?}");
        }
    }
    assert_eq!(recognise(TCP, ToServer, ANY, &[b'A'; 2000]), Recognition::Unknown);
}

#[test]
fn the_other_end_is_told() {
    assert_eq!(recognise(TCP, ToServer, ANY, b"HTTP/1.1 200 OK\r\n"), Recognition::Reversed(Protocol::Http1));
    assert_eq!(recognise(TCP, ToClient, ANY, b"GET / HTTP/1.1\r\n"), Recognition::Reversed(Protocol::Http1));
    assert_eq!(recognise(UDP, ToClient, ANY, QUERY), Recognition::Reversed(Protocol::Dns));
}

#[test]
fn datagrams() {
    assert_eq!(recognise(UDP, ToServer, ANY, QUERY), Recognition::Found(Protocol::Dns));
    assert_eq!(recognise(UDP, ToServer, ANY, &QUERY[..20]), Recognition::Unknown);
    assert_eq!(recognise(UDP, ToServer, 53, &QUERY[..20]), Recognition::Found(Protocol::Dns));
    assert_eq!(recognise(UDP, ToServer, 53, b"short"), Recognition::Unknown);
}
