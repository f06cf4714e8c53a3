//! Who logs in, out of NTLMSSP (MS-NLMP §2.2.1.3) within a security blob.

use super::text;
use crate::app::cursor::Cursor;

/// The names of an AUTHENTICATE message.
#[derive(Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Names {
    pub domain: String,
    pub user: String,
    pub host: String,
}

/// What a blob holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// No NTLMSSP, or a message without names.
    Nothing,
    /// These names.
    Names(Names),
    /// Fields that point outside of it.
    Malformed,
}

const SIGNATURE: &[u8] = b"NTLMSSP\0";
/// `NTLMSSP_NEGOTIATE_UNICODE`.
const UNICODE: u32 = 1;

/// Looks into a blob, whether bare or within SPNEGO.
#[must_use]
pub fn find(blob: &[u8]) -> Found {
    let Some(at) = memchr::memmem::find(blob, SIGNATURE) else { return Found::Nothing };
    let message = blob.get(at..).unwrap_or_default();
    let mut cursor = Cursor::little(message.get(SIGNATURE.len()..).unwrap_or_default());
    if cursor.u32() != Some(3) {
        return Found::Nothing;
    }
    names(message, cursor).map_or(Found::Malformed, Found::Names)
}

fn names(message: &[u8], mut cursor: Cursor<'_>) -> Option<Names> {
    // The two challenge responses come first.
    cursor.take(16)?;
    let mut fields = [&b""[..]; 3];
    for field in &mut fields {
        let (len, _, offset) = (cursor.u16()?, cursor.u16()?, cursor.u32()?);
        let start = usize::try_from(offset).ok()?;
        *field = message.get(start..start.checked_add(usize::from(len))?)?;
    }
    cursor.take(8)?;
    let unicode = cursor.u32()? & UNICODE != 0;
    let [domain, user, host] = fields.map(|field| text::whole(field, unicode));
    Some(Names { domain, user, host })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_an_authenticate_message() {
        let mut message = b"NTLMSSP\0\x03\0\0\0".to_vec();
        message.extend([0; 16]);
        for (len, offset) in [(2u16, 64u32), (4, 66), (0, 70)] {
            message.extend(len.to_le_bytes());
            message.extend(len.to_le_bytes());
            message.extend(offset.to_le_bytes());
        }
        message.extend([0; 8]);
        message.extend(1u32.to_le_bytes());
        message.extend(b"D\0m\0e\0");
        let names = Names { domain: "D".into(), user: "me".into(), host: String::new() };
        assert_eq!(find(&[b"spnego", message.as_slice()].concat()), Found::Names(names));
        for len in 12..message.len() {
            assert_eq!(find(&message[..len]), Found::Malformed);
        }
        assert_eq!(find(b"kerberos"), Found::Nothing);
    }
}
