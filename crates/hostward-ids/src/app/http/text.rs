//! Small pieces of HTTP's grammar, read as leniently as browsers and servers read it.

/// White space between the parts of a line.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c)
}

/// Without white space at either end.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_space(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_space(*last)
    {
        bytes = rest;
    }
    bytes
}

/// Splits where `matches` is first true; the second part begins with that byte.
pub(super) fn split_where(bytes: &[u8], matches: impl FnMut(&u8) -> bool) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().position(matches).unwrap_or(bytes.len()))
}

/// Skips leading bytes for which `matches` is true.
pub(super) fn skip_while(bytes: &[u8], mut matches: impl FnMut(u8) -> bool) -> &[u8] {
    split_where(bytes, |&byte| !matches(byte)).1
}

/// Whether `needle` (lower case) is in there, in any case, NULs left out: browsers ignore them in header values.
pub(super) fn contains_word(haystack: &[u8], needle: &[u8]) -> bool {
    let lower: Vec<u8> = haystack.iter().filter(|byte| **byte != 0).map(u8::to_ascii_lowercase).collect();
    memchr::memmem::find(&lower, needle).is_some()
}

/// Equality in any case, NULs left out.
pub(super) fn is_word(bytes: &[u8], word: &[u8]) -> bool {
    if bytes.len() <= word.len() {
        return bytes.eq_ignore_ascii_case(word);
    }
    let mut significant = bytes.iter().filter(|byte| **byte != 0);
    word.iter().all(|expected| significant.next().is_some_and(|byte| byte.eq_ignore_ascii_case(expected)))
        && significant.next().is_none()
}

/// The first run of decimal digits, whatever is around it; `None` if there is none or it is too large.
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    let digits = skip_while(value, |byte| !byte.is_ascii_digit());
    let digits = split_where(digits, |byte| !byte.is_ascii_digit()).0;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A parameter of a header's value (RFC 9110 section 5.6.6), unquoted: `filename` of `attachment; filename="x"`.
pub(super) fn parameter(value: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let mut rest = value;
    loop {
        let at = rest.iter().position(|byte| *byte == b';')?;
        rest = skip_while(rest.get(at + 1..)?, is_space);
        let (key, after) = split_where(rest, |byte| matches!(byte, b'=' | b';'));
        if !trim(key).eq_ignore_ascii_case(name) || after.first() != Some(&b'=') {
            continue;
        }
        let text = skip_while(after.get(1..)?, is_space);
        return Some(match text.split_first() {
            Some((b'"', quoted)) => unquote(quoted),
            _ => trim(split_where(text, |byte| *byte == b';').0).to_vec(),
        });
    }
}

/// A quoted string behind its opening quote (RFC 9110 section 5.6.4).
fn unquote(quoted: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut bytes = quoted.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'"' => break,
            b'\\' => match bytes.as_slice().first() {
                Some(b'"' | b'\\') => text.extend(bytes.next()),
                // Windows' paths are not escaped.
                _ => text.push(byte),
            },
            _ => text.push(byte),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters() {
        let value = b"attachment; Filename = \"a\\\"b;c.txt\"; size=3";
        assert_eq!(parameter(value, b"filename").unwrap(), b"a\"b;c.txt");
        assert_eq!(parameter(value, b"size").unwrap(), b"3");
        assert_eq!(parameter(value, b"name"), None);
        assert_eq!(parameter(b"inline", b"name"), None);
    }

    #[test]
    fn words_ignore_case_and_nul() {
        assert!(is_word(b"GZ\0ip", b"gzip"));
        assert!(!is_word(b"gzipx", b"gzip"));
        assert!(contains_word(b"x, CHUN\0KED", b"chunked"));
        assert_eq!(content_length(b" +12a3"), Some(12));
        assert_eq!(content_length(b"99999999999999999999"), None);
    }
}
