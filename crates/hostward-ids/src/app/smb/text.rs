//! Strings of SMB and NTLMSSP.

/// UTF-16 in little endian as text; what is no character is replaced. A last odd byte is left out.
#[must_use]
pub fn utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// A string up to its NUL, and what comes after the NUL. `offset` is where it lies in the message: Unicode is aligned to
/// two bytes there.
#[must_use]
pub fn terminated(bytes: &[u8], offset: usize, unicode: bool) -> (String, &[u8]) {
    if !unicode {
        let len = memchr::memchr(0, bytes).unwrap_or(bytes.len());
        let rest = bytes.get(len + 1..).unwrap_or_default();
        return (String::from_utf8_lossy(bytes.get(..len).unwrap_or_default()).into_owned(), rest);
    }
    let bytes = bytes.get(offset % 2..).unwrap_or_default();
    let units = bytes.chunks_exact(2).take_while(|unit| *unit != [0, 0]).count();
    let (text, rest) = bytes.split_at_checked(2 * units).unwrap_or_default();
    (utf16(text), rest.get(2..).unwrap_or_default())
}

/// As either, without a NUL at the end.
#[must_use]
pub fn whole(bytes: &[u8], unicode: bool) -> String {
    let text = if unicode { utf16(bytes) } else { String::from_utf8_lossy(bytes).into_owned() };
    text.trim_end_matches('\0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_end_at_their_nul() {
        assert_eq!(terminated(b"x\0rest", 0, false), ("x".to_owned(), &b"rest"[..]));
        assert_eq!(terminated(b"?x\0y\0\0\0rest", 1, true), ("xy".to_owned(), &b"rest"[..]));
        assert_eq!(terminated(b"x\0y", 0, true), ("x".to_owned(), &b""[..]));
        assert_eq!(whole(b"a\0b\0\0\0", true), "ab");
    }
}
