//! `pcre`: a regular expression with Perl's modifiers and those that select a buffer.

use std::fmt::Write as _;

use super::{Fault, PATTERN_LEN, Read, option};
use crate::app::buffer::Buffer;

/// Where what a group captured is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capture {
    /// With the packet, under this name.
    Packet(String),
    /// With the flow, under this name.
    Flow(String),
}

/// One `pcre`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The expression as the library reads it: flags and limits in front, bytes that are not ASCII as `\x`.
    pub expression: String,
    /// Must not match.
    pub negated: bool,
    /// Begins where the last match ended.
    pub relative: bool,
    /// What its groups are kept as, the first group first.
    pub captures: Vec<Capture>,
}

/// How much work one look may cost, in the library's units (Suricata's default is 3,500 too).
const MATCH_LIMIT: u32 = 3500;

/// Reads the value of `pcre`, and which buffer it names.
///
/// # Errors
/// What was expected.
pub fn read(value: &str) -> Read<(Pattern, Option<Buffer>)> {
    let value = value.trim();
    let (negated, value) = match value.strip_prefix('!') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, value),
    };
    // Captures may stand behind the closing quote or inside of it.
    let (text, outside) = match value.strip_prefix('"') {
        Some(rest) => {
            let end = rest.rfind('"').ok_or_else(|| Fault::new("the quote is not closed"))?;
            (&rest[..end], &rest[end + 1..])
        }
        None => (value, ""),
    };
    if text.len() > PATTERN_LEN {
        return Err(Fault::new(format!("longer than {PATTERN_LEN} bytes")));
    }
    let body = text.strip_prefix('/').ok_or_else(|| Fault::new("expected '/'"))?;
    let end = body.rfind('/').ok_or_else(|| Fault::new("the second '/' is missing"))?;
    let (body, tail) = (&body[..end], &body[end + 1..]);
    let (flags, inside) = tail.split_once(',').unwrap_or((tail, ""));
    let captures = captures(inside)?.into_iter().chain(captures(outside)?).collect::<Vec<_>>();
    let mut inline = String::new();
    let (mut anchored, mut relative, mut buffer) = (false, false, None);
    for flag in flags.trim().chars() {
        match flag {
            'i' | 's' | 'm' | 'x' => inline.push(flag),
            'A' => anchored = true,
            'G' => inline.push('U'),
            'R' => relative = true,
            'B' | 'O' | 'E' => {}
            other => {
                let named = buffer_of(other).ok_or_else(|| Fault::new(format!("'{other}' is no modifier")))?;
                if buffer.replace(named).is_some_and(|earlier| earlier != named) {
                    return Err(Fault::new("it names two buffers"));
                }
            }
        }
    }
    let (captures, body) = named_captures(body, captures);
    let mut expression = format!("(*LIMIT_MATCH={MATCH_LIMIT})(*LIMIT_DEPTH={MATCH_LIMIT})");
    if !inline.is_empty() {
        expression.push_str("(?");
        expression.push_str(&inline);
        expression.push(')');
    }
    if anchored {
        expression.push_str("\\A");
    }
    for byte in body.bytes() {
        push_byte(&mut expression, byte);
    }
    Ok((Pattern { expression, negated, relative, captures }, buffer))
}

fn captures(text: &str) -> Read<Vec<Capture>> {
    let mut found = Vec::new();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        found.push(match word.split_once(':') {
            Some(("flow", name)) => Capture::Flow(name.trim().to_owned()),
            Some(("pkt" | "alert", name)) => Capture::Packet(name.trim().to_owned()),
            _ => return Err(Fault::new(format!("'{word}' is no capture"))),
        });
        if found.len() > 8 {
            return Err(Fault::new("more than 8 captures"));
        }
    }
    Ok(found)
}

/// The older way to name a capture, `(?P<flow_x>…)`, for the first group.
fn named_captures(body: &str, mut captures: Vec<Capture>) -> (Vec<Capture>, &str) {
    if captures.is_empty()
        && let Some((_, rest)) = body.split_once("(?P<")
        && let Some((name, _)) = rest.split_once('>')
    {
        if let Some(name) = name.strip_prefix("flow_") {
            captures.push(Capture::Flow(name.to_owned()));
        } else if let Some(name) = name.strip_prefix("pkt_") {
            captures.push(Capture::Packet(name.to_owned()));
        }
    }
    (captures, body)
}

fn buffer_of(flag: char) -> Option<Buffer> {
    Some(match flag {
        'U' => Buffer::HttpUri,
        'I' => Buffer::HttpRawUri,
        'P' => Buffer::HttpRequestBody,
        'Q' => Buffer::HttpResponseBody,
        'H' => Buffer::HttpHeader,
        'D' => Buffer::HttpRawHeader,
        'C' => Buffer::HttpCookie,
        'M' => Buffer::HttpMethod,
        'S' => Buffer::HttpStatCode,
        'Y' => Buffer::HttpStatMsg,
        'V' => Buffer::HttpUserAgent,
        'W' => Buffer::HttpHost,
        'Z' => Buffer::HttpRawHost,
        _ => return None,
    })
}

/// Adds a byte of an expression: one that is not ASCII by its number, as the library reads UTF-8 otherwise.
fn push_byte(expression: &mut String, byte: u8) {
    if byte.is_ascii() {
        expression.push(char::from(byte));
    } else {
        let _ = write!(expression, "\\x{byte:02x}");
    }
}

/// Reads the value of `pcrexform`: an expression without slashes.
///
/// # Errors
/// What was expected.
pub fn read_bare(value: &str) -> Read<String> {
    let (negated, inside) = option::quoted(value)?;
    if negated || inside.is_empty() || inside.len() > PATTERN_LEN {
        return Err(Fault::new("expected an expression"));
    }
    let mut expression = format!("(*LIMIT_MATCH={MATCH_LIMIT})(*LIMIT_DEPTH={MATCH_LIMIT})");
    for byte in inside.bytes() {
        push_byte(&mut expression, byte);
    }
    Ok(expression)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read() {
        let (pattern, buffer) = read(r#""/a\/b/Ui""#).unwrap();
        assert_eq!(buffer, Some(Buffer::HttpUri));
        assert!(pattern.expression.ends_with(r"(?i)a\/b"));
        let (pattern, buffer) = read(r#"!"/uid=(\d+)/R, pkt:uid""#).unwrap();
        assert!(pattern.negated && pattern.relative && buffer.is_none());
        assert_eq!(pattern.captures, [Capture::Packet("uid".into())]);
        assert!(read("/x/U").is_ok());
        for bad in ["", "\"/a", "\"a/\"", "\"/a/k\"", "\"/a/UI\""] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
