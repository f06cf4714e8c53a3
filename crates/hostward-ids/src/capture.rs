//! The capture formats pcap and pcapng (draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng), read from memory.

use crate::decode::Nanos;

/// Why bytes are no capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaptureError {
    /// They do not begin like one.
    #[error("this is neither pcap nor pcapng")]
    Unknown,
    /// A block's length cannot be.
    #[error("the capture is damaged at byte {0}")]
    Damaged(usize),
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

/// The frames of a capture, in its order. Ends quietly where the file was cut off.
#[derive(Debug)]
pub struct Frames<'a> {
    data: &'a [u8],
    at: usize,
    little: bool,
    format: Format,
}

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACES_MAX: usize = 4096;

impl<'a> Frames<'a> {
    /// Reads the file's header.
    ///
    /// # Errors
    /// [`CaptureError::Unknown`].
    pub fn new(data: &'a [u8]) -> Result<Self, CaptureError> {
        let mut frames = Self { data, at: 0, little: true, format: Format::Pcapng { interfaces: Vec::new() } };
        let magic = frames.word(0).ok_or(CaptureError::Unknown)?;
        if magic == SECTION {
            return Ok(frames);
        }
        let (little, nanos_per_tick) = match magic {
            0xa1b2_c3d4 => (true, 1000),
            0xd4c3_b2a1 => (false, 1000),
            0xa1b2_3c4d => (true, 1),
            0x4d3c_b2a1 => (false, 1),
            _ => return Err(CaptureError::Unknown),
        };
        frames.little = little;
        let link_type = frames.word(20).ok_or(CaptureError::Unknown)? as u16;
        frames.format = Format::Pcap { link_type, nanos_per_tick };
        frames.at = 24;
        Ok(frames)
    }

    fn word(&self, at: usize) -> Option<u32> {
        let bytes = self.data.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    fn short(&self, at: usize) -> Option<u16> {
        let bytes = self.data.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    fn pcap(&mut self, link_type: u16, nanos_per_tick: u64) -> Option<Captured<'a>> {
        let seconds = u64::from(self.word(self.at)?);
        let ticks = u64::from(self.word(self.at + 4)?);
        let len = self.word(self.at + 8)? as usize;
        let from = self.at + 16;
        let data = self.data.get(from..from.checked_add(len)?)?;
        self.at = from + len;
        Some(Captured { time: seconds * 1_000_000_000 + ticks * nanos_per_tick, link_type, data })
    }

    /// Reads the next block; the frame in it, if it holds one.
    fn block(&mut self) -> Result<Option<Captured<'a>>, Option<CaptureError>> {
        let at = self.at;
        let mut kind = self.word(at).ok_or(None)?;
        if kind == SECTION {
            // The byte order of a section is told by a mark within its first block.
            self.little = match self.data.get(at + 8..at + 12) {
                Some([0x4d, 0x3c, 0x2b, 0x1a]) => true,
                Some([0x1a, 0x2b, 0x3c, 0x4d]) => false,
                _ => return Err(Some(CaptureError::Damaged(at))),
            };
            kind = SECTION;
            if let Format::Pcapng { interfaces } = &mut self.format {
                interfaces.clear();
            }
        }
        let len = self.word(at + 4).ok_or(None)? as usize;
        if len < 12 || len % 4 != 0 {
            return Err(Some(CaptureError::Damaged(at)));
        }
        let end = at.checked_add(len).filter(|end| *end <= self.data.len()).ok_or(None)?;
        self.at = end;
        let body = (at + 8, end - 4);
        Ok(match kind {
            1 => {
                self.interface(body);
                None
            }
            6 => self.enhanced(body),
            3 => self.simple(body),
            _ => None,
        })
    }

    fn interface(&mut self, (from, to): (usize, usize)) {
        let mut interface =
            Interface { link_type: self.short(from).unwrap_or_default(), numerator: 1000, denominator: 1 };
        let mut at = from + 8;
        while let (Some(code), Some(len)) = (self.short(at), self.short(at + 2)) {
            if code == 0 || at + 4 > to {
                break;
            }
            if code == 9 {
                // The clock's resolution: a power of ten, or of two where the highest bit is set.
                let resolution = self.data.get(at + 4).copied().unwrap_or(6);
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
        if let Format::Pcapng { interfaces } = &mut self.format {
            if interfaces.len() < INTERFACES_MAX {
                interfaces.push(interface);
            }
        }
    }

    fn seen_by(&self, number: u32) -> Option<Interface> {
        match &self.format {
            Format::Pcapng { interfaces } => interfaces.get(number as usize).copied(),
            Format::Pcap { .. } => None,
        }
    }

    fn enhanced(&self, (from, to): (usize, usize)) -> Option<Captured<'a>> {
        let interface = self.seen_by(self.word(from)?)?;
        let ticks = u64::from(self.word(from + 4)?) << 32 | u64::from(self.word(from + 8)?);
        let len = self.word(from + 12)? as usize;
        let data = self.data.get(from + 20..(from + 20).checked_add(len)?.min(to))?;
        let time = u128::from(ticks) * u128::from(interface.numerator) / u128::from(interface.denominator);
        Some(Captured { time: time as Nanos, link_type: interface.link_type, data })
    }

    fn simple(&self, (from, to): (usize, usize)) -> Option<Captured<'a>> {
        let interface = self.seen_by(0)?;
        let len = self.word(from)? as usize;
        let data = self.data.get(from + 4..(from + 4).checked_add(len)?.min(to))?;
        Some(Captured { time: 0, link_type: interface.link_type, data })
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Captured<'a>, CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Format::Pcap { link_type, nanos_per_tick } = self.format {
            return self.pcap(link_type, nanos_per_tick).map(Ok);
        }
        loop {
            match self.block() {
                Ok(Some(captured)) => return Some(Ok(captured)),
                Ok(None) => {}
                Err(damage) => {
                    self.at = self.data.len();
                    return damage.map(Err);
                }
            }
        }
    }
}
