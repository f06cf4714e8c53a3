//! Numbers as they lie in bytes.

use crate::rules::byte::{Encoding, Field};

/// Reads `len` bytes at `start` as `field` says: the number, and where it ends. `None` if there are not so many.
pub fn read(data: &[u8], start: usize, len: usize, field: &Field, dce_little: bool) -> Option<(u64, usize)> {
    let end = start.checked_add(len)?;
    let bytes = data.get(start..end)?;
    let value = match field.encoding {
        Encoding::Digits(_) if bytes.is_empty() => 0,
        Encoding::Digits(base) => digits(bytes, base)?,
        _ if len > 8 => return None,
        Encoding::Little => fold(bytes.iter().rev()),
        Encoding::Dce if dce_little => fold(bytes.iter().rev()),
        Encoding::Big | Encoding::Dce => fold(bytes.iter()),
    };
    let value = match field.mask {
        Some(mask) => (value & mask) >> mask.trailing_zeros(),
        None => value,
    };
    Some((value, end))
}

fn fold<'a>(bytes: impl Iterator<Item = &'a u8>) -> u64 {
    bytes.fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// Digits up to the first byte that is none, blanks before them left out. Base 0: as they begin (`0x`, `0`).
fn digits(bytes: &[u8], base: u32) -> Option<u64> {
    let mut rest = bytes.trim_ascii_start();
    let mut base = base;
    if matches!(base, 0 | 16)
        && let [b'0', b'x' | b'X', digit, ..] = rest
        && digit.is_ascii_hexdigit()
    {
        rest = rest.get(2..)?;
        base = 16;
    } else if base == 0 {
        base = if rest.first() == Some(&b'0') { 8 } else { 10 };
    }
    let mut value = 0_u64;
    let mut any = false;
    for &byte in rest {
        let Some(digit) = char::from(byte).to_digit(base) else { break };
        value = value.saturating_mul(u64::from(base)).saturating_add(u64::from(digit));
        any = true;
    }
    any.then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::content::Operand;

    #[test]
    fn numbers_are_read() {
        let mut field = Field {
            len: Operand::Value(2),
            offset: Operand::Value(0),
            relative: false,
            encoding: Encoding::Big,
            mask: None,
        };
        assert_eq!(read(&[1, 2], 0, 2, &field, false), Some((0x102, 2)));
        assert_eq!(read(&[1, 2], 1, 2, &field, false), None);
        assert_eq!(read(&[1, 2], usize::MAX, 2, &field, false), None);
        field.encoding = Encoding::Dce;
        assert_eq!(read(&[1, 2], 0, 2, &field, true), Some((0x201, 2)));
        field.mask = Some(0xff00);
        assert_eq!(read(&[1, 2], 0, 2, &field, true), Some((2, 2)));
        field.mask = None;
        field.encoding = Encoding::Digits(10);
        assert_eq!(read(b" 12x", 0, 4, &field, false), Some((12, 4)));
        assert_eq!(read(b"x", 0, 1, &field, false), None);
    }
}
