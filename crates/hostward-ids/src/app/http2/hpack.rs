//! Header compression (RFC 7541), in bounded memory: a table is never larger than agreed, and what a block can blow up to
//! is limited, while the table is kept in step with the peer's.

use std::collections::VecDeque;

use super::huffman;
use super::tables::FIELDS;

/// What a field costs beside its text (RFC 7541 §4.1).
const OVERHEAD: usize = 32;
/// The size of a table that is not negotiated, and the largest that is agreed to.
const DEFAULT_SIZE: usize = 4096;
const MAX_SIZE: usize = 65_536;
/// How much of one block is handed over.
const MAX_BLOCK_LEN: usize = 131_072;
const MAX_FIELDS: usize = 512;

/// A header field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// In lower case, as the protocol wants it; a pseudo field's begins with a colon.
    pub name: Vec<u8>,
    /// As it was sent.
    pub value: Vec<u8>,
}

/// What came out of a block.
#[derive(Debug, Default)]
pub struct Block {
    /// Its fields, as many as are handed over.
    pub fields: Vec<Field>,
    /// New sizes of the table.
    pub size_updates: Vec<u64>,
    len: usize,
    /// Whether fields were left out.
    pub too_long: bool,
}

/// Why a block cannot be read; then no later one can be either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A number does not fit.
    Overflow,
    /// Anything else.
    Invalid,
}

/// One direction's table.
#[derive(Debug)]
pub struct Decoder {
    fields: VecDeque<Field>,
    size: usize,
    max_size: usize,
    /// The largest size that the receiver allowed.
    allowed: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { fields: VecDeque::new(), size: 0, max_size: DEFAULT_SIZE, allowed: DEFAULT_SIZE }
    }
}

impl Decoder {
    /// The receiver's `SETTINGS_HEADER_TABLE_SIZE`.
    pub fn allow(&mut self, size: u32) {
        self.allowed = usize::try_from(size).unwrap_or(usize::MAX).min(MAX_SIZE);
        // What the sender makes of it, it says itself; a smaller size it must take over.
        self.resize(self.max_size.min(self.allowed));
    }

    /// Reads a block.
    ///
    /// # Errors
    /// [`Broken`]: the table is out of step from here on.
    pub fn decode(&mut self, mut data: &[u8]) -> Result<Block, Broken> {
        let mut block = Block::default();
        while let Some(&first) = data.first() {
            if first & 0x80 != 0 {
                let index = integer(&mut data, 7)?;
                let (name, value) = self.get(index)?;
                block.add(name, value);
            } else if first & 0xc0 == 0x40 {
                let field = self.literal(&mut data, 6)?;
                block.add(&field.name, &field.value);
                self.insert(field);
            } else if first & 0xe0 == 0x20 {
                let size = integer(&mut data, 5)?;
                if block.size_updates.len() < 8 {
                    block.size_updates.push(size as u64);
                }
                self.resize(size.min(MAX_SIZE));
            } else {
                let field = self.literal(&mut data, 4)?;
                block.add(&field.name, &field.value);
            }
        }
        Ok(block)
    }

    fn literal(&self, data: &mut &[u8], prefix: u32) -> Result<Field, Broken> {
        let index = integer(data, prefix)?;
        let name = if index == 0 { string(data)? } else { self.get(index)?.0.to_vec() };
        Ok(Field { name, value: string(data)? })
    }

    fn get(&self, index: usize) -> Result<(&[u8], &[u8]), Broken> {
        let at = index.checked_sub(1).ok_or(Broken::Invalid)?;
        if let Some((name, value)) = FIELDS.get(at) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let field = self.fields.get(at - FIELDS.len()).ok_or(Broken::Invalid)?;
        Ok((&field.name, &field.value))
    }

    fn insert(&mut self, field: Field) {
        self.size += field.size();
        self.fields.push_front(field);
        self.evict();
    }

    fn resize(&mut self, size: usize) {
        self.max_size = size;
        self.evict();
    }

    fn evict(&mut self) {
        while self.size > self.max_size
            && let Some(field) = self.fields.pop_back()
        {
            self.size -= field.size();
        }
    }
}

impl Field {
    fn size(&self) -> usize {
        self.name.len() + self.value.len() + OVERHEAD
    }
}

impl Block {
    fn add(&mut self, name: &[u8], value: &[u8]) {
        self.len += name.len() + value.len() + OVERHEAD;
        if self.len > MAX_BLOCK_LEN || self.fields.len() >= MAX_FIELDS {
            self.too_long = true;
        } else {
            self.fields.push(Field { name: name.to_vec(), value: value.to_vec() });
        }
    }
}

/// An integer with a prefix of some bits (§5.1).
fn integer(data: &mut &[u8], prefix: u32) -> Result<usize, Broken> {
    let (&first, rest) = data.split_first().ok_or(Broken::Invalid)?;
    *data = rest;
    let mask = (1u32 << prefix) - 1;
    let mut value = u32::from(first) & mask;
    if value < mask {
        return Ok(value as usize);
    }
    for shift in (0..=28).step_by(7) {
        let (&byte, rest) = data.split_first().ok_or(Broken::Invalid)?;
        *data = rest;
        let more = u32::from(byte & 0x7f);
        let more = more.checked_shl(shift).filter(|shifted| shifted >> shift == more).ok_or(Broken::Overflow)?;
        value = value.checked_add(more).ok_or(Broken::Overflow)?;
        if byte & 0x80 == 0 {
            return Ok(value as usize);
        }
    }
    Err(Broken::Overflow)
}

fn string(data: &mut &[u8]) -> Result<Vec<u8>, Broken> {
    let coded = data.first().is_some_and(|first| first & 0x80 != 0);
    let len = integer(data, 7)?;
    let (text, rest) = data.split_at_checked(len).ok_or(Broken::Invalid)?;
    *data = rest;
    if coded { huffman::decode(text).ok_or(Broken::Invalid) } else { Ok(text.to_vec()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(block: &Block) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        block.fields.iter().map(|field| (text(&field.name), text(&field.value))).collect()
    }

    #[test]
    fn the_requests_of_the_rfc() {
        // Appendix C.4: three requests on one connection.
        let mut decoder = Decoder::default();
        let first =
            [0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        let block = decoder.decode(&first).unwrap();
        assert_eq!(texts(&block)[3], (":authority".into(), "www.example.com".into()));
        let second = [0x82, 0x86, 0x84, 0xbe, 0x58, 0x86, 0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf];
        let block = decoder.decode(&second).unwrap();
        assert_eq!(texts(&block)[3], (":authority".into(), "www.example.com".into()));
        assert_eq!(texts(&block)[4], ("cache-control".into(), "no-cache".into()));
        assert_eq!((decoder.fields.len(), decoder.size), (2, 110));
    }

    #[test]
    fn what_is_broken_is_told() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.decode(&[0x80]).unwrap_err(), Broken::Invalid);
        assert_eq!(decoder.decode(&[0xc0]).unwrap_err(), Broken::Invalid);
        assert_eq!(decoder.decode(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).unwrap_err(), Broken::Overflow);
        assert_eq!(decoder.decode(&[0x40, 0x05, b'a']).unwrap_err(), Broken::Invalid);
    }

    #[test]
    fn memory_is_bounded() {
        let mut decoder = Decoder::default();
        let mut insert = vec![0x40, 0x01, b'a', 0x7f, 0xa1, 0x1e];
        insert.extend(vec![b'x'; 4000]);
        decoder.decode(&insert).unwrap();
        let block = decoder.decode(&vec![0xbe; 60_000]).unwrap();
        assert!(block.too_long && block.len > MAX_BLOCK_LEN);
        assert!(block.fields.iter().map(Field::size).sum::<usize>() <= MAX_BLOCK_LEN);
        for _ in 0..100 {
            decoder.decode(&insert).unwrap();
        }
        assert!(decoder.size <= DEFAULT_SIZE);
        decoder.decode(&[0x20]).unwrap();
        assert_eq!((decoder.size, decoder.fields.len()), (0, 0));
    }
}
