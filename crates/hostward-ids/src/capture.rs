//! The capture formats pcap and pcapng (draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng), read as a stream.

use std::io::{self, Read};

use crate::decode::Nanos;

/// Why a capture cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// It does not begin like one.
    #[error("this is neither pcap nor pcapng")]
    Unknown,
    /// A length within it cannot be.
    #[error("the capture is damaged at byte {0}")]
    Damaged(u64),
    /// Reading failed.
    #[error(transparent)]
    Read(#[from] io::Error),
}

/// One frame of a capture.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'a> {
    /// When it was seen.
    pub time: Nanos,
    /// Its `LINKTYPE_` number.
    pub link_type: u16,
    /// Its bytes.
    pub data: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link_type: u16,
    /// Nanoseconds of one tick of its clock are `numerator / denominator`.
    numerator: u64,
    denominator: u64,
}

#[derive(Debug)]
enum Format {
    Pcap { link_type: u16, nanos_per_tick: u64 },
    Pcapng { interfaces: Vec<Interface> },
}

/// Where a frame lies in the buffer.
struct Found {
    time: Nanos,
    link_type: u16,
    from: usize,
    len: usize,
}

/// What a block of pcapng was.
enum Block {
    Frame(Found),
    Other,
    End,
}

/// Reads the frames of a capture in its order. Ends quietly where the file was cut off.
#[derive(Debug)]
pub struct Capture<R> {
    source: R,
    buffer: Vec<u8>,
    /// What was read and not used lies between these.
    at: usize,
    end: usize,
    /// Where `buffer[0]` lies in the file.
    offset: u64,
    little: bool,
    format: Format,
}

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACES_MAX: usize = 4096;
/// The longest frame or block that is believed.
const BLOCK_MAX: usize = 16 << 20;
const BUFFER_LEN: usize = 512 << 10;

impl<R: Read> Capture<R> {
    /// Reads the file's header.
    ///
    /// # Errors
    /// [`CaptureError`].
    pub fn new(source: R) -> Result<Self, CaptureError> {
        let mut capture = Self {
            source,
            buffer: vec![0; BUFFER_LEN],
            at: 0,
            end: 0,
            offset: 0,
            little: true,
            format: Format::Pcapng { interfaces: Vec::new() },
        };
        if !capture.have(4)? {
            return Err(CaptureError::Unknown);
        }
        let magic = capture.word(0).ok_or(CaptureError::Unknown)?;
        if magic == SECTION {
            return Ok(capture);
        }
        let (little, nanos_per_tick) = match magic {
            0xa1b2_c3d4 => (true, 1000),
            0xd4c3_b2a1 => (false, 1000),
            0xa1b2_3c4d => (true, 1),
            0x4d3c_b2a1 => (false, 1),
            _ => return Err(CaptureError::Unknown),
        };
        capture.little = little;
        if !capture.have(24)? {
            return Err(CaptureError::Unknown);
        }
        let link_type = capture.word(20).ok_or(CaptureError::Unknown)? as u16;
        capture.format = Format::Pcap { link_type, nanos_per_tick };
        capture.at += 24;
        Ok(capture)
    }

    /// The next frame, or `None` at the end.
    ///
    /// # Errors
    /// [`CaptureError`].
    pub fn next_frame(&mut self) -> Result<Option<Captured<'_>>, CaptureError> {
        let found = match self.format {
            Format::Pcap { link_type, nanos_per_tick } => self.pcap(link_type, nanos_per_tick)?,
            Format::Pcapng { .. } => loop {
                match self.block()? {
                    Block::Frame(found) => break Some(found),
                    Block::Other => {}
                    Block::End => break None,
                }
            },
        };
        let Some(found) = found else { return Ok(None) };
        let data = self.buffer.get(found.from..found.from + found.len).unwrap_or_default();
        Ok(Some(Captured { time: found.time, link_type: found.link_type, data }))
    }

    /// Whether bytes are left that make no frame; at the end that says that the file was cut off.
    pub fn is_cut_off(&self) -> bool {
        self.at < self.end
    }

    /// Makes sure that `len` bytes from where it stands are in memory; `false` if the file ends before.
    fn have(&mut self, len: usize) -> Result<bool, CaptureError> {
        if self.end - self.at >= len {
            return Ok(true);
        }
        if len > BLOCK_MAX {
            return Err(CaptureError::Damaged(self.offset + self.at as u64));
        }
        self.buffer.copy_within(self.at..self.end, 0);
        self.offset += self.at as u64;
        self.end -= self.at;
        self.at = 0;
        while self.end < len {
            // Grows as bytes come, not by what a length says.
            if self.end == self.buffer.len() {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            let Some(room) = self.buffer.get_mut(self.end..) else { return Ok(false) };
            match self.source.read(room) {
                Ok(0) => return Ok(false),
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Four bytes at `from` behind where it stands.
    fn word(&self, from: usize) -> Option<u32> {
        let bytes = self.buffer.get(self.at..self.end)?.get(from..from.checked_add(4)?)?.try_into().ok()?;
        Some(if self.little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    fn short(&self, from: usize) -> Option<u16> {
        let bytes = self.buffer.get(self.at..self.end)?.get(from..from.checked_add(2)?)?.try_into().ok()?;
        Some(if self.little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    fn pcap(&mut self, link_type: u16, nanos_per_tick: u64) -> Result<Option<Found>, CaptureError> {
        const HEADER_LEN: usize = 16;
        if !self.have(HEADER_LEN)? {
            return Ok(None);
        }
        let (Some(seconds), Some(ticks), Some(len)) = (self.word(0), self.word(4), self.word(8)) else {
            return Ok(None);
        };
        let len = len as usize;
        if !self.have(HEADER_LEN + len)? {
            return Ok(None);
        }
        let time = u64::from(seconds) * 1_000_000_000 + u64::from(ticks) * nanos_per_tick;
        let from = self.at + HEADER_LEN;
        self.at = from + len;
        Ok(Some(Found { time, link_type, from, len }))
    }

    fn block(&mut self) -> Result<Block, CaptureError> {
        if !self.have(12)? {
            return Ok(Block::End);
        }
        let damaged = CaptureError::Damaged(self.offset + self.at as u64);
        if self.word(0) == Some(SECTION) {
            // The byte order of a section is told by a mark within its first block.
            self.little = match self.buffer.get(self.at + 8..self.at + 12) {
                Some([0x4d, 0x3c, 0x2b, 0x1a]) => true,
                Some([0x1a, 0x2b, 0x3c, 0x4d]) => false,
                _ => return Err(damaged),
            };
            if let Format::Pcapng { interfaces } = &mut self.format {
                interfaces.clear();
            }
        }
        let (kind, len) = (self.word(0).unwrap_or_default(), self.word(4).unwrap_or_default() as usize);
        if len < 12 || len % 4 != 0 {
            return Err(damaged);
        }
        if !self.have(len)? {
            return Ok(Block::End);
        }
        let found = match kind {
            1 => {
                self.interface(len - 4);
                None
            }
            6 => self.enhanced(len - 4),
            3 => self.simple(len - 4),
            _ => None,
        };
        self.at += len;
        Ok(found.map_or(Block::Other, Block::Frame))
    }

    fn interface(&mut self, end: usize) {
        let mut interface = Interface { link_type: self.short(8).unwrap_or_default(), numerator: 1000, denominator: 1 };
        let mut at = 16;
        while let (Some(code), Some(len)) = (self.short(at), self.short(at + 2)) {
            if code == 0 || at + 4 > end {
                break;
            }
            if code == 9 {
                // The clock's resolution: a power of ten, or of two where the highest bit is set.
                let resolution = self.buffer.get(self.at + at + 4).copied().unwrap_or(6);
                let exponent = u32::from(resolution & 0x7f);
                (interface.numerator, interface.denominator) = if resolution & 0x80 == 0 {
                    match exponent {
                        0..=9 => (10_u64.pow(9 - exponent), 1),
                        _ => (1, 10_u64.saturating_pow(exponent - 9)),
                    }
                } else {
                    (1_000_000_000, 1_u64.checked_shl(exponent).unwrap_or(u64::MAX))
                };
            }
            at += 4 + usize::from(len).next_multiple_of(4);
        }
        match &mut self.format {
            Format::Pcapng { interfaces } if interfaces.len() < INTERFACES_MAX => interfaces.push(interface),
            _ => {}
        }
    }

    fn seen_by(&self, number: u32) -> Option<Interface> {
        match &self.format {
            Format::Pcapng { interfaces } => interfaces.get(number as usize).copied(),
            Format::Pcap { .. } => None,
        }
    }

    fn enhanced(&self, end: usize) -> Option<Found> {
        const HEADER_LEN: usize = 28;
        let interface = self.seen_by(self.word(8)?)?;
        let ticks = u64::from(self.word(12)?) << 32 | u64::from(self.word(16)?);
        let len = (self.word(20)? as usize).min(end.checked_sub(HEADER_LEN)?);
        let time = u128::from(ticks) * u128::from(interface.numerator) / u128::from(interface.denominator);
        let from = self.at + HEADER_LEN;
        Some(Found { time: time as Nanos, link_type: interface.link_type, from, len })
    }

    fn simple(&self, end: usize) -> Option<Found> {
        const HEADER_LEN: usize = 12;
        let interface = self.seen_by(0)?;
        let len = (self.word(8)? as usize).min(end.checked_sub(HEADER_LEN)?);
        Some(Found { time: 0, link_type: interface.link_type, from: self.at + HEADER_LEN, len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(data: &[u8]) -> Vec<(Nanos, u16, Vec<u8>)> {
        let mut capture = Capture::new(data).unwrap();
        let mut frames = Vec::new();
        while let Some(frame) = capture.next_frame().unwrap() {
            frames.push((frame.time, frame.link_type, frame.data.to_vec()));
        }
        frames
    }

    fn pcap(magic: u32, packet: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        for word in [magic, 0x0004_0002, 0, 0, 65_535, 101, 7, 5, packet.len() as u32, packet.len() as u32] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        file.extend_from_slice(packet);
        file
    }

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let len = body.len() as u32 + 12;
        [&kind.to_be_bytes()[..], &len.to_be_bytes(), body, &len.to_be_bytes()].concat()
    }

    #[test]
    fn micro_and_nanoseconds() {
        assert_eq!(frames(&pcap(0xa1b2_c3d4, b"abc")), [(7_000_005_000, 101, b"abc".to_vec())]);
        assert_eq!(frames(&pcap(0xa1b2_3c4d, b"abc")), [(7_000_000_005, 101, b"abc".to_vec())]);
    }

    #[test]
    fn a_cut_off_file_ends_quietly() {
        let whole = pcap(0xa1b2_c3d4, b"abc");
        for len in 24..whole.len() {
            assert_eq!(frames(&whole[..len]), []);
            let mut capture = Capture::new(&whole[..len]).expect("a capture");
            assert!(capture.next_frame().expect("an end").is_none());
            assert_eq!(capture.is_cut_off(), len > 24);
        }
        assert!(matches!(Capture::new(&whole[..10]), Err(CaptureError::Unknown)));
    }

    #[test]
    fn pcapng_of_the_other_byte_order() {
        let mut section = 0x1a2b_3c4d_u32.to_be_bytes().to_vec();
        section.extend_from_slice(&[0, 1, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
        // Raw IP, with a clock of nanoseconds.
        let interface = [0, 101, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 9, 0, 0, 0, 0, 0, 0, 0];
        let packet = [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 3, b'x', b'y', b'z', 0];
        let file = [block(SECTION, &section), block(1, &interface), block(77, b"abcd"), block(6, &packet)].concat();
        assert_eq!(frames(&file), [((1 << 32) + 2, 101, b"xyz".to_vec())]);
    }

    #[test]
    fn a_long_frame_is_damage_and_takes_no_memory() {
        let mut file = pcap(0xa1b2_c3d4, b"abc");
        file[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut capture = Capture::new(&file[..]).unwrap();
        assert!(matches!(capture.next_frame(), Err(CaptureError::Damaged(_))));
    }
}
