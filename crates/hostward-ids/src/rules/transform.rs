//! Transforms: what is done with a buffer before it is looked at.

use super::byte::Names;
use super::content::Operand;
use super::number::{narrow, signed};
use super::{Fault, Read, option, pattern};

/// Where the key of `xor` comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum XorKey {
    /// These bytes.
    Bytes(Box<[u8]>),
    /// `len` bytes at `offset` of the buffer itself; what follows `skip` is decoded.
    Inside {
        /// How many bytes the key has.
        len: usize,
        /// Where it lies.
        offset: usize,
    },
}

/// How strictly base64 is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Base64Mode {
    /// RFC 4648: it ends where a character is none of the alphabet.
    Rfc4648,
    /// RFC 2045: such characters are skipped.
    Rfc2045,
    /// Anything odd makes the whole unreadable.
    Strict,
}

/// One transform.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Transform {
    DotPrefix,
    StripWhitespace,
    CompressWhitespace,
    ToLowercase,
    ToUppercase,
    HeaderLowercase,
    StripPseudoHeaders,
    ToMd5,
    ToSha1,
    ToSha256,
    UrlDecode,
    Domain,
    Tld,
    Xor { skip: usize, key: XorKey },
    Pcre(String),
    FromBase64 { bytes: Option<usize>, offset: usize, mode: Base64Mode },
    Gunzip { max: usize },
    ZlibDeflate { max: usize },
    Subslice { offset: i64, len: Option<i64>, truncate: bool },
}

/// Most bytes that a transform makes.
pub const OUTPUT_LEN: usize = 1 << 20;

fn list(value: Option<&str>) -> impl Iterator<Item = &str> {
    value.unwrap_or_default().split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// Reads a transform; `None` if `keyword` is none.
///
/// # Errors
/// What was expected.
pub fn read(keyword: &str, value: Option<&str>) -> Read<Option<Transform>> {
    let plain = match keyword {
        "dotprefix" => Transform::DotPrefix,
        "strip_whitespace" => Transform::StripWhitespace,
        "compress_whitespace" => Transform::CompressWhitespace,
        "to_lowercase" => Transform::ToLowercase,
        "to_uppercase" => Transform::ToUppercase,
        "header_lowercase" => Transform::HeaderLowercase,
        "strip_pseudo_headers" => Transform::StripPseudoHeaders,
        "to_md5" => Transform::ToMd5,
        "to_sha1" => Transform::ToSha1,
        "to_sha256" => Transform::ToSha256,
        "url_decode" => Transform::UrlDecode,
        "domain" => Transform::Domain,
        "tld" => Transform::Tld,
        "pcrexform" => return pattern::read_bare(value.unwrap_or_default()).map(|text| Some(Transform::Pcre(text))),
        "xor" => return xor(value.unwrap_or_default()).map(Some),
        "from_base64" => return from_base64(value).map(Some),
        "gunzip" => return Ok(Some(Transform::Gunzip { max: max_size(value)? })),
        "zlib_deflate" => return Ok(Some(Transform::ZlibDeflate { max: max_size(value)? })),
        "subslice" => return subslice(value).map(Some),
        _ => return Ok(None),
    };
    match value {
        None => Ok(Some(plain)),
        Some(_) => Err(Fault::new("it takes no value")),
    }
}

fn xor(value: &str) -> Read<Transform> {
    if value.trim_start().starts_with('"') {
        let (_, inside) = option::quoted(value)?;
        let key = hex(inside)?;
        return Ok(Transform::Xor { skip: 0, key: XorKey::Bytes(key.into_boxed_slice()) });
    }
    let (mut skip, mut key) = (0, None);
    for word in list(Some(value)) {
        let mut parts = word.split_whitespace();
        match (parts.next(), parts.next(), parts.next()) {
            (Some("offset"), Some(number), None) => skip = usize::from(narrow::<u16>(number)?),
            (Some("extract"), Some(len), Some(offset)) => {
                let (len, offset) = (usize::from(narrow::<u8>(len)?), usize::from(narrow::<u16>(offset)?));
                if len == 0 {
                    return Err(Fault::new("the key is empty"));
                }
                key = Some(XorKey::Inside { len, offset });
            }
            (Some(text), None, None) => key = Some(XorKey::Bytes(hex(text)?.into_boxed_slice())),
            _ => return Err(Fault::new(format!("'{word}' is not understood"))),
        }
    }
    Ok(Transform::Xor { skip, key: key.ok_or_else(|| Fault::new("the key is missing"))? })
}

fn hex(text: &str) -> Read<Vec<u8>> {
    let bad = || Fault::new("the key is not hexadecimal");
    let digits = text.chars().map(|c| c.to_digit(16).ok_or_else(bad)).collect::<Read<Vec<_>>>()?;
    if digits.is_empty() || digits.len() % 2 != 0 || digits.len() > 512 {
        return Err(bad());
    }
    Ok(digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect())
}

fn from_base64(value: Option<&str>) -> Read<Transform> {
    let (mut bytes, mut offset, mut mode) = (None, 0, Base64Mode::Rfc4648);
    for word in list(value) {
        match word.split_once(char::is_whitespace).map(|(key, rest)| (key, rest.trim())) {
            Some(("bytes", number)) => bytes = Some(usize::from(narrow::<u16>(number)?)),
            Some(("offset", number)) => offset = usize::from(narrow::<u16>(number)?),
            Some(("mode", name)) => {
                mode = match name {
                    "rfc4648" => Base64Mode::Rfc4648,
                    "rfc2045" => Base64Mode::Rfc2045,
                    "strict" => Base64Mode::Strict,
                    _ => return Err(Fault::new(format!("'{name}' is no mode"))),
                }
            }
            _ => return Err(Fault::new(format!("'{word}' is not understood"))),
        }
    }
    Ok(Transform::FromBase64 { bytes, offset, mode })
}

fn max_size(value: Option<&str>) -> Read<usize> {
    let mut max = 1024;
    for word in list(value) {
        match word.split_once(char::is_whitespace) {
            Some(("max-size", number)) => max = narrow::<u32>(number)? as usize,
            _ => return Err(Fault::new(format!("'{word}' is not understood"))),
        }
    }
    if max == 0 || max > OUTPUT_LEN {
        return Err(Fault::new(format!("max-size is not within 1 and {OUTPUT_LEN}")));
    }
    Ok(max)
}

fn subslice(value: Option<&str>) -> Read<Transform> {
    let mut words = list(value);
    let offset = signed(words.next().ok_or_else(|| Fault::new("the offset is missing"))?)?;
    let (mut len, mut truncate) = (None, false);
    for word in words {
        match word {
            "truncate" => truncate = true,
            _ if len.is_none() => len = Some(signed(word)?),
            _ => return Err(Fault::new(format!("'{word}' is not understood"))),
        }
    }
    Ok(Transform::Subslice { offset, len, truncate })
}

/// `base64_decode`: (how many bytes at most, offset, relative).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Base64Decode {
    pub bytes: Option<Operand>,
    pub offset: Operand,
    pub relative: bool,
}

/// Reads the value of `base64_decode`.
///
/// # Errors
/// What was expected.
pub fn base64_decode(value: Option<&str>, names: &Names) -> Read<Base64Decode> {
    let mut decode = Base64Decode { bytes: None, offset: Operand::Value(0), relative: false };
    for word in list(value) {
        match word.split_once(char::is_whitespace) {
            None if word == "relative" => decode.relative = true,
            Some(("bytes", number)) => decode.bytes = Some(names.operand(number)?),
            Some(("offset", number)) => decode.offset = names.operand(number)?,
            _ => return Err(Fault::new(format!("'{word}' is not understood"))),
        }
    }
    Ok(decode)
}
