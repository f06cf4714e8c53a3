use super::*;
use crate::app::testing::hold_up;

fn packet(message: u8, body: &[u8]) -> Vec<u8> {
    let padding = 8;
    let mut packet = ((2 + body.len() + padding) as u32).to_be_bytes().to_vec();
    packet.extend([padding as u8, message]);
    packet.extend(body);
    packet.extend([0; 8]);
    packet
}

fn offer() -> Vec<u8> {
    let mut body = vec![7; 16];
    for list in ["kex", "key", "out", "in", "mac-out", "mac-in", "none", "zlib", "", ""] {
        body.extend((list.len() as u32).to_be_bytes());
        body.extend(list.as_bytes());
    }
    body.extend([0; 5]);
    packet(KEXINIT, &body)
}

fn talk() -> Vec<(Direction, Vec<u8>)> {
    vec![
        (ToClient, b"hello\r\nSSH-1.99-Cisco_server-1.24 comment\r\n".to_vec()),
        (ToServer, [b"SSH-2.0-client\n".as_slice(), &offer(), &packet(30, &[1; 300]), &packet(NEWKEYS, b"")].concat()),
        (ToClient, [offer(), packet(31, &[1; 300]), packet(NEWKEYS, b"")].concat()),
        (ToServer, vec![0xee; 100]),
    ]
}

fn borrowed(talk: &[(Direction, Vec<u8>)]) -> Vec<(Direction, &[u8])> {
    talk.iter().map(|(way, data)| (*way, data.as_slice())).collect()
}

#[test]
fn banners_and_offers() {
    let mut parser = new(&Limits::default());
    for (direction, data) in talk() {
        parser.parse(direction, &data).unwrap();
    }
    assert!(parser.finished());
    let transaction = &parser.transactions()[0];
    assert!(transaction.complete());
    assert_eq!(transaction.events.as_slice(), []);
    assert_eq!(transaction.log["server"]["proto_version"], "1.99");
    assert_eq!(transaction.log["server"]["software_version"], "Cisco_server-1.24");
    assert_eq!(transaction.log["client"]["software_version"], "client");
    assert_eq!(transaction.log["client"]["hassh"]["string"], "kex;out;mac-out;none");
    assert_eq!(transaction.log["server"]["hassh"]["string"], "kex;in;mac-in;zlib");
    assert_eq!(transaction.log["server"]["hassh"]["hash"].as_str().map(str::len), Some(32));
}

#[test]
fn holds_up() {
    hold_up(|| new(&Limits::default()), &borrowed(&talk()));
}

#[test]
fn what_is_no_banner_or_packet() {
    let mut parser = new(&Limits::default());
    parser.parse(ToServer, b"GET / HTTP/1.1\r\n").unwrap();
    parser.parse(ToClient, b"SSH-2.0-x\r\n\xff\xff\xff\xff\xff\xff").unwrap();
    let events = parser.transactions()[0].events.clone();
    assert_eq!(events.as_slice(), [(ToServer, "ssh.invalid_banner"), (ToClient, "ssh.invalid_record")]);
    let mut parser = new(&Limits::default());
    parser.parse(ToClient, &[b"SSH-2.0-".as_slice(), &vec![b'a'; 100_000]].concat()).unwrap();
    assert_eq!(parser.transactions()[0].events.as_slice(), [(ToClient, "ssh.long_banner")]);
}
