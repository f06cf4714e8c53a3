//! Base64, read as strictly or as loosely as a rule asks.

use crate::rules::transform::{Base64Mode, OUTPUT_LEN};

/// The value of a character (RFC 4648, table 1).
fn value(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

/// Decodes what can be decoded; empty if nothing can, or if a strict reader refuses the whole.
#[must_use]
pub fn decode(text: &[u8], mode: Base64Mode) -> Vec<u8> {
    let text = text.get(..OUTPUT_LEN).unwrap_or(text);
    let mut decoded = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut count, mut padding) = (0_u32, 0_u32, 0_usize);
    for &byte in text {
        match value(byte) {
            Some(_) if padding > 0 => match mode {
                Base64Mode::Strict => return Vec::new(),
                _ => break,
            },
            Some(value) => {
                bits = bits << 6 | u32::from(value);
                count += 1;
                if count == 4 {
                    decoded.extend_from_slice(&bits.to_be_bytes()[1..]);
                    (bits, count) = (0, 0);
                }
            }
            None if byte == b'=' && count >= 2 => padding += 1,
            None => match mode {
                Base64Mode::Rfc2045 => {}
                Base64Mode::Rfc4648 => break,
                Base64Mode::Strict => return Vec::new(),
            },
        }
    }
    if mode == Base64Mode::Strict && (count == 1 || (count > 0 && count as usize + padding != 4)) {
        return Vec::new();
    }
    // Two or three characters of a group make one or two bytes.
    if count >= 2 {
        let bytes = (bits << (6 * (4 - count))).to_be_bytes();
        decoded.extend_from_slice(&bytes[1..count as usize]);
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_differ() {
        assert_eq!(decode(b"Zm9vYmFy", Base64Mode::Strict), b"foobar");
        assert_eq!(decode(b"Zm 9v Ym Fy", Base64Mode::Rfc2045), b"foobar");
        assert_eq!(decode(b"Zm9v Ym Fy", Base64Mode::Rfc4648), b"foo");
        assert_eq!(decode(b"Zm9v Ym Fy", Base64Mode::Strict), b"");
        assert_eq!(decode(b"Zm8=", Base64Mode::Strict), b"fo");
        assert_eq!(decode(b"Zg", Base64Mode::Rfc4648), b"f");
    }
}
