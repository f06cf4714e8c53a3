//! Messages out of the stream: `NetBIOS` session service (RFC 1002 §4.3), and the same header over TCP alone.

use crate::app::Fatal;

/// A message up to this length is kept until it is whole.
const MAX_WHOLE_LEN: usize = 64 * 1024;
/// Of a longer one, this much is looked at; the rest, which only reads and writes have, is passed on as it comes.
const BEGINNING_LEN: usize = 1024;
const HEADER_LEN: usize = 4;

/// The state of one direction.
#[derive(Debug, Default)]
pub struct Frames {
    kept: Vec<u8>,
    taken: bool,
    /// How many bytes of a long message are still to come.
    left: usize,
    lost: bool,
}

/// What came.
#[derive(Debug)]
pub enum Step<'a> {
    /// Nothing that is whole.
    More,
    /// A message or its beginning, and how long it is altogether.
    Message(&'a [u8], usize),
    /// More of a long message.
    Rest(&'a [u8]),
}

impl Frames {
    /// Takes bytes off the front of `data`.
    ///
    /// # Errors
    /// [`Fatal`]: this is no message's header.
    pub fn next_step<'s, 'd: 's>(&'s mut self, data: &mut &'d [u8]) -> Result<Step<'s>, Fatal> {
        if std::mem::take(&mut self.taken) {
            self.kept.clear();
        }
        if self.left > 0 {
            let (rest, after) = data.split_at(self.left.min(data.len()));
            self.left -= rest.len();
            *data = after;
            return Ok(Step::Rest(rest));
        }
        if self.lost {
            *data = data.get(found(data)..).unwrap_or_default();
            self.lost = data.is_empty();
            if self.lost {
                return Ok(Step::More);
            }
        }
        self.fill(HEADER_LEN, data);
        let &[kind, a, b, c, ..] = self.kept.as_slice() else { return Ok(Step::More) };
        let total = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        if !matches!(kind, 0 | 0x81..=0x85) {
            return Err(Fatal("no NetBIOS session".into()));
        }
        if kind != 0 {
            self.kept.clear();
            self.left = total;
            return Ok(Step::More);
        }
        let wanted = if total > MAX_WHOLE_LEN { BEGINNING_LEN } else { total };
        self.fill(HEADER_LEN + wanted, data);
        if self.kept.len() < HEADER_LEN + wanted {
            return Ok(Step::More);
        }
        self.taken = true;
        self.left = total - wanted;
        Ok(Step::Message(self.kept.get(HEADER_LEN..).unwrap_or_default(), total))
    }

    fn fill(&mut self, len: usize, data: &mut &[u8]) {
        let (piece, rest) = data.split_at(len.saturating_sub(self.kept.len()).min(data.len()));
        self.kept.extend_from_slice(piece);
        *data = rest;
    }

    /// `len` bytes are missing. True if they belong to the rest of a long message; else the next one is searched for.
    pub fn gap(&mut self, len: usize) -> bool {
        if std::mem::take(&mut self.taken) {
            self.kept.clear();
        }
        if len <= self.left {
            self.left -= len;
            return true;
        }
        *self = Self { lost: true, ..Self::default() };
        false
    }
}

/// Where the next message begins.
fn found(data: &[u8]) -> usize {
    memchr::memmem::find_iter(data, b"SMB")
        .filter_map(|at| at.checked_sub(HEADER_LEN + 1))
        .find(|&start| matches!(data.get(start..), Some([0, _, _, _, 0xfc..=0xff, ..])))
        .unwrap_or(data.len())
}

#[cfg(test)]
impl Frames {
    pub(super) fn kept_len(&self) -> usize {
        self.kept.len()
    }
}
