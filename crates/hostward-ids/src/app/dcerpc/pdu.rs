//! Headers of DCE/RPC (The Open Group C706, chapter 12).

use std::fmt::Write as _;

use crate::app::cursor::Cursor;

/// Length of the header that every connection-oriented PDU has.
pub const HEADER_LEN: usize = 16;

/// What a PDU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Request,
    Response,
    Fault,
    Bind,
    BindAck,
    BindNak,
    AlterContext,
    AlterContextResponse,
    Other(u8),
}

impl Kind {
    /// By its number.
    #[must_use]
    pub fn of(number: u8) -> Self {
        match number {
            0 => Self::Request,
            2 => Self::Response,
            3 => Self::Fault,
            11 => Self::Bind,
            12 => Self::BindAck,
            13 => Self::BindNak,
            14 => Self::AlterContext,
            15 => Self::AlterContextResponse,
            other => Self::Other(other),
        }
    }

    /// As EVE names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "REQUEST",
            Self::Response => "RESPONSE",
            Self::Fault => "FAULT",
            Self::Bind => "BIND",
            Self::BindAck => "BINDACK",
            Self::BindNak => "BINDNAK",
            Self::AlterContext => "ALTER_CONTEXT",
            Self::AlterContextResponse => "ALTER_CONTEXT_RESP",
            Self::Other(_) => "UNKNOWN",
        }
    }
}

/// The header of a connection-oriented PDU.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, clippy::struct_excessive_bools, reason = "these are the header's flags")]
pub struct Header {
    pub minor: u8,
    pub kind: Kind,
    pub first: bool,
    pub last: bool,
    pub has_object: bool,
    pub little: bool,
    pub fragment_len: usize,
    pub auth_len: usize,
    pub call: u32,
}

impl Header {
    /// From the first [`HEADER_LEN`] bytes; `None` if they are no such header.
    #[must_use]
    pub fn read(data: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::big(data);
        let [version, minor, kind, flags] = cursor.array()?;
        let [representation, ..] = cursor.array::<4>()?;
        let little = representation & 0x10 != 0;
        let mut cursor = Cursor::ordered(cursor.rest(), little);
        let (fragment_len, auth_len, call) = (cursor.u16()?, cursor.u16()?, cursor.u32()?);
        let fragment_len = usize::from(fragment_len);
        (version == 5 && minor < 2 && fragment_len >= HEADER_LEN).then_some(Self {
            minor,
            kind: Kind::of(kind),
            first: flags & 1 != 0,
            last: flags & 2 != 0,
            has_object: flags & 0x80 != 0,
            little,
            fragment_len,
            auth_len: usize::from(auth_len),
            call,
        })
    }
}

/// An interface that a client binds to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The number by which requests name it.
    pub context: u16,
    /// In the order it is written in.
    pub uuid: [u8; 16],
    /// Major and minor version.
    pub version: (u16, u16),
    /// The bind that asked for it.
    pub call: u32,
    /// What the server said: 0 is acceptance.
    pub result: Option<u16>,
}

impl Interface {
    /// As EVE shows it.
    #[must_use]
    pub fn logged(&self) -> serde_json::Value {
        let mut log = serde_json::Map::new();
        log.insert("uuid".into(), uuid_text(self.uuid).into());
        log.insert("version".into(), format!("{}.{}", self.version.0, self.version.1).into());
        if let Some(result) = self.result {
            log.insert("ack_result".into(), result.into());
        }
        log.into()
    }
}

/// Puts the bytes of a UUID into the order it is written in.
#[must_use]
pub fn uuid(bytes: [u8; 16], little: bool) -> [u8; 16] {
    let mut uuid = bytes;
    if little {
        uuid[..4].reverse();
        uuid[4..6].reverse();
        uuid[6..8].reverse();
    }
    uuid
}

/// `12345678-1234-abcd-ef00-0123456789ab`.
#[must_use]
pub fn uuid_text(uuid: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in uuid.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The interfaces of a bind or alter-context PDU; its body begins behind the common header.
#[must_use]
pub fn bound(header: &Header, body: &[u8]) -> Vec<Interface> {
    let mut found = Vec::new();
    let mut cursor = Cursor::ordered(body, header.little);
    let mut read = || {
        cursor.take(8)?;
        let count = cursor.u8()?;
        cursor.take(3)?;
        for _ in 0..count {
            let context = cursor.u16()?;
            let syntaxes = cursor.u8()?;
            cursor.take(1)?;
            let uuid = uuid(cursor.array()?, header.little);
            let version = cursor.u32()?;
            let version = (version as u16, (version >> 16) as u16);
            found.push(Interface { context, uuid, version, call: header.call, result: None });
            cursor.take(usize::from(syntaxes) * 20)?;
        }
        Some(())
    };
    let _ = read();
    found
}

/// The results of a bind-ack or alter-context response, in the order of the bind's interfaces.
#[must_use]
pub fn results(header: &Header, body: &[u8]) -> Vec<u16> {
    let mut found = Vec::new();
    let mut cursor = Cursor::ordered(body, header.little);
    let mut read = || {
        cursor.take(8)?;
        let address_len = usize::from(cursor.u16()?);
        cursor.take(address_len)?;
        // The list is aligned to four bytes, counted from the header, which is.
        cursor.take((4 - (10 + address_len) % 4) % 4)?;
        let count = cursor.u8()?;
        cursor.take(3)?;
        for _ in 0..count {
            found.push(cursor.u16()?);
            cursor.take(22)?;
        }
        Some(())
    };
    let _ = read();
    found
}

/// A request's or response's own header, and its stub data without authentication.
#[must_use]
pub fn call_body<'a>(header: &Header, body: &'a [u8]) -> Option<(u16, u16, &'a [u8])> {
    let mut cursor = Cursor::ordered(body, header.little);
    cursor.take(4)?;
    let (context, operation) = (cursor.u16()?, cursor.u16()?);
    if header.has_object && header.kind == Kind::Request {
        cursor.take(16)?;
    }
    let stub = cursor.rest();
    if header.auth_len == 0 {
        return Some((context, operation, stub));
    }
    // The trailer: 8 bytes, the third of which says how many bytes of padding lie before it, then the credentials.
    let Some(trailer) = stub.len().checked_sub(header.auth_len + 8) else { return Some((context, operation, stub)) };
    let padding = usize::from(stub.get(trailer + 2).copied().unwrap_or_default());
    Some((context, operation, stub.get(..trailer.saturating_sub(padding)).unwrap_or_default()))
}
