//! Whole conversations, split everywhere, cut short and mutated.

use serde_json::json;

use super::*;
use crate::app::Limits;

type Piece<'a> = (Direction, &'a [u8]);

fn parse(pieces: &[Piece<'_>]) -> Http {
    let mut http = new(&Limits::default());
    for (direction, bytes) in pieces {
        http.parse(*direction, bytes).unwrap();
    }
    http
}

fn closed(mut http: Http) -> Http {
    http.close(ToServer);
    http.close(ToClient);
    assert!(http.transactions.iter().all(Transaction::complete));
    http
}

fn values(transaction: &Transaction, direction: Direction, buffer: Buffer) -> Vec<String> {
    let of = |content: &&Content| content.buffer == buffer && content.direction == direction;
    transaction.buffers.iter().filter(of).map(|content| String::from_utf8_lossy(&content.data).into_owned()).collect()
}

fn event_names(transaction: &Transaction) -> Vec<&str> {
    transaction.events.iter().map(|(_, name)| *name).collect()
}

/// What a response gives as file data, its request being a plain GET.
fn file_data(response: &[u8]) -> String {
    let http = closed(parse(&[(ToServer, b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"), (ToClient, response)]));
    let files = http.transactions.iter().flat_map(|transaction| &transaction.files);
    files.map(|file| String::from_utf8_lossy(&file.data).into_owned()).collect()
}

const REQUEST: &[u8] = b"POST /a/../b?q=%41 HTTP/1.1\r\nHost: Example.ORG:8080\r\nUser-Agent: me\r\nCookie: c=d\r\n\
    Content-Length: 3\r\n\r\nabc";
const RESPONSE: &[u8] = b"HTTP/1.1 200 Very Good\r\nContent-Type: text/html; charset=utf-8\r\nSet-Cookie: e=f\r\n\
    Transfer-Encoding: chunked\r\n\r\n3\r\nfoo\r\n4;x=y\r\nbars\r\n0\r\n\r\n";

#[test]
fn buffers_of_an_exchange() {
    let http = parse(&[(ToServer, REQUEST), (ToClient, RESPONSE)]);
    let transaction = &http.transactions[0];
    assert!(transaction.complete());
    let request = |buffer| values(transaction, ToServer, buffer).concat();
    let response = |buffer| values(transaction, ToClient, buffer).concat();
    assert_eq!(request(Buffer::HttpMethod), "POST");
    assert_eq!(request(Buffer::HttpUri), "/b?q=A");
    assert_eq!(request(Buffer::HttpRawUri), "/a/../b?q=%41");
    assert_eq!(request(Buffer::HttpRequestLine), "POST /a/../b?q=%41 HTTP/1.1");
    assert_eq!(request(Buffer::HttpProtocol), "HTTP/1.1");
    assert_eq!(request(Buffer::HttpHost), "example.org");
    assert_eq!(request(Buffer::HttpRawHost), "Example.ORG:8080");
    assert_eq!(request(Buffer::HttpUserAgent), "me");
    assert_eq!(request(Buffer::HttpCookie), "c=d");
    assert_eq!(request(Buffer::HttpHeader), "Host: Example.ORG:8080\r\nUser-Agent: me\r\nContent-Length: 3\r\n");
    assert_eq!(request(Buffer::HttpHeaderNames), "\r\nHost\r\nUser-Agent\r\nCookie\r\nContent-Length\r\n\r\n");
    assert!(request(Buffer::HttpRawHeader).ends_with("Content-Length: 3\r\n\r\n"));
    assert!(request(Buffer::HttpStart).starts_with("POST /a/../b?q=%41 HTTP/1.1\r\nHost:"));
    assert_eq!(values(transaction, ToServer, Buffer::HttpRequestHeader)[1], "User-Agent: me");
    assert_eq!(request(Buffer::HttpRequestBody), "abc");
    assert_eq!(response(Buffer::HttpStatCode), "200");
    assert_eq!(response(Buffer::HttpStatMsg), "Very Good");
    assert_eq!(response(Buffer::HttpResponseLine), "HTTP/1.1 200 Very Good");
    assert_eq!(response(Buffer::HttpCookie), "e=f");
    assert_eq!(response(Buffer::HttpResponseBody), "foobars");
    assert_eq!(transaction.files.len(), 2);
    assert_eq!(transaction.files[1].name.as_deref(), Some(&b"/b"[..]));
    assert_eq!(transaction.files[1].state, FileState::Closed);
    assert_eq!(event_names(transaction), ["http.response_chunk_extension"]);
    assert_eq!(
        serde_json::Value::Object(transaction.log.clone()),
        json!({"hostname": "example.org", "http_port": 8080, "url": "/a/../b?q=%41", "http_user_agent": "me",
               "http_content_type": "text/html", "http_method": "POST", "protocol": "HTTP/1.1", "status": 200,
               "length": 7})
    );
}

#[test]
fn the_same_however_it_is_split() {
    let pipelined = [REQUEST, REQUEST].concat();
    let answers = [&b"HTTP/1.1 100 Continue\r\n\r\n"[..], RESPONSE, b"HTTP/1.1 304 Not\r\nETag: x\r\n\r\n"].concat();
    let shown = |pieces: &[Piece<'_>]| format!("{:?}", closed(parse(pieces)).transactions);
    let whole = shown(&[(ToServer, &pipelined), (ToClient, &answers)]);
    for at in 0..pipelined.len() {
        assert_eq!(shown(&[(ToServer, &pipelined[..at]), (ToServer, &pipelined[at..]), (ToClient, &answers)]), whole);
    }
    for at in 0..answers.len() {
        let split = shown(&[(ToServer, &pipelined), (ToClient, &answers[..at]), (ToClient, &answers[at..])]);
        assert_eq!(split, whole, "split at {at}");
    }
    let mut bytes: Vec<Piece<'_>> = pipelined.chunks(1).map(|byte| (ToServer, byte)).collect();
    bytes.extend(answers.chunks(1).map(|byte| (ToClient, byte)));
    assert_eq!(shown(&bytes), whole);
}

#[test]
fn responses_as_browsers_read_them() {
    for response in [
        // Lengths and codings of the body.
        "HTTP/1.1 200 ok\r\n\r\nEICAR",
        "HTTP/1.1 200 ok\r\nContent-Length: 5\r\n\r\nEICAR",
        "HTTP/1.1 200 ok\r\nContent-Length: 5\r\nContent-Length: 3\r\n\r\nEICAR",
        "HTTP/1.0 200 ok\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nEICAR\r\n0\r\n\r\n",
        "HTTP/1.1 200 ok\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nEICAR\r\n0\r\n\r\n",
        "HTTP/1.1 200 ok\r\nTransfer-Encoding: foo, Chunked\r\n\r\n 5\r\nEICAR\r\n0\r\n\r\n",
        "HTTP/1.1 200 ok\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0005;x\r\nEICAR\r\n0\r\n\r\n",
        "HTTP/1.1 200 ok\r\nTransfer-Encoding\r\n : chunked\r\n\r\n2\r\nEI\r\n\r\n3\nCAR\n0\r\n\r\n",
        "HTTP/1.1 200 ok\r\nTransfer-\0Encoding: chunked\r\n\r\n5\r\nEICAR\r\n0\r\n\r\n",
        "HTTP/1.1 200 ok\r\nTransfer-Encoding: gzip\r\n\r\nEICAR",
        "HTTP/1.1 200 ok\r\nContent-Encoding: gzip\r\n\r\nEICAR",
        "HTTP/1.1 200 ok\r\nContent-Encoding: whatever\r\n\r\nEICAR",
        "HTTP/1.1 200 ok\r\nContent-Length: x\r\n\r\nEICAR",
        "HTTP/1.1 204 ok\r\nContent-Length: 5\r\n\r\nEICAR",
        "HTTP/1.1 304 ok\r\nContent-Length: 5\r\n\r\nEICAR",
        // Line ends.
        "HTTP/1.1 200 ok\n\nEICAR",
        "HTTP/1.1 200 ok\rContent-Length: 5\r\rEICAR",
        "HTTP/1.1 200 ok\r\nX: y\n\r\nEICAR",
        // Status lines.
        "hTTp/1.1 200 ok\r\n\r\nEICAR",
        "\r\nHTTP/1.1 200 ok\r\n\r\nEICAR",
        "junk\r\nHTTP/1.1 200 ok\r\n\r\nEICAR",
        "HTTP/1.1 20x ok\r\n\r\nEICAR",
        "HTTP/1.1 100 ok\r\n\r\nHTTP/1.1 200 ok\r\n\r\nEICAR",
        "HTTP/1.1 102 ok\r\n\r\nHTTP/1.1 200 ok\r\n\r\nEICAR",
        "HTTP/9.9\r\n\r\nEICAR",
        "EICAR",
    ] {
        assert_eq!(file_data(response.as_bytes()), "EICAR", "{response:?}");
    }
    assert_eq!(file_data(b"HTTP/1.1 200 ok\r\nTransfer-Encoding: chunked\r\n\r\n<EICAR>\r\n"), "<EICAR>\r\n");
    assert_eq!(file_data(b"HTTP/1.1 200 ok\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nEICAR\r\nxyz"), "EICARxyz");
}

#[test]
fn requests_without_answer_and_answers_without_request() {
    let http = parse(&[(ToClient, b"HTTP/1.1 200 ok\r\nContent-Length: 1\r\n\r\nx")]);
    assert!(http.transactions[0].complete());
    assert_eq!(event_names(&http.transactions[0]), ["http.unable_to_match_response_to_request"]);
    assert_eq!(http.transactions[0].log["url"], "/libhtp::request_uri_not_seen");

    let http = closed(parse(&[(ToServer, b"GET /x HTTP/1.1\r\nHos")]));
    assert_eq!(values(&http.transactions[0], ToServer, Buffer::HttpUri), ["/x"]);
}

#[test]
fn frames_are_messages_as_they_were_sent() {
    let limits = Limits { frames: true, ..Limits::default() };
    for step in [1, 1000] {
        let mut http = new(&limits);
        for bytes in [b"\r\n", REQUEST, REQUEST].concat().chunks(step) {
            http.parse(ToServer, bytes).unwrap();
        }
        for bytes in [RESPONSE, RESPONSE].concat().chunks(step) {
            http.parse(ToClient, bytes).unwrap();
        }
        for transaction in &http.transactions {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            assert_eq!(values(transaction, ToServer, Buffer::HttpRequestFrame), [text(REQUEST)]);
            assert_eq!(values(transaction, ToClient, Buffer::HttpResponseFrame), [text(RESPONSE)]);
        }
    }
}

#[test]
fn many_requests_wait_within_the_limit() {
    let limits = Limits { transactions: 3, ..Limits::default() };
    let mut http = new(&limits);
    for _ in 0..10 {
        http.parse(ToServer, b"GET / HTTP/1.1\r\n\r\n").unwrap();
    }
    assert_eq!(http.waiting.len(), 3);
    assert_eq!(http.transactions.iter().filter(|transaction| transaction.complete()).count(), 7);
}

#[test]
fn old_protocol() {
    let http = closed(parse(&[(ToServer, b"GET /x\r\n"), (ToClient, b"<html>")]));
    assert_eq!(values(&http.transactions[0], ToClient, Buffer::HttpResponseBody), ["<html>"]);
    let http = parse(&[(ToServer, b"GET /x\r\nHost: a\r\n\r\n")]);
    assert_eq!(values(&http.transactions[0], ToServer, Buffer::HttpHost), ["a"]);
}

#[test]
fn tunnels_hand_over() {
    let connect = b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n";
    let mut http = parse(&[(ToServer, connect), (ToClient, b"HTTP/1.1 200 yes\r\n\r\n")]);
    assert!(matches!(http.hand_over(), Some(HandOver::Recognise)));
    assert!(http.transactions[0].complete());
    let mut http = parse(&[(ToServer, connect), (ToClient, b"HTTP/1.1 200 yes\r\n\r\n220 hello")]);
    assert!(http.hand_over().is_some());
    assert_eq!(http.take_rest(), b"220 hello");
    let refused = [&connect[..], b"GET /next HTTP/1.1\r\nHost: b\r\n\r\n"].concat();
    let mut http = parse(&[(ToServer, &refused), (ToClient, b"HTTP/1.1 403 no\r\nContent-Length: 0\r\n\r\n")]);
    assert!(http.hand_over().is_none());
    assert_eq!(values(&http.transactions[1], ToServer, Buffer::HttpUri), ["/next"]);
    let mut http = parse(&[
        (ToServer, b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n"),
        (ToClient, b"HTTP/1.1 101 s\r\nUpgrade: h2c\r\n\r\n"),
    ]);
    assert!(matches!(http.hand_over(), Some(HandOver::Http2(_))));
}

#[test]
fn gaps() {
    let mut http = parse(&[(ToServer, REQUEST), (ToClient, b"HTTP/1.1 200 ok\r\nContent-Length: 10\r\n\r\nab")]);
    http.gap(ToClient, 5).unwrap();
    http.parse(ToClient, b"hij").unwrap();
    let file = &http.transactions[0].files[1];
    assert_eq!((file.gaps, file.size, file.state), (true, 10, FileState::Truncated));
    assert!(http.transactions[0].complete());
    let mut http = parse(&[(ToServer, b"GET / HT")]);
    http.gap(ToServer, 5).unwrap();
    assert_eq!(http.sides[0].state, State::Over);
}

#[test]
fn lines_without_end() {
    for direction in [ToServer, ToClient] {
        for line in [&b"HTTP/1.1 200 "[..], b"GET /"] {
            let mut http = parse(&[(direction, line)]);
            for _ in 0..100 {
                http.parse(direction, &[b'a'; 1000]).unwrap();
                assert!(http.sides.iter().all(|side| side.pending.len() <= FIELD_LIMIT + 1000));
            }
        }
    }
    let mut http = parse(&[(ToServer, b"GET / HTTP/1.1\r\nX: ")]);
    http.parse(ToServer, &vec![b'a'; 20_000]).unwrap();
    assert_eq!(event_names(&http.transactions[0]), ["http.request_field_too_long"]);
}

/// What follows a message directly belongs to it, so that outcomes of broken messages depend on how they are split; that
/// nothing panics and everything closes must not.
#[test]
fn hostile_bytes_do_no_harm() {
    for (direction, source) in [(ToServer, REQUEST), (ToClient, RESPONSE)] {
        for at in 0..source.len() {
            for value in [0, b'\r', b'\n', b' ', b':', b'9', 0xff] {
                let mut mutated = source.to_vec();
                mutated[at] = value;
                for piece in [1, 7, mutated.len()] {
                    let mut http = new(&Limits::default());
                    if direction == ToClient {
                        http.parse(ToServer, REQUEST).unwrap();
                    }
                    for bytes in mutated.chunks(piece) {
                        http.parse(direction, bytes).unwrap();
                    }
                    closed(http);
                }
            }
            closed(parse(&[(direction, &source[..at])]));
        }
    }
}
