use super::*;
use crate::app::FileState;
use crate::app::testing::hold_up;

const TALK: &[(Direction, &[u8])] = &[
    (ToClient, b"220-hello\r\nand welcome\r\n220 ready\r\n"),
    (ToServer, b"USER joe\r\nPASS x\r\n"),
    (ToClient, b"331 password please\r\n230 in\r\n"),
    (ToServer, b"PORT 10,0,0,1,200,100\r\nretr dir/secret.txt\r\n"),
    (ToClient, b"200 ok\r\n150 opening\r\n226 done\r\n"),
    (ToServer, b"EPSV\r\n"),
    (ToClient, b"229 Entering (|||6446|)\r\n"),
    (ToServer, b"STOR up.bin\r\nQUIT\r\n"),
    (ToClient, b"125 go\r\n226 done\r\n221 bye\r\n"),
];

#[test]
fn commands_with_their_replies() {
    let mut parser = new(&Limits::default());
    let mut announced = Vec::new();
    for (direction, data) in TALK {
        parser.parse(*direction, data).unwrap();
        while let Some(expected) = parser.expected() {
            announced.push((
                expected.address.map(|address| address.to_string()).unwrap_or_default(),
                expected.port,
                expected.direction,
                String::from_utf8(expected.file_name.unwrap_or_default()).unwrap(),
            ));
        }
    }
    assert_eq!(
        announced,
        [
            ("10.0.0.1".into(), 51300, ToServer, String::new()),
            ("10.0.0.1".into(), 51300, ToServer, "dir/secret.txt".into()),
            (String::new(), 6446, ToClient, String::new()),
            (String::new(), 6446, ToServer, "up.bin".into()),
        ]
    );
    let log = |at: usize, parser: &mut Ftp| serde_json::to_value(&parser.transactions()[at].log).unwrap();
    assert!(parser.transactions().iter().all(Transaction::complete));
    assert_eq!(parser.transactions().len(), 8);
    assert_eq!(log(0, &mut parser)["reply"], serde_json::json!(["hello", "and welcome", "ready"]));
    assert_eq!(
        log(4, &mut parser),
        serde_json::json!({"command": "RETR", "command_data": "dir/secret.txt", "reply_received": "yes",
            "completion_code": ["150", "226"], "reply": ["opening", "done"]})
    );
    let port = &parser.transactions()[3];
    assert!(port.integers.contains(&(Integer::FtpDynamicPort, 51300)));
    assert!(
        port.buffers
            .iter()
            .any(|content| { content.buffer == Buffer::FtpPortAddress && content.data == [10, 0, 0, 1] })
    );
}

#[test]
fn holds_up() {
    hold_up(|| new(&Limits::default()), TALK);
}

#[test]
fn tls_takes_over() {
    let mut parser = new(&Limits::default());
    parser.parse(ToServer, b"AUTH TLS\r\n").unwrap();
    assert!(parser.hand_over().is_none());
    parser.parse(ToClient, b"234 go\r\n").unwrap();
    assert!(matches!(parser.hand_over(), Some(HandOver::To(Protocol::Tls))));
    assert!(parser.hand_over().is_none());
}

#[test]
fn commands_without_replies_are_bounded() {
    let mut parser = new(&Limits::default());
    for _ in 0..10_000 {
        parser.parse(ToServer, b"PORT 1,1,1,1,1,1\r\n").unwrap();
        parser.parse(ToClient, b"150 and on\r\n").unwrap();
    }
    assert!(parser.transactions().len() <= Limits::default().transactions);
    assert!(parser.announced.len() <= MAX_ANNOUNCED);
}

#[test]
fn data_of_a_named_file() {
    let expected = Expected {
        address: None,
        port: 1,
        protocol: Protocol::FtpData,
        direction: ToClient,
        file_name: Some(b"a.txt".to_vec()),
        command: b"RETR".to_vec(),
    };
    let mut parser = data::new(&Limits::default(), Some(&expected));
    parser.parse(ToClient, b"con").unwrap();
    parser.parse(ToClient, b"tent").unwrap();
    parser.close(ToClient);
    let transaction = &parser.transactions()[0];
    assert!(transaction.complete());
    assert_eq!(transaction.files[0].data, b"content");
    assert_eq!(transaction.files[0].state, FileState::Closed);
    assert!(transaction.integers.contains(&(Integer::FtpDataCommand, 1)));
}
