use super::*;
use crate::app::testing::{describe, hold_up};
use crate::app::{File, FileState};

fn run(talk: &[(Direction, &[u8])]) -> Smtp {
    let mut parser = new(&Limits { file_digests: true, ..Limits::default() });
    for (direction, data) in talk {
        parser.parse(*direction, data).unwrap();
    }
    parser
}

const MAIL: &[(Direction, &[u8])] = &[
    (ToClient, b"220 mx ready\r\n"),
    (ToServer, b"EHLO there\r\n"),
    (ToClient, b"250-mx\r\n250 STARTTLS\r\n"),
    (ToServer, b"MAIL FROM:<a@b> SIZE=10\r\nRCPT TO: <c@d>\r\nRCPT TO:<e@f>\r\nDATA\r\n"),
    (ToClient, b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
    (
        ToServer,
        b"From: \"A, B\" <a@b>\r\nTo: c@d, e@f\r\nSubject: long\r\n line\r\nContent-Type: multipart/mixed;\r\n\tboundary=\"xx\"\r\n\r\n\
        preamble\r\n--xx\r\nContent-Type: text/plain\r\n\r\nsee http://evil.example/a?b=c\r\n--xx\r\n\
        Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"n.txt\"\r\n\r\naGVs\r\nbG8=\r\n\
        --xx\r\nContent-Type: text/html; name=q.html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\na=3D=\r\nb\r\nc\r\n--xx\r\n\
        Content-Type: message/rfc822\r\n\r\nSubject: inner\r\nContent-Disposition: attachment; filename=in.exe\r\n\r\n..MZ\r\n--xx--\r\n.\r\nQUIT\r\n",
    ),
    (ToClient, b"250 queued\r\n221 bye\r\n"),
];

#[test]
fn a_message_with_files() {
    let mut parser = run(MAIL);
    let transactions = parser.transactions();
    assert_eq!(transactions.len(), 1);
    let transaction = &transactions[0];
    assert!(transaction.complete());
    assert_eq!(transaction.events.as_slice(), []);
    let shown: Vec<_> =
        transaction.files.iter().map(|file| (file.name.as_deref(), file.data.as_slice(), file.state)).collect();
    assert_eq!(
        shown,
        [
            (Some(&b"n.txt"[..]), &b"hello"[..], FileState::Closed),
            (Some(b"q.html"), b"a=b\r\nc", FileState::Closed),
            (Some(b"in.exe"), b".MZ", FileState::Closed),
        ]
    );
    assert_eq!(transaction.files[0].digests.md5.as_deref(), Some("5d41402abc4b2a76b9719d911017c592"));
    let log = serde_json::to_string(&transaction.log).unwrap();
    assert_eq!(log, r#"{"helo":"there","mail_from":"<a@b>","rcpt_to":["<c@d>","<e@f>"]}"#);
    let email = &transaction.log_beside["email"];
    assert_eq!(email["status"], "PARSE_DONE");
    assert_eq!(email["from"], "\"A, B\" <a@b>");
    assert_eq!(email["to"], serde_json::json!(["c@d", "e@f"]));
    assert_eq!(email["subject"], "long line");
    assert_eq!(email["attachment"], serde_json::json!(["n.txt", "q.html", "in.exe"]));
    assert_eq!(email["url"], serde_json::json!(["evil.example/a?b=c"]));
}

#[test]
fn holds_up() {
    hold_up(|| new(&Limits::default()), MAIL);
}

#[test]
fn chunks_are_counted_not_searched() {
    let talk: &[(Direction, &[u8])] = &[
        (ToServer, b"MAIL FROM:<a@b>\r\nBDAT 7\r\nS: x\r\n\rBDAT 12 LAST\r\n\nhello\r\n.\r\nxRSET\r\n"),
        (ToClient, b"250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n"),
    ];
    let mut parser = run(talk);
    assert_eq!(parser.transactions().len(), 1, "{}", describe(&parser.transactions()[0]));
    assert!(parser.transactions()[0].complete());
    assert_eq!(parser.transactions()[0].events.as_slice(), []);
    hold_up(|| new(&Limits::default()), talk);
}

#[test]
fn refused_data_goes_back_to_commands() {
    let mut parser = run(&[
        (ToServer, b"MAIL FROM:<a@b>\r\nDATA\r\n"),
        (ToClient, b"220 hi\r\n250 ok\r\n503 no recipients\r\n"),
        (ToServer, b"RCPT TO:<c@d>\r\n"),
        (ToClient, b"bad\r\n"),
    ]);
    let transaction = &parser.transactions()[0];
    assert_eq!(transaction.log["rcpt_to"][0], "<c@d>");
    assert_eq!(
        transaction.events.as_slice(),
        [(ToClient, "smtp.data_command_rejected"), (ToClient, "smtp.invalid_reply")]
    );
}

#[test]
fn starttls_hands_over_once() {
    let mut parser = run(&[(ToClient, b"220 hi\r\n"), (ToServer, b"STARTTLS\r\n"), (ToClient, b"220 go\r\n")]);
    assert!(matches!(parser.hand_over(), Some(HandOver::To(Protocol::Tls))));
    assert!(parser.hand_over().is_none());
}

#[test]
fn a_message_cut_short_is_truncated() {
    let mut parser = run(&[(ToServer, b"DATA\r\nContent-Disposition: attachment; filename=a\r\n\r\nabc\r\nde")]);
    parser.close(ToServer);
    let File { data, state, .. } = &parser.transactions()[0].files[0];
    assert_eq!((data.as_slice(), *state), (&b"abc\r\nde"[..], FileState::Truncated));
}

#[test]
fn overlong_lines_cost_no_memory() {
    let mut parser = new(&Limits::default());
    for _ in 0..1000 {
        parser.parse(ToServer, &[b'A'; 10_000]).unwrap();
        parser.parse(ToClient, &[b'2'; 10_000]).unwrap();
    }
    assert_eq!(parser.transactions().len(), 1);
    assert!(parser.transactions()[0].events.contains(&(ToServer, "smtp.max_command_line_len_exceeded")));
}
