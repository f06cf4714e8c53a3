//! `content`: bytes to be found, and where.

use super::{Fault, Read, option};

/// Longest content, in bytes.
const CONTENT_LEN: usize = 255 * 16;

/// A number that is written, or that an earlier option of the same rule extracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// Written.
    Value(i64),
    /// Extracted: its number among the rule's variables.
    Variable(u8),
}

/// How a content takes part in choosing the rule's fast pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FastPattern {
    /// Whether it is only looked for by the multi-pattern matcher.
    pub only: bool,
    /// Which part of it: offset and length.
    pub chop: Option<(u16, u16)>,
}

/// One `content` with its modifiers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // Each is a modifier of its own.
pub struct Content {
    /// What is looked for; lower case if `nocase`.
    pub bytes: Box<[u8]>,
    /// Must not be there.
    pub negated: bool,
    /// ASCII letters of either case.
    pub nocase: bool,
    /// Begins at or after this offset.
    pub offset: Option<Operand>,
    /// Ends at or before `offset` plus this.
    pub depth: Option<Operand>,
    /// Begins at or after the end of the last match plus this.
    pub distance: Option<Operand>,
    /// Ends at or before the end of the last match plus `distance` plus this.
    pub within: Option<Operand>,
    /// At the very beginning.
    pub startswith: bool,
    /// At the very end.
    pub endswith: bool,
    /// See [`FastPattern`].
    pub fast_pattern: Option<FastPattern>,
}

impl Content {
    /// Whether it is looked for from where the last match ended.
    #[must_use]
    pub fn relative(&self) -> bool {
        self.distance.is_some() || self.within.is_some()
    }
}

/// Reads the value of `content`.
///
/// # Errors
/// What was expected.
pub fn read(value: &str) -> Read<Content> {
    let (negated, inside) = option::quoted(value)?;
    let bytes = bytes(inside)?;
    Ok(Content { bytes: bytes.into_boxed_slice(), negated, ..Content::default() })
}

/// Reads text with `|41 42|` for bytes and backslashes before `"`, `;`, `:`, `\` and `|`.
///
/// # Errors
/// What was expected.
pub fn bytes(text: &str) -> Read<Vec<u8>> {
    let mut found = Vec::with_capacity(text.len());
    let mut hex: Option<u8> = None;
    let (mut inside, mut escaped) = (false, false);
    for &byte in text.as_bytes() {
        if escaped {
            if !matches!(byte, b'"' | b';' | b':' | b'\\' | b'|') {
                return Err(Fault::new(format!("'\\{}' is no escape", char::from(byte))));
            }
            found.push(byte);
            escaped = false;
        } else if byte == b'|' {
            if hex.is_some() {
                return Err(Fault::new("half a byte between bars"));
            }
            inside = !inside;
        } else if inside {
            match (char::from(byte).to_digit(16), hex) {
                (Some(high), None) => hex = Some(high as u8),
                (Some(low), Some(high)) => {
                    found.push(high << 4 | low as u8);
                    hex = None;
                }
                (None, None) if matches!(byte, b' ' | b',' | b'\t') => {}
                _ => return Err(Fault::new(format!("'{}' between bars", char::from(byte)))),
            }
        } else if byte == b'\\' {
            escaped = true;
        } else {
            found.push(byte);
        }
    }
    if inside || escaped {
        return Err(Fault::new("a bar or an escape is not closed"));
    }
    match found.len() {
        0 => Err(Fault::new("it is empty")),
        1..=CONTENT_LEN => Ok(found),
        _ => Err(Fault::new(format!("more than {CONTENT_LEN} bytes"))),
    }
}

/// Reads the value of `fast_pattern`.
///
/// # Errors
/// What was expected.
pub fn fast_pattern(value: Option<&str>) -> Read<FastPattern> {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return Ok(FastPattern { only: false, chop: None });
    };
    if value == "only" {
        return Ok(FastPattern { only: true, chop: None });
    }
    let (offset, len) = value.split_once(',').ok_or_else(|| Fault::new("expected 'only' or offset,length"))?;
    let (offset, len) = (super::number::narrow(offset)?, super::number::narrow(len)?);
    Ok(FastPattern { only: false, chop: Some((offset, len)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read() {
        assert_eq!(bytes("a|42 4344|d\\|").unwrap(), b"aBCDd|");
        assert!(bytes("|4|").is_err() && bytes("|4 1|").is_err() && bytes("|41").is_err() && bytes("").is_err());
        assert!(bytes("a\\").is_err());
        assert!(read("!\"x\"").unwrap().negated);
    }
}
