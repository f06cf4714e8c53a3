//! Gzip's header.

/// These bytes are no gzip.
#[derive(Debug)]
pub(super) struct Broken;

/// Gzip's header (RFC 1952 section 2.3), read byte by byte; checksums are not looked at, neither do browsers.
#[derive(Debug, Default)]
pub(super) struct Header {
    flags: u8,
    /// How many bytes of it were read.
    len: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Start,
    /// So many bytes of the fixed part were read.
    Fixed(u8),
    ExtraLength(u16, u8),
    Extra(u16),
    Name,
    Comment,
    Checksum(u8),
    Data,
}

impl Header {
    /// Whether all of it was read.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Data
    }

    /// How many bytes of it were read.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What follows the header, once it was all there.
    pub(super) fn skip<'a>(&mut self, mut data: &'a [u8]) -> Result<Option<&'a [u8]>, Broken> {
        loop {
            self.settle();
            if self.state == State::Data {
                return Ok(Some(data));
            }
            let Some((&byte, rest)) = data.split_first() else { return Ok(None) };
            data = rest;
            self.len += 1;
            self.state = match self.state {
                State::Start if byte == 0x1f => State::Fixed(1),
                State::Fixed(1) if byte == 0x8b => State::Fixed(2),
                State::Fixed(2) if byte == 8 => State::Fixed(3),
                State::Start | State::Fixed(1 | 2) => return Err(Broken),
                State::Fixed(at) => {
                    if at == 3 {
                        self.flags = byte;
                    }
                    State::Fixed(at + 1)
                }
                State::ExtraLength(_, 0) => State::ExtraLength(u16::from(byte), 1),
                State::ExtraLength(low, _) => State::Extra(low | u16::from(byte) << 8),
                State::Extra(left) => State::Extra(left.saturating_sub(1)),
                State::Name if byte == 0 => State::Comment,
                State::Comment if byte == 0 => State::Checksum(0),
                State::Checksum(at) => State::Checksum(at + 1),
                other => other,
            };
        }
    }

    /// Leaves out the parts that the flags say are not there.
    fn settle(&mut self) {
        const CHECKSUM: u8 = 1 << 1;
        const EXTRA: u8 = 1 << 2;
        const NAME: u8 = 1 << 3;
        const COMMENT: u8 = 1 << 4;
        if self.state == State::Fixed(10) {
            self.state = if self.flags & EXTRA == 0 { State::Extra(0) } else { State::ExtraLength(0, 0) };
        }
        if self.state == State::Extra(0) {
            self.state = State::Name;
            if self.flags & NAME == 0 {
                self.state = State::Comment;
            }
        }
        if self.state == State::Comment && self.flags & COMMENT == 0 {
            self.state = State::Checksum(0);
        }
        if matches!(self.state, State::Checksum(at) if at >= 2 || self.flags & CHECKSUM == 0) {
            self.state = State::Data;
        }
    }
}
