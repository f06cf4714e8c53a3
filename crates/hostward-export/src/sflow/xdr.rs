//! XDR (RFC 4506), as far as sFlow needs it: everything is big-endian and takes a multiple of four bytes.

/// Appends XDR items to bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn unsigned(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// An unsigned hyper integer (section 4.5).
    pub fn hyper(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    /// Fixed-length opaque data (section 4.9), padded.
    pub fn fixed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Variable-length opaque data or a string (sections 4.10 and 4.11), of at most `most` bytes.
    pub fn variable(&mut self, bytes: &[u8], most: usize) {
        let bytes = bytes.get(..most).unwrap_or(bytes);
        self.unsigned(u32::try_from(bytes.len()).unwrap_or(0));
        self.fixed(bytes);
    }

    /// A structure with its format and length before it: how sFlow holds samples and records.
    pub fn structure(&mut self, format: u32, body: &Self) {
        self.unsigned(format);
        self.variable(&body.bytes, usize::MAX);
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// At most `most` bytes of a text, cut between characters.
pub(super) fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_a_multiple_of_four_bytes() {
        let mut inner = Writer::default();
        inner.variable(b"abcde", 64);
        let mut outer = Writer::default();
        outer.structure(7, &inner);
        outer.hyper(1);
        let expected: &[u8] =
            &[0, 0, 0, 7, 0, 0, 0, 12, 0, 0, 0, 5, 97, 98, 99, 100, 101, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        assert_eq!(outer.into_bytes(), expected);
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("größe", 3), "gr");
        assert_eq!(cut("größe", 4), "grö");
        assert_eq!(cut("abc", 64), "abc");
    }
}
