use super::*;
use crate::Direction::ToClient;
use crate::app::FileState;
use crate::app::testing::{describe, hold_up};

fn framed(message: &[u8]) -> Vec<u8> {
    let mut out = (message.len() as u32).to_be_bytes().to_vec();
    out.extend(message);
    out
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// A message of SMB 2.
fn v2(command: u16, response: bool, id: u64, tree: u32, body: &[&[u8]]) -> Vec<u8> {
    let mut message = b"\xfeSMB\x40\0\0\0\0\0\0\0".to_vec();
    message.extend(command.to_le_bytes());
    message.extend([1, 0]);
    message.extend(u32::from(response).to_le_bytes());
    message.extend(0u32.to_le_bytes());
    message.extend(id.to_le_bytes());
    message.extend([0; 4]);
    message.extend(tree.to_le_bytes());
    message.extend(9u64.to_le_bytes());
    message.extend([0; 16]);
    message.extend(body.concat());
    framed(&message)
}

const FILE: [u8; 16] = [7; 16];

fn tree_connect(id: u64, share: &str) -> Vec<u8> {
    let share = utf16(share);
    v2(3, false, id, 0, &[&[9, 0, 0, 0, 72, 0], &(share.len() as u16).to_le_bytes(), &share])
}

fn create(id: u64, tree: u32, name: &str) -> Vec<u8> {
    let name = utf16(name);
    v2(5, false, id, tree, &[&[57, 0], &[0; 42], &[120, 0], &(name.len() as u16).to_le_bytes(), &[0; 8], &name])
}

fn write(id: u64, tree: u32, offset: u64, data: &[u8]) -> Vec<u8> {
    let len = (data.len() as u32).to_le_bytes();
    v2(9, false, id, tree, &[&[49, 0, 112, 0], &len, &offset.to_le_bytes(), &FILE, &[0; 16], data])
}

fn read(id: u64, tree: u32, offset: u64) -> Vec<u8> {
    v2(8, false, id, tree, &[&[49, 0, 0, 0, 0, 1, 0, 0], &offset.to_le_bytes(), &FILE, &[0; 17]])
}

fn read_response(id: u64, tree: u32, data: &[u8]) -> Vec<u8> {
    v2(8, true, id, tree, &[&[17, 0, 80, 0], &(data.len() as u32).to_le_bytes(), &[0; 8], data])
}

fn created(id: u64, tree: u32) -> Vec<u8> {
    v2(5, true, id, tree, &[&[89, 0], &[0; 62], &FILE, &[0; 8]])
}

fn close(id: u64, tree: u32) -> Vec<u8> {
    v2(6, false, id, tree, &[&[24, 0, 0, 0, 0, 0, 0, 0], &FILE])
}

fn opened(share: &str, name: &str, pipe: bool) -> Vec<(Direction, Vec<u8>)> {
    vec![
        (ToServer, tree_connect(1, share)),
        (ToClient, v2(3, true, 1, 5, &[&[16, 0, if pipe { 2 } else { 1 }, 0], &[0; 12]])),
        (ToServer, create(2, 5, name)),
        (ToClient, created(2, 5)),
    ]
}

fn run(talk: &[(Direction, Vec<u8>)]) -> Smb {
    let mut parser = new(&Limits::default());
    for (direction, data) in talk {
        parser.parse(*direction, data).unwrap();
    }
    parser
}

fn check(talk: &[(Direction, Vec<u8>)]) {
    let borrowed: Vec<(Direction, &[u8])> = talk.iter().map(|(way, data)| (*way, data.as_slice())).collect();
    hold_up(|| new(&Limits::default()), &borrowed);
}

#[test]
fn a_file_written_and_read() {
    let mut talk = opened("\\\\srv\\docs", "a\\b.txt", false);
    talk.extend([
        (ToServer, write(3, 5, 0, b"hello ")),
        // Out of order.
        (ToServer, [write(4, 5, 11, b"!"), write(5, 5, 6, b"world")].concat()),
        (ToServer, read(6, 5, 0)),
        (ToClient, read_response(6, 5, b"back")),
        (ToServer, close(7, 5)),
    ]);
    let mut parser = run(&talk);
    let files: Vec<_> = parser.transactions().iter().flat_map(|transaction| &transaction.files).collect();
    assert_eq!(files[0].data, b"hello world!");
    assert_eq!(files[0].name.as_deref(), Some(&b"a\\b.txt"[..]));
    assert_eq!((files[0].state, files[0].direction), (FileState::Closed, Some(ToServer)));
    assert_eq!((files[1].data.as_slice(), files[1].direction), (&b"back"[..], Some(ToClient)));
    let share = parser.transactions()[0].buffers.iter().find(|content| content.buffer == Buffer::SmbShare);
    assert_eq!(share.unwrap().data, b"\\\\srv\\docs");
    check(&talk);
}

#[test]
fn a_long_write_is_passed_on_in_pieces() {
    let mut talk = opened("\\\\srv\\docs", "big", false);
    let data: Vec<u8> = (0..200_000u32).map(|at| at as u8).collect();
    talk.push((ToServer, write(3, 5, 0, &data)));
    talk.push((ToServer, close(4, 5)));
    for step in [usize::MAX, 1460, 7] {
        let mut parser = new(&Limits::default());
        for (direction, data) in &talk {
            for piece in data.chunks(step) {
                parser.parse(*direction, piece).unwrap();
                assert!(parser.frames[0].kept_len() <= 70_000);
            }
        }
        let file = parser.transactions().iter().find_map(|transaction| transaction.files.first()).unwrap();
        assert_eq!((file.size, file.state), (200_000, FileState::Closed));
        assert_eq!(file.data, data[..file.data.len()]);
    }
}

#[test]
fn bytes_missing_in_a_long_write() {
    let mut parser = run(&opened("\\\\srv\\docs", "big", false));
    let message = write(3, 5, 0, &vec![b'x'; 100_000]);
    parser.parse(ToServer, &message[..50_000]).unwrap();
    parser.gap(ToServer, 10_000).unwrap();
    parser.parse(ToServer, &message[60_000..]).unwrap();
    parser.parse(ToServer, &close(4, 5)).unwrap();
    let file = parser.transactions().iter().find_map(|transaction| transaction.files.first()).unwrap();
    assert!(file.gaps);
    // And in the middle of nowhere: the next message is found again.
    parser.gap(ToServer, 10_000).unwrap();
    parser.parse(ToServer, &[b"junk".as_slice(), &tree_connect(9, "\\\\srv\\more")].concat()).unwrap();
    assert!(describe(parser.transactions().back().unwrap()).contains("more"));
}

#[test]
fn calls_through_a_pipe() {
    let request = |little: bool| {
        let mut pdu = vec![5, 0, 0, 3, if little { 0x10 } else { 0 }, 0, 0, 0];
        pdu.extend([28, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 0, 0, 10, 0]);
        pdu.extend(b"stub");
        pdu
    };
    let mut talk = opened("\\\\srv\\IPC$", "spoolss", true);
    talk.push((ToServer, write(3, 5, 0, &request(true))));
    let mut parser = run(&talk);
    let call = parser.transactions().back().unwrap();
    assert!(call.integers.contains(&(Integer::DcerpcOpnum, 10)));
    assert!(call.integers.contains(&(Integer::SmbVersion, 2)));
    assert_eq!(call.log["dcerpc"]["opnum"], 10);
    assert!(call.buffers.iter().any(|content| content.data == b"stub"));
    let pipe = parser.transactions()[0].buffers.iter().find(|content| content.buffer == Buffer::SmbNamedPipe);
    assert_eq!(pipe.unwrap().data, b"\\\\srv\\IPC$");
    check(&talk);
}

/// A message of SMB 1.
fn v1(command: u8, reply: bool, id: u16, words: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut message = b"\xffSMB".to_vec();
    message.extend([command, 0, 0, 0, 0, if reply { 0x80 } else { 0 }, 0, 0]);
    message.extend([0; 12]);
    message.extend([1, 0, 2, 0, 3, 0]);
    message.extend(id.to_le_bytes());
    message.push((words.len() / 2) as u8);
    message.extend(words);
    message.extend((bytes.len() as u16).to_le_bytes());
    message.extend(bytes);
    framed(&message)
}

#[test]
fn a_file_written_by_the_old_protocol() {
    let mut create = vec![0xff, 0, 0, 0, 0, 5, 0];
    create.extend([0; 41]);
    let mut write = vec![0xff, 0, 0, 0, 0x40, 0, 0, 0, 0, 0];
    write.extend([0; 8]);
    write.extend([0, 0, 3, 0, 63, 0, 0, 0, 0, 0]);
    let mut created = vec![0xff, 0, 0, 0, 0, 0x40, 0];
    created.extend([0; 61]);
    let talk = vec![
        (ToServer, v1(0x72, false, 0, &[], b"\x02NT LM 0.12\0")),
        (ToClient, v1(0x72, true, 0, &[0, 0], &[])),
        (ToServer, v1(0x75, false, 1, &[0xff, 0, 0, 0, 0, 0, 1, 0], b"\0\\\\srv\\docs\0?????\0")),
        (ToClient, v1(0x75, true, 1, &[0xff, 0, 0, 0, 0, 0], b"A:\0")),
        (ToServer, v1(0xa2, false, 2, &create, b"eicar")),
        (ToClient, v1(0xa2, true, 2, &created, &[])),
        (ToServer, v1(0x2f, false, 3, &write, b"abc")),
        (ToServer, v1(0x2f, false, 4, &write, b"xyz")),
        (ToServer, v1(0x04, false, 5, &[0x40, 0, 0, 0, 0, 0], &[])),
    ];
    let mut parser = run(&talk);
    let with_file = parser.transactions().iter().find(|transaction| !transaction.files.is_empty()).unwrap();
    let file = &with_file.files[0];
    assert_eq!((file.name.as_deref(), file.state), (Some(&b"eicar"[..]), FileState::Closed));
    assert_eq!(file.data, b"xyz");
    assert!(with_file.events.contains(&(ToServer, "smb.file_overlap")));
    assert_eq!(with_file.log["dialect"], "NT LM 0.12");
    assert!(parser.transactions().iter().all(|transaction| transaction.integers.contains(&(Integer::SmbVersion, 1))));
    check(&talk);
}

#[test]
fn requests_without_responses_are_bounded() {
    let mut parser = run(&opened("\\\\srv\\docs", "big", false));
    for id in 0..5_000 {
        parser.parse(ToServer, &tree_connect(id, "\\\\srv\\x")).unwrap();
        parser.parse(ToServer, &write(id, 5, 1_000_000 - id * 100, &[0; 50])).unwrap();
    }
    assert!(parser.transactions().len() <= Limits::default().transactions);
    assert!(parser.requests.len() <= MAX_REQUESTS);
}

#[test]
fn what_is_no_session_ends_it() {
    let mut parser = new(&Limits::default());
    assert!(parser.parse(ToServer, b"GET / HTTP/1.1\r\n").is_err());
    assert_eq!(parser.take_events().as_slice(), [(ToServer, "smb.malformed_data")]);
}

#[test]
fn calls_through_a_pipe_of_the_old_protocol() {
    let pdu = |kind: u8, stub: &[u8]| {
        let mut pdu = vec![5, 0, kind, 3, 0x10, 0, 0, 0, 24 + stub.len() as u8, 0, 0, 0, 1, 0, 0, 0];
        pdu.extend([4, 0, 0, 0, 0, 0, 10, 0]);
        pdu.extend(stub);
        pdu
    };
    let request = pdu(0, b"stub");
    let mut words = vec![0; 22];
    words.extend([request.len() as u8, 0, 32 + 1 + 32 + 2, 0, 2, 0, 0x26, 0, 0, 0x40]);
    let response = pdu(2, b"answer");
    let mut answer = vec![0; 12];
    answer.extend([response.len() as u8, 0, 32 + 1 + 20 + 2, 0, 0, 0, 0, 0]);
    let talk = vec![
        (ToServer, v1(0x75, false, 1, &[0xff, 0, 0, 0, 0, 0, 1, 0], b"\0\\\\srv\\IPC$\0IPC\0")),
        (ToClient, v1(0x75, true, 1, &[0xff, 0, 0, 0, 0, 0], b"IPC\0")),
        (ToServer, v1(0x25, false, 2, &words, &request)),
        (ToClient, v1(0x25, true, 2, &answer, &response)),
    ];
    let mut parser = run(&talk);
    let call = parser.transactions().back().unwrap();
    assert!(call.complete());
    assert_eq!(call.log["dcerpc"]["opnum"], 10);
    let stubs: Vec<_> = call.buffers.iter().filter(|content| content.buffer == Buffer::DcerpcStubData).collect();
    assert_eq!((&*stubs[0].data, &*stubs[1].data), (&b"stub"[..], &b"answer"[..]));
    check(&talk);
}

#[test]
fn what_waits_is_bounded_over_all_files() {
    let mut handles = Handles::new(&Limits::default());
    let mut queue = Queue::new(64);
    for number in 0..4000_u32 {
        let mut key = Key::default();
        key[..4].copy_from_slice(&(number % 300).to_be_bytes());
        // Nothing begins where the last piece ended.
        let offset = u64::from(number) * 20_000;
        handles.transfer(key, ToServer, offset, &[1; 9_000], &mut queue, &|_| {});
        let (counted, real) = handles.waiting();
        assert_eq!(counted, real);
        assert!(real <= 1 << 20);
        if number % 7 == 0 {
            handles.close(key, &mut queue);
        }
    }
}
