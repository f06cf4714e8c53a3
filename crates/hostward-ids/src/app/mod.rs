//! Application protocols: recognised on any port, parsed into transactions.
//!
//! A [`Parser`] is fed one flow's payload in order and makes [`Transaction`]s. What signatures look at lies in a
//! transaction under the names of [`buffer::Buffer`] and [`buffer::Integer`]; what is logged lies in `log`. So the
//! matcher and the output know no protocol, and a protocol knows no signature.

pub mod buffer;
pub mod cursor;
pub mod dcerpc;
pub mod dns;
pub mod file_writer;
pub mod ftp;
pub mod http;
pub mod http2;
pub mod lines;
pub mod logged;
pub mod queue;
pub mod recognise;
pub mod smb;
pub mod smtp;
pub mod ssh;
#[cfg(test)]
mod testing;
pub mod tls;

use std::borrow::Cow;
use std::collections::VecDeque;

use serde_json::{Map, Value};
use smallvec::SmallVec;

use crate::detect::TransactionState;
use crate::{Direction, EventName};
use buffer::{Buffer, Integer};

/// A protocol, as rules and EVE name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Protocol {
    Http1,
    Http2,
    /// DNS over HTTP/2 (RFC 8484): both at once.
    Doh2,
    Dns,
    Tls,
    Smtp,
    Ftp,
    FtpData,
    Ssh,
    Dcerpc,
    Smb,
}

/// How far one direction of a transaction has come. A buffer is complete once the stage it belongs to is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Nothing was read yet.
    Started,
    /// HTTP: the request or status line.
    Line,
    /// HTTP: the headers; TLS: the hello; SMTP: the envelope.
    Headers,
    /// The body is being read.
    Body,
    /// Done; nothing will be added.
    Complete,
}

/// One request with its response, or what the protocol has in their place.
#[derive(Debug)]
pub struct Transaction {
    /// Its number within the flow, from 0.
    pub id: u64,
    /// How far each direction (indexed by [`Direction`]) has come.
    pub progress: [Stage; 2],
    /// Which directions this transaction has: a DNS answer alone has only one.
    pub directions: [bool; 2],
    /// What signatures can look at, in the order it was read. A buffer may be there several times (DNS questions).
    pub buffers: Vec<Content>,
    /// Numbers that signatures can look at; likewise several.
    pub integers: SmallVec<[(Integer, u64); 4]>,
    /// Numbers that only one direction has; signatures compare those of theirs.
    pub directed_integers: Vec<(Direction, Integer, u64)>,
    /// What was odd about it, with the direction it was seen in.
    pub events: SmallVec<[(Direction, EventName); 2]>,
    /// Files that it carried.
    pub files: SmallVec<[File; 1]>,
    /// What EVE shows of it, under the protocol's name; complete once both directions are.
    pub log: Map<String, Value>,
    /// Further top-level objects of EVE that belong to it, as `email` for SMTP.
    pub log_beside: Map<String, Value>,
    /// Whether its own event (`http`, `dns`, `tls`) has been written.
    pub logged: bool,
    /// Which directions signatures have seen in full; kept by the engine.
    pub inspected: [bool; 2],
    /// By which packet's bytes each direction came as far as it is, and how far that is; kept by the engine.
    pub moved: [(u64, Stage); 2],
    /// What the matcher remembers of it.
    pub detect: TransactionState,
}

/// One buffer's bytes.
#[derive(Debug)]
pub struct Content {
    /// Which one.
    pub buffer: Buffer,
    /// In which direction it was read.
    pub direction: Direction,
    /// Its bytes; those of a body hold what is inspected, at most the parser's limit.
    pub data: Vec<u8>,
    /// Whether nothing will be appended.
    pub complete: bool,
}

/// A file that a transaction carried.
#[derive(Debug, Default)]
pub struct File {
    /// As the protocol named it, if it did.
    pub name: Option<Vec<u8>>,
    /// In which direction it went; `None` only before the parser says.
    pub direction: Option<Direction>,
    /// Its first bytes, up to the parser's inspection limit, decoded (transfer and content coding undone).
    pub data: Vec<u8>,
    /// All of its bytes, kept or not.
    pub size: u64,
    /// How it ended.
    pub state: FileState,
    /// Whether bytes are missing inside.
    pub gaps: bool,
    /// Running digests, kept only where a rule asks for them: MD5, SHA-1, SHA-256 in hex once closed.
    pub digests: FileDigests,
}

/// A file's digests, in lower-case hex.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct FileDigests {
    pub md5: Option<String>,
    pub sha1: Option<String>,
    pub sha256: Option<String>,
}

/// How a file ended, as EVE names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum FileState {
    #[default]
    Open,
    Closed,
    Truncated,
    Error,
}

/// What the caller wants of parsers; one for the whole engine.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How many bytes of a body, decoded, signatures can see.
    pub body_inspect_len: usize,
    /// How many bytes decompression may make of one body.
    pub decompressed_len: usize,
    /// How many codings may lie on each other.
    pub decompression_layers: u32,
    /// How many transactions of one flow may be open.
    pub transactions: usize,
    /// Whether digests of files are computed.
    pub file_digests: bool,
    /// Whether messages are kept as they were sent, for rules that look at frames.
    pub frames: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_inspect_len: 100_000,
            decompressed_len: 10_000_000,
            decompression_layers: 3,
            transactions: 256,
            file_digests: false,
            frames: false,
        }
    }
}

/// Why a parser gives up on a flow.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Fatal(pub Cow<'static, str>);

/// One flow's application protocol.
pub trait Parser: Send {
    /// Which one.
    fn protocol(&self) -> Protocol;

    /// Takes the next bytes of a stream, in order, or one datagram.
    ///
    /// # Errors
    /// [`Fatal`]: this flow cannot be followed any further; what was parsed stays.
    fn parse(&mut self, direction: Direction, data: &[u8]) -> Result<(), Fatal>;

    /// Says that `len` bytes are missing here.
    ///
    /// # Errors
    /// [`Fatal`]: the protocol cannot be followed over a gap.
    fn gap(&mut self, direction: Direction, len: usize) -> Result<(), Fatal> {
        let _ = (direction, len);
        Err(Fatal("bytes are missing".into()))
    }

    /// Says that no more bytes come in this direction: what is open is closed as it is.
    fn close(&mut self, direction: Direction);

    /// Open transactions, oldest first. The engine removes one that is complete, inspected and logged.
    fn transactions(&mut self) -> &mut VecDeque<Transaction>;

    /// What was odd about the flow rather than about a transaction; taken away by the engine each time.
    fn take_events(&mut self) -> SmallVec<[(Direction, EventName); 2]> {
        SmallVec::new()
    }

    /// Another protocol that goes on from here (STARTTLS, CONNECT, upgrade to HTTP/2), and whose bytes come next.
    fn hand_over(&mut self) -> Option<HandOver> {
        None
    }

    /// Bytes of the last [`Self::parse`] that lie behind the hand-over, for the parser that goes on; taken away by it.
    fn take_rest(&mut self) -> Vec<u8> {
        Vec::new()
    }

    /// A flow that this one announced (FTP's data connection): its server port, and what it will carry.
    fn expected(&mut self) -> Option<Expected> {
        None
    }

    /// Whether nothing more can be learnt (TLS after its handshake): the datapath may bypass the flow.
    fn finished(&self) -> bool {
        false
    }
}

/// See [`Parser::hand_over`].
#[derive(Debug)]
pub enum HandOver {
    /// To be recognised anew, as if the flow began here.
    Recognise,
    /// To this one.
    To(Protocol),
    /// To HTTP/2, which answers this request.
    Http2(Box<http2::Upgrade>),
}

/// See [`Parser::expected`].
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Expected {
    pub address: Option<std::net::IpAddr>,
    pub port: u16,
    pub protocol: Protocol,
    pub direction: Direction,
    pub file_name: Option<Vec<u8>>,
    pub command: Vec<u8>,
}

impl Transaction {
    /// An empty one.
    #[must_use]
    pub fn new(id: u64) -> Self {
        Self {
            id,
            progress: [Stage::Started; 2],
            directions: [true; 2],
            buffers: Vec::new(),
            integers: SmallVec::new(),
            directed_integers: Vec::new(),
            events: SmallVec::new(),
            files: SmallVec::new(),
            log: Map::new(),
            log_beside: Map::new(),
            logged: false,
            inspected: [false; 2],
            moved: [(0, Stage::Started); 2],
            detect: TransactionState::default(),
        }
    }

    /// Adds a complete buffer.
    pub fn put(&mut self, direction: Direction, buffer: Buffer, data: impl Into<Vec<u8>>) {
        self.buffers.push(Content { buffer, direction, data: data.into(), complete: true });
    }

    /// Whether every direction it has is complete.
    #[must_use]
    pub fn complete(&self) -> bool {
        (0..2).all(|way| !self.directions[way] || self.progress[way] == Stage::Complete)
    }
}

/// A parser for one flow of a protocol; `transport` is the IP protocol, as for
/// [`recognise::recognise`].
#[must_use]
pub fn parser_for(protocol: Protocol, transport: u8, limits: &Limits) -> Box<dyn Parser> {
    match protocol {
        Protocol::Tls => Box::new(tls::new(limits)),
        Protocol::Http1 => Box::new(http::new(limits)),
        Protocol::Dns if transport == recognise::UDP => Box::new(dns::over_datagrams(limits)),
        Protocol::Dns => Box::new(dns::over_stream(limits)),
        Protocol::Dcerpc if transport == recognise::UDP => Box::new(dcerpc::over_datagrams(limits)),
        Protocol::Dcerpc => Box::new(dcerpc::over_stream(limits)),
        Protocol::Ftp => Box::new(ftp::new(limits)),
        Protocol::FtpData => Box::new(ftp::data::new(limits, None)),
        Protocol::Smb => Box::new(smb::new(limits)),
        Protocol::Ssh => Box::new(ssh::new(limits)),
        Protocol::Http2 | Protocol::Doh2 => Box::new(http2::new(limits)),
        Protocol::Smtp => Box::new(smtp::new(limits)),
    }
}
