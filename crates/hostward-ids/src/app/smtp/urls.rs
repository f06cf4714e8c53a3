//! Addresses of the web in the text of messages.

use crate::Direction::ToServer;
use crate::app::Transaction;
use crate::app::buffer::Buffer;

const SCHEMES: [&[u8]; 3] = [b"http://", b"https://", b"ftp://"];
/// How many of one message are kept.
const MAX_URLS: usize = 64;
const MAX_URL_LEN: usize = 2048;
/// How much of an unfinished line waits for the rest.
const MAX_CARRY: usize = 4096;

/// Looks through text that comes in pieces.
#[derive(Debug, Default)]
pub struct Urls {
    carry: Vec<u8>,
    found: usize,
}

impl Urls {
    /// Takes more text, with its line ends.
    pub fn feed(&mut self, text: &[u8], transaction: &mut Transaction) {
        if self.found >= MAX_URLS {
            return;
        }
        self.carry.extend_from_slice(text);
        let until = match memchr::memrchr(b'\n', &self.carry) {
            Some(at) => at + 1,
            None if self.carry.len() > MAX_CARRY => self.carry.len(),
            None => return,
        };
        let rest = self.carry.split_off(until);
        let lines = std::mem::replace(&mut self.carry, rest);
        self.scan(&lines, transaction);
    }

    /// The text is over.
    pub fn finish(&mut self, transaction: &mut Transaction) {
        let rest = std::mem::take(&mut self.carry);
        self.scan(&rest, transaction);
    }

    fn scan(&mut self, mut text: &[u8], transaction: &mut Transaction) {
        while let Some(colon) = memchr::memmem::find(text, b"://") {
            let (before, after) = text.split_at(colon);
            let address = after.get(3..).unwrap_or_default();
            let len = address.iter().take(MAX_URL_LEN).take_while(|byte| belongs(**byte)).count();
            let address = address.get(..len).unwrap_or_default();
            let scheme = SCHEMES.iter().any(|scheme| {
                let name = &scheme[..scheme.len() - 3];
                before.len() >= name.len() && before[before.len() - name.len()..].eq_ignore_ascii_case(name)
            });
            if scheme && !address.is_empty() && self.found < MAX_URLS {
                self.found += 1;
                put(address, transaction);
            }
            text = after.get(3 + len..).unwrap_or_default();
        }
    }
}

fn belongs(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'<' | b'>' | b'(' | b')' | b'[' | b']' | b'`' | b'\\')
}

fn put(address: &[u8], transaction: &mut Transaction) {
    if transaction.buffers.iter().any(|content| content.buffer == Buffer::EmailUrl && content.data == address) {
        return;
    }
    transaction.put(ToServer, Buffer::EmailUrl, address);
    super::message::log_push(transaction, "url", String::from_utf8_lossy(address).into_owned().into());
}
