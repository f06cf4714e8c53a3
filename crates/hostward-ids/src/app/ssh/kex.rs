//! SSH's key exchange offer (RFC 4253 §7.1) and its fingerprint, HASSH.

use md5::{Digest, Md5};

use crate::Direction::{self, ToServer};
use crate::app::cursor::Cursor;
use crate::app::file_writer::hex;

/// The names that HASSH is made of, and their MD5.
#[derive(Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Hassh {
    pub string: Vec<u8>,
    pub hash: String,
}

/// From the body of an offer, behind its message number. Each side's is made of what it offers to send.
#[must_use]
pub fn hassh(direction: Direction, offer: &[u8]) -> Option<Hassh> {
    let mut cursor = Cursor::big(offer);
    cursor.take(16)?;
    let mut lists = [&b""[..]; 8];
    for list in &mut lists {
        let len = usize::try_from(cursor.u32()?).ok()?;
        *list = cursor.take(len)?;
    }
    let [kex, _, ciphers_out, ciphers_in, macs_out, macs_in, compression_out, compression_in] = lists;
    let string = match direction {
        ToServer => [kex, ciphers_out, macs_out, compression_out],
        Direction::ToClient => [kex, ciphers_in, macs_in, compression_in],
    }
    .join(&b';');
    let hash = hex(&Md5::digest(&string));
    Some(Hassh { string, hash })
}
