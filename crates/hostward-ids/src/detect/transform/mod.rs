//! Transforms of buffers.

pub mod base64;
mod inflate;

use std::borrow::Cow;
use std::sync::OnceLock;

use md5::{Digest, Md5};
use pcre2::bytes::Regex;
use sha1::Sha1;
use sha2::Sha256;

use super::step;
use crate::rules::Read;
use crate::rules::transform::{Transform, XorKey};

/// A transform with what it needs to run.
#[derive(Debug)]
pub struct ReadyTransform {
    transform: Transform,
    regex: OnceLock<Option<Regex>>,
}

impl ReadyTransform {
    /// Makes one ready.
    ///
    /// # Errors
    /// Its pattern is none.
    pub fn new(transform: &Transform) -> Read<Self> {
        if let Transform::Pcre(expression) = transform {
            step::check(expression).map_err(|fault| fault.at("pcrexform"))?;
        }
        Ok(Self { transform: transform.clone(), regex: OnceLock::new() })
    }

    /// What it does.
    pub fn transform(&self) -> &Transform {
        &self.transform
    }

    /// Runs it; `None` where the buffer cannot be transformed, and so does not exist.
    fn run<'d>(&self, data: Cow<'d, [u8]>) -> Option<Cow<'d, [u8]>> {
        let owned = |data: Vec<u8>| Some(Cow::Owned(data));
        match &self.transform {
            Transform::DotPrefix => {
                let mut with = Vec::with_capacity(data.len() + 1);
                with.push(b'.');
                with.extend_from_slice(&data);
                owned(with)
            }
            Transform::StripWhitespace => owned(data.iter().copied().filter(|byte| !blank(*byte)).collect()),
            Transform::CompressWhitespace => {
                let mut last = false;
                let kept = data.iter().copied().filter(|&byte| {
                    let keep = !(blank(byte) && last);
                    last = blank(byte);
                    keep
                });
                owned(kept.collect())
            }
            Transform::ToLowercase => owned(data.to_ascii_lowercase()),
            Transform::ToUppercase => owned(data.to_ascii_uppercase()),
            Transform::HeaderLowercase => owned(header_lowercase(&data)),
            Transform::StripPseudoHeaders => owned(strip_pseudo_headers(&data)),
            Transform::ToMd5 => owned(Md5::digest(&data).to_vec()),
            Transform::ToSha1 => owned(Sha1::digest(&data).to_vec()),
            Transform::ToSha256 => owned(Sha256::digest(&data).to_vec()),
            Transform::UrlDecode => owned(url_decode(&data)),
            Transform::Domain => owned(last_labels(&data, 2)?),
            Transform::Tld => owned(last_labels(&data, 1)?),
            Transform::Xor { skip, key } => owned(xor(&data, *skip, key)?),
            Transform::Pcre(expression) => {
                let regex = self.regex.get_or_init(|| step::compile(expression, true).ok()).as_ref()?;
                let mut places = regex.capture_locations();
                regex.captures_read(&mut places, &data).ok()??;
                let (from, to) = places.get(1)?;
                owned(data.get(from..to)?.to_vec())
            }
            Transform::FromBase64 { bytes, offset, mode } => {
                let text = data.get(*offset..)?;
                let text = bytes.and_then(|bytes| text.get(..bytes)).unwrap_or(text);
                let decoded = base64::decode(text, *mode);
                if decoded.is_empty() { None } else { owned(decoded) }
            }
            Transform::Gunzip { max } => owned(inflate::gunzip(&data, *max)?),
            Transform::ZlibDeflate { max } => owned(inflate::zlib(&data, *max)?),
            Transform::Subslice { offset, len, truncate } => {
                owned(subslice(&data, *offset, *len, *truncate).unwrap_or_default().to_vec())
            }
        }
    }
}

/// Runs all of them in order.
pub fn run<'d>(transforms: &[ReadyTransform], data: &'d [u8]) -> Option<Cow<'d, [u8]>> {
    transforms.iter().try_fold(Cow::Borrowed(data), |data, transform| transform.run(data))
}

fn blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Names of headers in lower case, values as they are.
fn header_lowercase(data: &[u8]) -> Vec<u8> {
    let mut made = data.to_vec();
    for line in made.split_mut(|&byte| byte == b'\n') {
        let name = line.iter().position(|&byte| byte == b':').unwrap_or(0);
        if let Some(name) = line.get_mut(..name) {
            name.make_ascii_lowercase();
        }
    }
    made
}

/// Without the lines that begin with a colon (RFC 9113, 8.3).
fn strip_pseudo_headers(data: &[u8]) -> Vec<u8> {
    data.split_inclusive(|&byte| byte == b'\n').filter(|line| line.first() != Some(&b':')).flatten().copied().collect()
}

fn url_decode(data: &[u8]) -> Vec<u8> {
    let mut made = Vec::with_capacity(data.len());
    let mut rest = data;
    while let [first, after @ ..] = rest {
        rest = after;
        made.push(match (first, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match (char::from(*high).to_digit(16), char::from(*low).to_digit(16)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    (high << 4 | low) as u8
                }
                _ => b'%',
            },
            _ => *first,
        });
    }
    made
}

/// The last labels of a name. The public suffix list is not consulted: `co.uk` counts as two labels.
fn last_labels(data: &[u8], count: usize) -> Option<Vec<u8>> {
    let name = data.strip_suffix(b".").unwrap_or(data);
    let mut dots = name.iter().enumerate().rev().filter(|(_, byte)| **byte == b'.').map(|(at, _)| at);
    match dots.nth(count - 1) {
        Some(dot) => name.get(dot + 1..).map(<[u8]>::to_vec),
        None => Some(name.to_vec()),
    }
    .filter(|name| !name.is_empty())
}

fn xor(data: &[u8], skip: usize, key: &XorKey) -> Option<Vec<u8>> {
    let key: Vec<u8> = match key {
        XorKey::Bytes(bytes) => bytes.to_vec(),
        XorKey::Inside { len, offset } => data.get(*offset..offset.checked_add(*len)?)?.to_vec(),
    };
    let mut made = data.to_vec();
    if let Some(rest) = made.get_mut(skip..) {
        for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
            *byte ^= key;
        }
    }
    Some(made)
}

/// A part as slices of Python choose one; `truncate` takes what there is of a part that reaches outside.
fn subslice(data: &[u8], offset: i64, len: Option<i64>, truncate: bool) -> Option<&[u8]> {
    let size = i64::try_from(data.len()).ok()?;
    let mut start = if offset < 0 { size + offset } else { offset };
    if start < 0 {
        if !truncate {
            return None;
        }
        start = 0;
    }
    let mut end = match len {
        None => size,
        Some(len) if len < 0 => size + len,
        Some(len) => start.saturating_add(len),
    };
    if end > size {
        if !truncate {
            return None;
        }
        end = size;
    }
    data.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(transform: Transform, data: &[u8]) -> Option<Vec<u8>> {
        run(&[ReadyTransform::new(&transform).unwrap()], data).map(Cow::into_owned)
    }

    #[test]
    fn transforms_transform() {
        assert_eq!(one(Transform::DotPrefix, b"a.b").unwrap(), b".a.b");
        assert_eq!(one(Transform::StripWhitespace, b"a \r\nb").unwrap(), b"ab");
        assert_eq!(one(Transform::CompressWhitespace, b"a \r\nb").unwrap(), b"a b");
        assert_eq!(one(Transform::UrlDecode, b"a%41+%4").unwrap(), b"aA %4");
        assert_eq!(one(Transform::HeaderLowercase, b"Ab: C\r\nDe: F").unwrap(), b"ab: C\r\nde: F");
        assert_eq!(one(Transform::StripPseudoHeaders, b":a: b\r\nc: d\r\n").unwrap(), b"c: d\r\n");
        assert_eq!(one(Transform::Pcre("a(b+)".into()), b"xabbc").unwrap(), b"bb");
        assert_eq!(one(Transform::Pcre("a(b+)".into()), b"x"), None);
        let key = XorKey::Inside { len: 1, offset: 0 };
        assert_eq!(one(Transform::Xor { skip: 1, key }, b"\x01ab").unwrap(), b"\x01`c");
        assert_eq!(subslice(b"abcdef", -3, Some(2), false), Some(b"de".as_slice()));
        assert_eq!(subslice(b"abc", -100, Some(3), true), Some(b"abc".as_slice()));
        assert_eq!(subslice(b"abc", 2, Some(9), false), None);
    }
}
