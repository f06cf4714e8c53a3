//! Lines out of a stream that comes in pieces of any size, in bounded memory.

/// Cuts a stream at LF. A line longer than the limit comes in several pieces, which lie where they lie whatever the
/// sizes of the input were.
#[derive(Debug)]
pub struct Lines {
    text: Vec<u8>,
    limit: usize,
    inside: bool,
    taken: bool,
}

/// A line without its end, or a piece of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Its bytes.
    pub text: &'a [u8],
    /// Whether it begins a line.
    pub starts: bool,
    /// What ends the line: CRLF or LF; empty if the line goes on.
    pub ending: &'static [u8],
}

impl Piece<'_> {
    /// Whether this is a whole line.
    #[must_use]
    pub fn whole(&self) -> bool {
        self.starts && !self.ending.is_empty()
    }
}

impl Lines {
    /// For lines up to `limit` bytes, their end included.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { text: Vec::new(), limit: limit.max(2), inside: false, taken: false }
    }

    /// Takes bytes off the front of `data` until a line or the limit is full.
    pub fn next_piece(&mut self, data: &mut &[u8]) -> Option<Piece<'_>> {
        if std::mem::take(&mut self.taken) {
            self.text.clear();
        }
        if data.is_empty() {
            return None;
        }
        let room = self.limit.saturating_sub(self.text.len()).max(1);
        let within = data.get(..room).unwrap_or(data);
        let (piece, ended) = match memchr::memchr(b'\n', within) {
            Some(at) => (within.get(..=at).unwrap_or(within), true),
            None => (within, false),
        };
        *data = data.get(piece.len()..).unwrap_or_default();
        self.text.extend_from_slice(piece);
        if !ended && self.text.len() < self.limit {
            return None;
        }
        self.taken = true;
        let starts = !std::mem::replace(&mut self.inside, !ended);
        let ending: &'static [u8] = match self.text.as_slice() {
            _ if !ended => b"",
            [.., b'\r', b'\n'] => b"\r\n",
            _ => b"\n",
        };
        let text = self.text.get(..self.text.len() - ending.len()).unwrap_or_default();
        Some(Piece { text, starts, ending })
    }

    /// The bytes of an unfinished line, which are taken away: the stream ended.
    pub fn take_rest(&mut self) -> Vec<u8> {
        if std::mem::take(&mut self.taken) {
            self.text.clear();
        }
        self.inside = false;
        std::mem::take(&mut self.text)
    }

    /// Forgets the unfinished line: bytes are missing.
    pub fn reset(&mut self) {
        self.take_rest();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(input: &[u8], step: usize) -> Vec<(Vec<u8>, bool, usize)> {
        let mut lines = Lines::new(8);
        let mut out = Vec::new();
        for mut chunk in input.chunks(step) {
            while !chunk.is_empty() {
                if let Some(piece) = lines.next_piece(&mut chunk) {
                    out.push((piece.text.to_vec(), piece.starts, piece.ending.len()));
                }
            }
        }
        out
    }

    #[test]
    fn pieces_do_not_depend_on_the_input_sizes() {
        let input = b"one\r\ntwo\nthis is longer\n\n\r\n";
        let whole = cut(input, input.len());
        assert_eq!(whole[0], (b"one".to_vec(), true, 2));
        assert_eq!(whole[1], (b"two".to_vec(), true, 1));
        assert_eq!(whole[2], (b"this is ".to_vec(), true, 0));
        assert_eq!(whole[3], (b"longer".to_vec(), false, 1));
        assert_eq!(whole[4], (Vec::new(), true, 1));
        for step in 1..input.len() {
            assert_eq!(cut(input, step), whole);
        }
    }
}
