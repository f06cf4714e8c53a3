//! Protocols that begin with a line of text.

use super::{Recognition, beginning};
use crate::Direction::{self, ToClient, ToServer};
use crate::app::Protocol;

/// Methods of RFC 9110, `WebDAV` and what else servers are known to answer to.
const HTTP_METHODS: &[&[u8]] = &[
    b"GET",
    b"PUT",
    b"POST",
    b"HEAD",
    b"TRACE",
    b"OPTIONS",
    b"CONNECT",
    b"DELETE",
    b"PATCH",
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
    b"CHECKOUT",
    b"UNCHECKOUT",
    b"CHECKIN",
    b"UPDATE",
    b"LABEL",
    b"REPORT",
    b"MKWORKSPACE",
    b"MKACTIVITY",
    b"BASELINE-CONTROL",
    b"MERGE",
    b"INVALID",
    b"VERSION-CONTROL",
    b"ORDERPATCH",
    b"ACL",
    b"SEARCH",
    b"NOTIFY",
    b"SUBSCRIBE",
    b"UNSUBSCRIBE",
    b"POLL",
    b"BMOVE",
    b"BCOPY",
    b"BDELETE",
    b"BPROPFIND",
    b"BPROPPATCH",
    b"X-MS-ENUMATTS",
    b"RPC_IN_DATA",
    b"RPC_OUT_DATA",
    b"M-SEARCH",
];

/// No method that is worth believing is longer.
const METHOD_LIMIT: usize = 32;

/// HTTP/1: a request line or a status line, also behind a few empty lines (RFC 9112 section 2.2).
pub(super) fn http1(direction: Direction, data: &[u8], _: u16) -> Recognition {
    let blank = data.iter().take_while(|byte| matches!(byte, b'\r' | b'\n' | b' ' | b'\t')).count();
    let line = data.get(blank..).unwrap_or_default();
    if line.is_empty() {
        return Recognition::More;
    }
    match direction {
        ToClient => {
            let head: Vec<u8> = line.iter().take(5).map(u8::to_ascii_uppercase).collect();
            beginning(&head, b"HTTP/", Protocol::Http1)
        }
        ToServer => request_line(line),
    }
}

fn request_line(line: &[u8]) -> Recognition {
    let method_len = line.iter().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')).count();
    let Some(&after) = line.get(method_len) else {
        return if method_len <= METHOD_LIMIT { Recognition::More } else { Recognition::Unknown };
    };
    if method_len == 0 || method_len > METHOD_LIMIT || !matches!(after, b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c) {
        return Recognition::Unknown;
    }
    let method = line.get(..method_len).unwrap_or_default();
    if matches!(after, b' ' | b'\t') && HTTP_METHODS.contains(&method) {
        if method == b"OPTIONS" || method == b"NOTIFY" || method == b"SUBSCRIBE" || method == b"UPDATE" {
            return if contains(line, b" sip:") { Recognition::Unknown } else { Recognition::Found(Protocol::Http1) };
        }
        return Recognition::Found(Protocol::Http1);
    }
    // An unknown method is believed where the line says HTTP itself.
    match memchr::memchr(b'\n', line) {
        Some(end) if contains(line.get(..end).unwrap_or_default(), b" HTTP/1.") => Recognition::Found(Protocol::Http1),
        Some(_) => Recognition::Unknown,
        None => Recognition::More,
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(haystack, needle).is_some()
}

/// HTTP/2 with prior knowledge: the connection preface (RFC 9113 section 3.4).
pub(super) fn http2(direction: Direction, data: &[u8], _: u16) -> Recognition {
    match direction {
        ToServer => beginning(data, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Protocol::Http2),
        ToClient => Recognition::Unknown,
    }
}

/// SSH: the identification string (RFC 4253 section 4.2).
pub(super) fn ssh(_: Direction, data: &[u8], _: u16) -> Recognition {
    beginning(data, b"SSH-", Protocol::Ssh)
}

/// SMTP: a client's first command, or a greeting that names it or comes from its port (RFC 5321 section 4.2).
pub(super) fn smtp(direction: Direction, data: &[u8], server_port: u16) -> Recognition {
    let by_port = [25, 465, 587, 2525].contains(&server_port);
    match direction {
        ToServer => command(data, &[b"EHLO", b"HELO", b"LHLO"], Protocol::Smtp).or_else_if(by_port, || {
            command(
                data,
                &[b"MAIL", b"RCPT", b"DATA", b"QUIT", b"STARTTLS", b"AUTH", b"RSET", b"NOOP", b"HELP"],
                Protocol::Smtp,
            )
        }),
        ToClient => greeting(data, by_port, &[b"SMTP", b"smtp", b"mail"], Protocol::Smtp),
    }
}

/// FTP: likewise (RFC 959 section 4).
pub(super) fn ftp(direction: Direction, data: &[u8], server_port: u16) -> Recognition {
    let by_port = server_port == 21;
    // POP3 and IRC log in with USER too.
    let others = [110, 995].contains(&server_port) || (6660..=7000).contains(&server_port);
    match direction {
        ToServer if others => Recognition::Unknown,
        ToServer => command(data, &[b"USER"], Protocol::Ftp).or_else_if(by_port, || {
            command(
                data,
                &[b"AUTH", b"FEAT", b"SYST", b"PASS", b"QUIT", b"OPTS", b"PORT", b"PASV", b"EPSV", b"EPRT"],
                Protocol::Ftp,
            )
        }),
        ToClient => greeting(data, by_port, &[b"FTP", b"ftp", b"FileZilla"], Protocol::Ftp),
    }
}

impl Recognition {
    fn or_else_if(self, condition: bool, other: impl FnOnce() -> Self) -> Self {
        if self == Self::Unknown && condition { other() } else { self }
    }
}

/// A four-letter (or longer) command, in any case, that ends with a blank or the line.
fn command(data: &[u8], words: &[&[u8]], protocol: Protocol) -> Recognition {
    let len = data.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let word = data.get(..len).unwrap_or_default();
    let known = |head: &[u8]| head.eq_ignore_ascii_case(word);
    let found = match data.get(len) {
        Some(b' ' | b'\r' | b'\n') => words.iter().any(|full| known(full)),
        None if words.iter().any(|full| full.get(..len).is_some_and(known)) => return Recognition::More,
        _ => false,
    };
    if found { Recognition::Found(protocol) } else { Recognition::Unknown }
}

/// A first reply, `220 text` or `220-text`; other codes refuse service (`421`, `554`) and count by port alone.
fn greeting(data: &[u8], by_port: bool, names: &[&[u8]], protocol: Protocol) -> Recognition {
    let code = data.iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
    if code < data.len().min(3) {
        return Recognition::Unknown;
    }
    let Some(&after) = data.get(3) else { return Recognition::More };
    if !matches!(after, b' ' | b'-' | b'\r' | b'\n') {
        return Recognition::Unknown;
    }
    if by_port {
        return Recognition::Found(protocol);
    }
    if !data.starts_with(b"220") {
        return Recognition::Unknown;
    }
    let (line, complete) = match memchr::memchr(b'\n', data) {
        Some(end) => (data.get(..end).unwrap_or_default(), true),
        None => (data, false),
    };
    if complete && names.iter().any(|name| contains(line, name)) {
        Recognition::Found(protocol)
    } else if complete {
        Recognition::Unknown
    } else {
        Recognition::More
    }
}
