//! Captures with bytes changed, frames cut, left out, repeated and exchanged: no panic, whole JSON, bounded state.

use std::sync::Arc;

use hostward_ids::detect::{BuildOptions, Detector};
use hostward_ids::engine::{Engine, Frame, Settings, Sink};
use hostward_ids::flow::Owner;
use hostward_ids::rules::{Loaded, Variables, read_text};

const RULES: &str = r#"
alert http any any -> any any (msg:"h"; http.uri; content:"etc"; pcre:"/p.*d/"; sid:1;)
alert dns any any -> any any (msg:"d"; dns.query; content:"evil"; sid:2;)
alert tls any any -> any any (msg:"t"; tls.sni; content:"blocked"; sid:3;)
alert tcp any any -> any any (msg:"p"; content:"|00 00|"; byte_test:2,>,100,0,relative; sid:4;)
alert smb any any -> any any (msg:"s"; smb.share; content:"C"; sid:5;)
alert http any any -> any any (msg:"f"; file_data; content:"MZ"; sid:6;)
alert smtp any any -> any any (msg:"m"; file_data; content:"hello"; sid:7;)
alert pkthdr any any -> any any (msg:"e"; decode-event:ipv4.trunc_pkt; sid:8;)
"#;

/// Xorshift, so that a failure can be made again from its seed.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap_or_default()
    }
}

fn tcp(to_server: bool, port: u16, sequence: u32, acknowledged: u32, flags: u8, data: &[u8]) -> Vec<u8> {
    let (client, server) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let (from, to) = if to_server { (client, server) } else { (server, client) };
    let (source, destination) = if to_server { (40_000 + port, port) } else { (port, 40_000 + port) };
    let len = u16::try_from(40 + data.len()).unwrap_or(u16::MAX);
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0];
    frame.extend(len.to_be_bytes());
    frame.extend([0, 1, 0x40, 0, 64, 6, 0, 0]);
    frame.extend(from);
    frame.extend(to);
    frame.extend(source.to_be_bytes());
    frame.extend(destination.to_be_bytes());
    frame.extend(sequence.to_be_bytes());
    frame.extend(acknowledged.to_be_bytes());
    frame.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    frame.extend(data);
    frame
}

/// A connection that carries these pieces in turns, the client's first.
fn conversation(port: u16, pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    let (mut at, mut frames) = ([1_000_u32, 9_000], Vec::new());
    frames.push(tcp(true, port, at[0], 0, 2, b""));
    frames.push(tcp(false, port, at[1], at[0] + 1, 18, b""));
    at = [at[0] + 1, at[1] + 1];
    frames.push(tcp(true, port, at[0], at[1], 16, b""));
    for (number, piece) in pieces.iter().enumerate() {
        let way = number % 2;
        for part in piece.chunks(37) {
            frames.push(tcp(way == 0, port, at[way], at[1 - way], 24, part));
            at[way] += u32::try_from(part.len()).unwrap_or_default();
            frames.push(tcp(way == 1, port, at[1 - way], at[way], 16, b""));
        }
    }
    frames.push(tcp(true, port, at[0], at[1], 17, b""));
    frames.push(tcp(false, port, at[1], at[0] + 1, 17, b""));
    frames
}

fn captures() -> Vec<Vec<Vec<u8>>> {
    let dns = [
        b"\x00\x1d\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".as_slice(),
        b"\x04evil\x07example\x00\x00\x01\x00\x01",
    ]
    .concat();
    let hello = {
        let name = b"blocked.example";
        let mut extension = vec![0, 0, 0, 20, 0, 18, 0, 0, 15];
        extension.extend(name);
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0, 0, 24]);
        body.extend(extension);
        let mut record =
            vec![22, 3, 1, 0, u8::try_from(body.len() + 4).unwrap(), 1, 0, 0, u8::try_from(body.len()).unwrap()];
        record.extend(body);
        record
    };
    vec![
        conversation(80, &[
            b"GET /etc/passwd?a=%2e%2e HTTP/1.1\r\nHost: h\r\nCookie: a=b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nMZabc\r\n3;x=y\r\ndef\r\n0\r\n\r\n",
        ]),
        conversation(53, &[&dns, &dns]),
        conversation(443, &[&hello, b"\x15\x03\x03\x00\x02\x02\x28"]),
        conversation(25, &[
            b"EHLO a\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n",
            b"220 x\r\n250 a\r\n250 ok\r\n250 ok\r\n354 go\r\n",
            b"Subject: s\r\nContent-Type: multipart/mixed; boundary=q\r\n\r\n--q\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n--q--\r\n.\r\nQUIT\r\n",
        ]),
        conversation(445, &[
            b"\x00\x00\x00\x23\xffSMBr\x00\x00\x00\x00\x18\x01\x28\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
            b"\x00\x00\x00\x44\xfeSMB\x40\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        ]),
        conversation(22, &[b"SSH-2.0-a\r\n\x00\x00\x00\x14\x06\x14", b"SSH-2.0-b\r\n"]),
        conversation(21, &[b"USER a\r\nPORT 10,0,0,1,4,1\r\n", b"220 x\r\n331 y\r\n227 Entering (10,0,0,2,4,5)\r\n"]),
        conversation(8080, &[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"]),
    ]
}

#[derive(Default)]
struct Told {
    events: usize,
    anomalies: usize,
}

impl Sink for Told {
    fn event(&mut self, _: Owner, event: &[u8]) {
        let value: serde_json::Value = serde_json::from_slice(event).expect("whole JSON");
        assert!(value.get("timestamp").is_some() && event.ends_with(b"}"));
        self.events += 1;
        self.anomalies += usize::from(value["event_type"] == "anomaly");
    }
}

fn run(detector: &Arc<Detector>, frames: &[Vec<u8>], inline: bool) -> Told {
    let mut settings = Settings::default();
    for (key, value) in [("stream.midstream", "true"), ("simulate-ips", if inline { "true" } else { "false" })] {
        settings.set(key, value).expect("a setting");
    }
    let (mut engine, mut told) = (Engine::new(Arc::clone(detector), settings), Told::default());
    for (number, data) in (1..).zip(frames) {
        let frame = Frame { time: number * 1_000_000, number, link_type: 1, data, owner: Owner::default() };
        engine.frame(&frame, &mut told);
    }
    engine.finish(&mut told);
    told
}

fn detector() -> Arc<Detector> {
    let mut loaded = Loaded::default();
    read_text("hostile.rules", RULES, &Variables::default(), &mut loaded);
    assert_eq!(loaded.problems, []);
    Arc::new(Detector::build(loaded.rules, &BuildOptions::default()).expect("a detector").0)
}

#[test]
fn changed_cut_repeated_and_exchanged_frames_break_nothing() {
    let (detector, captures) = (detector(), captures());
    let (mut draw, mut anomalies) = (Draw(0x9e37_79b9_7f4a_7c15), 0);
    for round in 0..20_000 {
        let mut frames = captures[round % captures.len()].clone();
        for _ in 0..=draw.below(6) {
            let at = draw.below(frames.len());
            match draw.below(6) {
                0 | 1 => {
                    let byte = draw.below(frames[at].len());
                    if let Some(byte) = frames[at].get_mut(byte) {
                        *byte = draw.next().to_le_bytes()[0];
                    }
                }
                2 => {
                    let len = draw.below(frames[at].len());
                    frames[at].truncate(len);
                }
                3 => drop(frames.remove(at)),
                4 => frames.push(frames[at].clone()),
                _ => {
                    let other = draw.below(frames.len());
                    frames.swap(at, other);
                }
            }
            if frames.is_empty() {
                break;
            }
        }
        anomalies += run(&detector, &frames, round % 3 == 0).anomalies;
    }
    assert!(anomalies > 100, "only {anomalies}");
}

#[test]
fn a_capture_cut_anywhere_ends_with_what_came_before() {
    let detector = detector();
    for capture in captures() {
        let whole = run(&detector, &capture, false).events;
        for len in 0..capture.len() {
            assert!(run(&detector, &capture[..len], false).events <= whole + 4);
        }
    }
}

#[test]
fn a_frame_cut_anywhere_is_an_anomaly_or_nothing() {
    let detector = detector();
    for capture in captures() {
        for frame in capture.iter().take(6) {
            for len in 0..frame.len() {
                run(&detector, &[frame[..len].to_vec()], true);
            }
        }
        let cut = vec![capture[0][..30].to_vec()];
        assert!(run(&detector, &cut, false).anomalies > 0);
    }
}

#[test]
fn each_conversation_is_understood_when_nothing_is_wrong_with_it() {
    let detector = detector();
    for capture in captures() {
        // At least the flow's own event, and the protocol's or an alert.
        assert!(run(&detector, &capture, false).events >= 2);
    }
}
