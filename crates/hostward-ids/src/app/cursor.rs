//! Reading numbers and runs of bytes off the front of untrusted data.

/// What is left of a message, with its byte order.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
    little: bool,
}

impl<'a> Cursor<'a> {
    /// Numbers have their highest byte first.
    #[must_use]
    pub fn big(data: &'a [u8]) -> Self {
        Self { rest: data, little: false }
    }

    /// Numbers have their lowest byte first.
    #[must_use]
    pub fn little(data: &'a [u8]) -> Self {
        Self { rest: data, little: true }
    }

    /// In either order.
    #[must_use]
    pub fn ordered(data: &'a [u8], little: bool) -> Self {
        Self { rest: data, little }
    }

    /// What was not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `len` bytes, if there are so many.
    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }

    /// One byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Option<u16> {
        let bytes = self.array()?;
        Some(if self.little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        let bytes = self.array()?;
        Some(if self.little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        let bytes = self.array()?;
        Some(if self.little { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) })
    }
}
