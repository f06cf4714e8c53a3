//! Content transfer codings of MIME bodies (RFC 2045 §6) and uuencode, a line at a time.

/// How a body is coded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Coding {
    #[default]
    Identity,
    Base64,
    QuotedPrintable,
    Uuencode,
}

impl Coding {
    /// By the value of Content-Transfer-Encoding.
    #[must_use]
    pub fn named(value: &[u8]) -> Self {
        let is = |name: &str| value.eq_ignore_ascii_case(name.as_bytes());
        if is("base64") {
            Self::Base64
        } else if is("quoted-printable") {
            Self::QuotedPrintable
        } else if is("uuencode") || is("x-uuencode") || is("x-uue") || is("uue") {
            Self::Uuencode
        } else {
            Self::Identity
        }
    }
}

/// Base64 of any line lengths; characters outside the alphabet are skipped, as RFC 2045 says.
#[derive(Debug, Default)]
pub struct Base64 {
    bits: u32,
    digits: u8,
}

impl Base64 {
    /// Decodes more; false if there were characters that do not belong there.
    pub fn decode(&mut self, text: &[u8], out: &mut Vec<u8>) -> bool {
        let mut clean = true;
        for &byte in text {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' => {
                    self.flush(out);
                    continue;
                }
                b' ' | b'\t' | b'\r' | b'\n' => continue,
                _ => {
                    clean = false;
                    continue;
                }
            };
            self.bits = (self.bits << 6) | u32::from(value);
            self.digits += 1;
            if self.digits == 4 {
                out.extend_from_slice(&self.bits.to_be_bytes()[1..]);
                *self = Self::default();
            }
        }
        clean
    }

    /// What a group cut short holds: at its padding, or at the end.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        match self.digits {
            2 => out.push((self.bits >> 4) as u8),
            3 => out.extend_from_slice(&((self.bits >> 2) as u16).to_be_bytes()),
            _ => {}
        }
        *self = Self::default();
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

/// One line of quoted-printable (RFC 2045 §6.7): whether the line's end belongs to the body, and whether all was valid.
pub fn quoted_printable(line: &[u8], out: &mut Vec<u8>) -> (bool, bool) {
    let line = line.trim_ascii_end();
    let (line, soft) = line.strip_suffix(b"=").map_or((line, false), |line| (line, true));
    let mut rest = line;
    let mut clean = true;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'=' {
            if let [high, low, after @ ..] = rest
                && let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low))
            {
                out.push(high << 4 | low);
                rest = after;
                continue;
            }
            clean = false;
        }
        out.push(byte);
    }
    (!soft, clean)
}

/// One line of uuencode; false if it is none.
pub fn uuencode(line: &[u8], out: &mut Vec<u8>) -> bool {
    let Some((&count, digits)) = line.split_first() else { return false };
    if !(b' '..=b'`').contains(&count) {
        return false;
    }
    let mut left = usize::from((count - b' ') & 0x3f);
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for at in 0..4 {
            let digit = group.get(at).copied().unwrap_or(b' ');
            bits = bits << 6 | u32::from(digit.wrapping_sub(b' ') & 0x3f);
        }
        let bytes = bits.to_be_bytes();
        let take = left.min(3);
        out.extend_from_slice(&bytes[1..=take]);
        left -= take;
        if left == 0 {
            break;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_over_line_ends_and_padding() {
        let mut out = Vec::new();
        let mut base64 = Base64::default();
        assert!(base64.decode(b"aGVs", &mut out) && base64.decode(b"bG8=", &mut out));
        assert!(!base64.decode(b"!aGk", &mut out));
        base64.flush(&mut out);
        assert_eq!(out, b"hellohi");
    }

    #[test]
    fn quoted_printable_lines() {
        let mut out = Vec::new();
        assert_eq!(quoted_printable(b"a=3Db =", &mut out), (false, true));
        assert_eq!(quoted_printable(b"c=zz  ", &mut out), (true, false));
        assert_eq!(out, b"a=b c=zz");
    }

    #[test]
    fn uuencoded_line() {
        let mut out = Vec::new();
        assert!(uuencode(b"#0V%T", &mut out));
        assert_eq!(out, b"Cat");
    }
}
