//! Frames out of the stream (RFC 9113 §4.1).

/// How much of a frame is kept that is not a body's; by default peers send no more than 16 KiB.
const MAX_KEPT_LEN: usize = 65_536;
const HEADER_LEN: usize = 9;

/// Types.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Flags.
pub const END_STREAM: u8 = 0x1;
pub const ACK: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
pub const WITH_PRIORITY: u8 = 0x20;

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Header {
    pub len: usize,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

/// What came.
#[derive(Debug)]
pub enum Step<'a> {
    /// Nothing that is whole.
    More,
    /// A frame, its padding left on.
    Frame(Header, &'a [u8]),
    /// Bytes of a body; whether they are the last of their frame.
    Body(Header, &'a [u8], bool),
}

/// One direction's state.
#[derive(Debug, Default)]
pub struct Frames {
    kept: Vec<u8>,
    header: Option<Header>,
    taken: bool,
    /// What is left of a body in its frame, and of padding or of what is not kept behind.
    body: Option<usize>,
    skip: usize,
}

impl Frames {
    /// Takes bytes off the front of `data`; an empty `data` can still give a frame without payload.
    pub fn next_step<'s, 'd: 's>(&'s mut self, data: &mut &'d [u8]) -> Step<'s> {
        if std::mem::take(&mut self.taken) {
            self.kept.clear();
            self.header = None;
        }
        if let (Some(header), Some(left)) = (self.header, self.body) {
            let (piece, rest) = data.split_at(left.min(data.len()));
            *data = rest;
            let left = left - piece.len();
            self.body = (left > 0).then_some(left);
            self.taken = left == 0;
            return Step::Body(header, piece, left == 0);
        }
        if self.skip > 0 {
            let skipped = self.skip.min(data.len());
            self.skip -= skipped;
            *data = data.get(skipped..).unwrap_or_default();
            return Step::More;
        }
        self.fill(HEADER_LEN, data);
        let &[a, b, c, kind, flags, s0, s1, s2, s3, ..] = self.kept.as_slice() else { return Step::More };
        let len = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
        let header = Header { len, kind, flags, stream };
        if kind == DATA {
            return self.begin_body(header, data);
        }
        let wanted = len.min(MAX_KEPT_LEN);
        self.fill(HEADER_LEN + wanted, data);
        if self.kept.len() < HEADER_LEN + wanted {
            return Step::More;
        }
        self.taken = true;
        self.skip = len - wanted;
        Step::Frame(header, self.kept.get(HEADER_LEN..).unwrap_or_default())
    }

    fn begin_body<'s>(&'s mut self, header: Header, data: &mut &[u8]) -> Step<'s> {
        let mut padding = 0;
        let mut left = header.len;
        if header.flags & PADDED != 0 && left > 0 {
            self.fill(HEADER_LEN + 1, data);
            let Some(&len) = self.kept.get(HEADER_LEN) else { return Step::More };
            left -= 1;
            padding = usize::from(len).min(left);
        }
        self.skip = padding;
        self.header = Some(header);
        left -= padding;
        if left == 0 {
            self.taken = true;
            return Step::Body(header, &[], true);
        }
        self.body = Some(left);
        Step::More
    }

    fn fill(&mut self, len: usize, data: &mut &[u8]) {
        let (piece, rest) = data.split_at(len.saturating_sub(self.kept.len()).min(data.len()));
        self.kept.extend_from_slice(piece);
        *data = rest;
    }

    /// Bytes are missing: the stream of the body they belong to, or `None` if frames are lost.
    pub fn gap(&mut self, len: usize) -> Option<u32> {
        let (header, left) = (self.header?, self.body?);
        let left = left.checked_sub(len).filter(|left| *left > 0)?;
        self.body = Some(left);
        Some(header.stream)
    }
}

/// What lies between the padding's length and the padding.
#[must_use]
pub fn unpadded(header: Header, payload: &[u8]) -> Option<&[u8]> {
    if header.flags & PADDED == 0 {
        return Some(payload);
    }
    let (&padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(padding))?)
}
