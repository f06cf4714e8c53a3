use super::*;
use crate::app::testing::hold_up;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A block of literals that are not put into the table.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend(text.as_bytes());
        }
    }
    block
}

fn talk() -> Vec<(Direction, Vec<u8>)> {
    let get = block(&[
        (":method", "GET"),
        (":path", "/a?b=c"),
        (":authority", "User:x@Host.example:8080"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("user-agent", "curl"),
    ]);
    let (first, second) = get.split_at(20);
    let mut with_priority = vec![3, 0, 0, 0, 0, 255];
    with_priority.extend(first);
    with_priority.extend([0; 3]);
    let mut table_size = vec![0, 1, 0, 0, 0x10, 0];
    table_size.extend([0, 4, 0, 1, 0, 0]);
    let post = block(&[(":method", "POST"), (":path", "/up"), (":authority", "h"), ("content-type", "text/plain")]);
    let mut padded = vec![5];
    padded.extend(b"hello");
    padded.extend([0; 5]);
    vec![
        (ToServer, [PREFACE, &frame(frames::SETTINGS, 0, 0, &table_size)].concat()),
        (ToClient, frame(frames::SETTINGS, frames::ACK, 0, b"")),
        (
            ToServer,
            [
                frame(frames::HEADERS, frames::END_STREAM | frames::PADDED | frames::WITH_PRIORITY, 1, &with_priority),
                frame(frames::CONTINUATION, frames::END_HEADERS, 1, second),
                frame(frames::WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]),
                frame(frames::HEADERS, frames::END_HEADERS, 3, &post),
                frame(frames::DATA, frames::PADDED, 3, &padded),
                frame(frames::DATA, frames::END_STREAM, 3, b""),
            ]
            .concat(),
        ),
        (
            ToClient,
            [
                frame(frames::HEADERS, frames::END_HEADERS, 1, &block(&[(":status", "103")])),
                frame(frames::HEADERS, frames::END_HEADERS, 1, &block(&[(":status", "200"), ("server", "x")])),
                frame(frames::DATA, 0, 1, b"body of "),
                frame(frames::DATA, frames::END_STREAM, 1, b"one"),
                frame(frames::RST_STREAM, 0, 3, &[0, 0, 0, 8]),
                frame(frames::GOAWAY, 0, 0, &[0, 0, 0, 3, 0, 0, 0, 11]),
            ]
            .concat(),
        ),
    ]
}

fn borrowed(talk: &[(Direction, Vec<u8>)]) -> Vec<(Direction, &[u8])> {
    talk.iter().map(|(way, data)| (*way, data.as_slice())).collect()
}

fn run(talk: &[(Direction, Vec<u8>)]) -> Http2 {
    let mut parser = new(&Limits::default());
    for (direction, data) in talk {
        parser.parse(*direction, data).unwrap();
    }
    parser
}

fn get(transaction: &Transaction, buffer: Buffer) -> String {
    let content = transaction.buffers.iter().find(|content| content.buffer == buffer);
    content.map(|content| content.data.escape_ascii().to_string()).unwrap_or_default()
}

fn of_stream(parser: &mut Http2, id: u32) -> &Transaction {
    let found = parser.transactions().iter().find(|transaction| transaction.log["http2"]["stream_id"] == id);
    found.unwrap()
}

#[test]
fn streams_look_like_the_old_protocol() {
    let mut parser = run(&talk());
    assert!(parser.events.is_empty(), "{:?}", parser.events);
    assert!(parser.streams.is_empty());
    let one = of_stream(&mut parser, 1);
    assert!(one.complete());
    assert_eq!(get(one, Buffer::HttpMethod), "GET");
    assert_eq!(get(one, Buffer::HttpUri), "/a?b=c");
    assert_eq!(get(one, Buffer::HttpHost), "host.example");
    assert_eq!(get(one, Buffer::HttpCookie), "a=1; b=2");
    assert_eq!(get(one, Buffer::HttpRequestLine), "GET /a?b=c HTTP/2\\r\\n");
    assert_eq!(get(one, Buffer::HttpResponseLine), "HTTP/2 200\\r\\n");
    assert_eq!(get(one, Buffer::HttpServer), "x");
    assert_eq!(get(one, Buffer::HttpResponseBody), "body of one");
    assert!(one.directed_integers.contains(&(ToServer, Integer::Http2Priority, 255)));
    assert_eq!(one.events.as_slice(), [(ToServer, "http2.userinfo_in_uri")]);
    assert_eq!(one.log["http2"]["request"]["priority"], 255);
    assert_eq!(one.log["status"], 200);
    assert_eq!(one.log["length"], 11);
    assert_eq!(one.files[0].data, b"body of one");
    let three = of_stream(&mut parser, 3);
    assert_eq!(get(three, Buffer::HttpRequestBody), "hello");
    assert!(three.directed_integers.contains(&(ToClient, Integer::Http2ErrorCode, 8)));
    let settings = of_stream(&mut parser, 0);
    assert!(settings.directed_integers.contains(&(ToServer, Integer::Http2Settings, 4 << 32 | 0x1_0000)));
    assert!(settings.logged && settings.complete());
}

#[test]
fn holds_up() {
    hold_up(|| new(&Limits::default()), &borrowed(&talk()));
}

#[test]
fn an_upgrade_answers_the_request_of_the_old_protocol() {
    let upgrade = Upgrade { method: b"GET".to_vec(), target: b"/x".to_vec(), host: Some(b"h".to_vec()) };
    let mut parser = upgraded(&Limits::default(), &upgrade);
    let headers = frame(frames::HEADERS, frames::END_HEADERS | frames::END_STREAM, 1, &block(&[(":status", "404")]));
    parser.parse(ToClient, &headers).unwrap();
    parser.parse(ToServer, PREFACE).unwrap();
    let one = of_stream(&mut parser, 1);
    assert!(one.complete());
    assert_eq!(get(one, Buffer::HttpUri), "/x");
    assert_eq!(get(one, Buffer::HttpStatCode), "404");
}

#[test]
fn what_is_broken_is_told() {
    let mut parser = new(&Limits::default());
    assert!(parser.parse(ToServer, b"PRI * HTTP/1").is_err());
    assert_eq!(parser.take_events().as_slice(), [(ToServer, "http2.invalid_client_magic")]);
    let mut parser = new(&Limits::default());
    parser.parse(ToServer, PREFACE).unwrap();
    assert!(parser.parse(ToServer, &frame(frames::HEADERS, frames::END_HEADERS, 1, &[0xff; 9])).is_err());
    assert_eq!(parser.take_events().as_slice(), [(ToServer, "http2.header_integer_overflow")]);
}

#[test]
fn floods_are_bounded() {
    let mut parser = new(&Limits::default());
    for stream in 0..10_000 {
        let request = block(&[(":method", "GET"), (":path", "/")]);
        parser.parse(ToServer, &frame(frames::HEADERS, frames::END_HEADERS, stream * 2 + 1, &request)).unwrap();
        parser.parse(ToServer, &frame(frames::SETTINGS, 0, 0, &[0; 600])).unwrap();
    }
    assert!(parser.transactions().len() <= Limits::default().transactions);
    assert!(parser.streams.len() <= Limits::default().transactions);
    let mut parser = new(&Limits::default());
    let mut outcome = parser.parse(ToServer, &frame(frames::HEADERS, 0, 1, &[0; 1000]));
    for _ in 0..1000 {
        outcome = outcome.and_then(|()| parser.parse(ToServer, &frame(frames::CONTINUATION, 0, 1, &[0; 1000])));
    }
    assert!(outcome.is_err());
}

#[test]
fn bytes_missing_in_a_body() {
    let mut parser = run(&talk()[..3]);
    let response = block(&[(":status", "200")]);
    parser.parse(ToClient, &frame(frames::HEADERS, frames::END_HEADERS, 1, &response)).unwrap();
    let body = frame(frames::DATA, frames::END_STREAM, 1, &[b'x'; 100]);
    parser.parse(ToClient, &body[..50]).unwrap();
    parser.gap(ToClient, 20).unwrap();
    parser.parse(ToClient, &body[70..]).unwrap();
    let one = of_stream(&mut parser, 1);
    assert!(one.complete() && one.files[0].gaps);
    assert!(parser.gap(ToClient, 20).is_err());
}

#[test]
fn messages_of_dns_are_looked_into() {
    let query = b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\x03com\0\0\x01\0\x01";
    let path = "/dns-query?dns=AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB";
    let query_in_path =
        block(&[(":method", "GET"), (":path", path), (":authority", "d"), ("accept", "application/dns-message")]);
    let kind = ("content-type", "application/dns-message");
    let post = block(&[(":method", "POST"), (":path", "/dns-query"), (":authority", "d"), kind]);
    let talk = vec![
        (
            ToServer,
            [PREFACE, &frame(frames::HEADERS, 5, 1, &query_in_path), &frame(frames::HEADERS, 4, 3, &post)].concat(),
        ),
        (ToServer, frame(frames::DATA, frames::END_STREAM, 3, query)),
    ];
    let mut parser = run(&talk);
    assert_eq!(parser.protocol(), Protocol::Doh2);
    for stream in [1, 3] {
        let transaction = of_stream(&mut parser, stream);
        assert_eq!(get(transaction, Buffer::DnsQuery), "www.example.com", "stream {stream}");
        assert!(transaction.log_beside.contains_key("dns"));
    }
    hold_up(|| new(&Limits::default()), &borrowed(&talk));
}
