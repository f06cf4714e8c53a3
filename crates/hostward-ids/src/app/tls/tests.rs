//! Handshakes by hand, whole, split, cut short and mutated.

use serde_json::json;

use super::*;
use crate::app::Content;
use crate::app::testing;

/// Self-signed: C=XX, O=Example, CN=www.example.org, made with `openssl req -x509`.
const CERTIFICATE: &str = "308201d93082017fa00302010202044f0a1b2c300a06082a8648ce3d0403023039310b30090603550406130258583110300e0603\
    55040a0c074578616d706c653118301606035504030c0f7777772e6578616d706c652e6f7267301e170d32363131323831323232\
    34375a170d3336313132353132323234375a3039310b30090603550406130258583110300e060355040a0c074578616d706c6531\
    18301606035504030c0f7777772e6578616d706c652e6f72673059301306072a8648ce3d020106082a8648ce3d03010703420004\
    6905c65c960a4d7cb4b10caf98aadad69b9c815b7673dccc97271c57d16eab9b36e468c7896f50000669e15308a7d35d59b5d3a2\
    d690e315e05771e603235beea3753073301d0603551d0e0416041435468d1af679dc3065ba42b71ac20ae7ad0695d9301f060355\
    1d2304183016801435468d1af679dc3065ba42b71ac20ae7ad0695d9300f0603551d130101ff040530030101ff30200603551d11\
    04193017820f7777772e6578616d706c652e6f72678704c0000201300a06082a8648ce3d0403020348003045022100a8b2ff889e\
    9d12168773f92592178610d5139d99fe2d52be615d0200b22e887302204c78476afe4f7e0c46f2d033d257ab5d6b949623f93818\
    58e1c0692d8addb157";

fn der() -> Vec<u8> {
    let digits: Vec<u8> = CERTIFICATE.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn short(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], &(body.len() as u32).to_be_bytes()[1..], body].concat()
}

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 3, 1], short(body).as_slice()].concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().as_slice(), &short(body)].concat()
}

fn client_hello() -> Vec<u8> {
    let name = [&[0][..], &short(b"www.example.org")].concat();
    let extensions = [
        extension(0x1a1a, b""),
        extension(0, &short(&name)),
        extension(10, &short(&[0x3a, 0x3a, 0, 29, 0, 23])),
        extension(11, &[1, 0]),
        extension(13, &short(&[4, 3, 8, 4])),
        extension(16, &short(b"\x02h2\x08http/1.1")),
        extension(43, &[4, 3, 4, 3, 3]),
    ]
    .concat();
    let body =
        [&[3, 3][..], &[7; 32], &[2, 9, 9], &short(&[0x0a, 0x0a, 0x13, 1, 0xc0, 0x2b]), &[1, 0], &short(&extensions)];
    message(1, &body.concat())
}

fn server_hello(version_extension: bool) -> Vec<u8> {
    let mut extensions = extension(16, &short(b"\x02h2"));
    if version_extension {
        extensions.extend(extension(43, &[3, 4]));
    }
    message(2, &[&[3, 3][..], &[8; 32], &[0, 0xc0, 0x2b, 0], &short(&extensions)].concat())
}

fn certificates() -> Vec<u8> {
    let one = [&(der().len() as u32).to_be_bytes()[1..], &der()].concat();
    message(11, &[&(one.len() as u32).to_be_bytes()[1..], &one].concat())
}

/// The server's side of TLS 1.2, its messages spread over records in the middle of one.
fn server_flight() -> Vec<u8> {
    let messages = [server_hello(false), certificates(), message(14, b"")].concat();
    let (first, second) = messages.split_at(100);
    [record(22, first), record(22, second), record(20, &[1]), record(22, &[5; 40]), record(23, &[6; 100])].concat()
}

fn client_flight() -> Vec<u8> {
    [record(22, &client_hello()), record(22, &message(16, &[4; 30])), record(20, &[1]), record(22, &[5; 40])].concat()
}

fn values(tls: &Tls, direction: Direction, buffer: Buffer) -> Vec<String> {
    let of = |content: &&Content| content.buffer == buffer && content.direction == direction;
    let buffers = tls.transactions[0].buffers.iter().filter(of);
    buffers.map(|content| String::from_utf8_lossy(&content.data).into_owned()).collect()
}

fn parse(pieces: &[(Direction, &[u8])]) -> Tls {
    let mut tls = new(&Limits::default());
    for (direction, bytes) in pieces {
        tls.parse(*direction, bytes).unwrap();
    }
    tls
}

#[test]
fn a_handshake() {
    let tls = parse(&[(ToServer, &client_flight()), (ToClient, &server_flight())]);
    assert!(tls.transactions[0].events.is_empty(), "{:?}", tls.transactions[0].events);
    assert_eq!(values(&tls, ToServer, Buffer::TlsSni), ["www.example.org"]);
    assert_eq!(values(&tls, ToServer, Buffer::TlsAlpn), ["h2", "http/1.1"]);
    assert_eq!(values(&tls, ToClient, Buffer::TlsAlpn), ["h2"]);
    assert_eq!(values(&tls, ToServer, Buffer::Ja3String), ["771,4865-49195,0-10-11-13-16-43,29-23,0"]);
    assert_eq!(values(&tls, ToClient, Buffer::Ja3sString), ["771,49195,16"]);
    let ja4 = values(&tls, ToServer, Buffer::Ja4Hash).concat();
    assert!(ja4.starts_with("t13d0206h2_") && ja4.len() == 36, "{ja4}");
    assert_eq!(values(&tls, ToServer, Buffer::TlsRandomTime), ["\u{7}\u{7}\u{7}\u{7}"]);
    assert_eq!(values(&tls, ToClient, Buffer::TlsCertSubject), ["C=XX, O=Example, CN=www.example.org"]);
    assert_eq!(values(&tls, ToClient, Buffer::TlsCertSerial), ["4F:0A:1B:2C"]);
    assert_eq!(values(&tls, ToClient, Buffer::TlsSubjectAltName), ["www.example.org", "192.0.2.1"]);
    let log = serde_json::Value::Object(tls.transactions[0].log.clone());
    assert_eq!(log["version"], "TLS 1.2");
    assert_eq!(log["fingerprint"], "85:b6:6e:6c:de:0c:71:87:ff:c4:e4:03:76:19:6a:7e:14:fc:e7:24");
    assert_eq!(log["notbefore"], "2026-11-28T12:22:47");
    assert_eq!(log["client_alpns"], json!(["h2", "http/1.1"]));
    assert!(tls.finished() && tls.transactions[0].complete());
}

#[test]
fn version_1_3() {
    let server = [record(22, &server_hello(true)), record(20, &[1]), record(23, &[1; 50])].concat();
    let tls = parse(&[(ToServer, &record(22, &client_hello())), (ToClient, &server)]);
    assert_eq!(tls.transactions[0].log["version"], "TLS 1.3");
    assert!(tls.transactions[0].integers.contains(&(Integer::TlsVersion, 0x0304)));
    assert_eq!(tls.transactions[0].progress, [Stage::Headers, Stage::Complete]);
}

#[test]
fn oddities() {
    let names = |direction, bytes: &[u8]| {
        let tls = parse(&[(direction, bytes)]);
        tls.transactions[0].events.iter().map(|(_, name)| *name).collect::<Vec<_>>()
    };
    assert_eq!(names(ToServer, b"\x16\x05\x01\x00\x05hello"), ["tls.invalid_record_version"]);
    assert_eq!(names(ToServer, b"\x77\x03\x01\x00\x05hello"), ["tls.invalid_record_type"]);
    assert_eq!(names(ToServer, b"\x16\x03\x01\xff\xffhello"), ["tls.invalid_record_length"]);
    assert_eq!(names(ToServer, &record(22, &message(1, b"short"))), ["tls.invalid_handshake_message"]);
    assert_eq!(names(ToClient, &record(21, &[2, 40])), ["tls.error_message_encountered"]);
    let heartbeat = record(24, &[1, 0x40, 0, 1, 2, 3]);
    assert_eq!(names(ToServer, &heartbeat), ["tls.heartbeat_message", "tls.overflow_heartbeat_message"]);
    let broken = [0, 0, 9, 0, 0, 6, 1, 2, 3, 4, 5, 6];
    assert_eq!(names(ToClient, &record(22, &message(11, &broken))), ["tls.invalid_certificate"]);
}

#[test]
fn hello_of_ssl_2() {
    let hello = b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10".iter().copied().chain([0; 0x25]).collect::<Vec<_>>();
    let tls = parse(&[(ToServer, &hello)]);
    assert_eq!(tls.transactions[0].integers.as_slice(), [(Integer::TlsVersion, 0x0301)]);
    assert_eq!(tls.transactions[0].progress[0], Stage::Headers);
}

#[test]
fn long_messages_are_passed_over() {
    let mut tls = new(&Limits::default());
    tls.parse(ToClient, &record(22, &[11, 0xff, 0xff, 0xff, 0])).unwrap();
    for _ in 0..2000 {
        tls.parse(ToClient, &record(22, &vec![0; 16_000])).unwrap();
        assert!(tls.sides[1].handshake.len() <= MESSAGE_LIMIT && tls.sides[1].pending.len() <= RECORD_LIMIT + 5);
    }
    let mut tls = new(&Limits::default());
    tls.parse(ToClient, &record(23, b"")).unwrap();
    for _ in 0..100 {
        tls.parse(ToClient, &record(23, &vec![0; 16_000])).unwrap();
        assert!(tls.sides[1].pending.is_empty());
    }
}

#[test]
fn holds_up() {
    let (client, server) = (client_flight(), server_flight());
    testing::hold_up(|| new(&Limits::default()), &[(ToServer, &client), (ToClient, &server)]);
}
