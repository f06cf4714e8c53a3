//! Hellos (RFC 8446 section 4.1, RFC 5246 section 7.4.1), as far as they tell who speaks.

/// Bytes read from the front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    pub(super) fn u24(&mut self) -> Option<usize> {
        let high = usize::from(self.u8()?);
        Some(high << 16 | usize::from(self.u16()?))
    }

    /// A vector behind a length of one byte.
    fn vector8(&mut self) -> Option<Self> {
        let len = usize::from(self.u8()?);
        self.take(len).map(Reader)
    }

    /// A vector behind a length of two bytes.
    fn vector16(&mut self) -> Option<Self> {
        let len = usize::from(self.u16()?);
        self.take(len).map(Reader)
    }

    fn all_u16(mut self) -> Vec<u16> {
        std::iter::from_fn(|| self.u16()).collect()
    }
}

/// A client's hello.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ClientHello {
    pub(super) version: u16,
    pub(super) random: Vec<u8>,
    pub(super) session: Vec<u8>,
    pub(super) ciphers: Vec<u16>,
    /// Types of extensions, in order.
    pub(super) extensions: Vec<u16>,
    pub(super) server_name: Option<Vec<u8>>,
    pub(super) protocols: Vec<Vec<u8>>,
    pub(super) groups: Vec<u16>,
    pub(super) point_formats: Vec<u8>,
    pub(super) signature_algorithms: Vec<u16>,
    pub(super) versions: Vec<u16>,
    pub(super) oddities: Oddities,
}

/// What was odd about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Oddities {
    pub(super) repeated_name: bool,
    pub(super) bad_name_type: bool,
    pub(super) bad_name_length: bool,
}

/// A server's hello.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServerHello {
    pub(super) version: u16,
    /// What it chose by the extension of TLS 1.3.
    pub(super) chosen: Option<u16>,
    pub(super) random: Vec<u8>,
    pub(super) session: Vec<u8>,
    pub(super) cipher: u16,
    pub(super) extensions: Vec<u16>,
    pub(super) protocol: Option<Vec<u8>>,
}

/// The random value that makes a server's hello ask for another one of the client (RFC 8446 section 4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11,
    0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

impl ServerHello {
    pub(super) fn is_retry(&self) -> bool {
        self.random == RETRY
    }

    /// The version in force.
    pub(super) fn negotiated(&self) -> u16 {
        self.chosen.unwrap_or(self.version)
    }
}

/// Calls `each` with every extension's type and data; stops at what cannot be read.
fn for_each_extension<'a>(mut body: Reader<'a>, mut each: impl FnMut(u16, Reader<'a>)) {
    let Some(mut extensions) = body.vector16() else { return };
    while let (Some(kind), Some(data)) = (extensions.u16(), extensions.vector16()) {
        each(kind, data);
    }
}

/// Reads a client's hello, without the message's header.
pub(super) fn client(body: &[u8]) -> Option<ClientHello> {
    let mut body = Reader(body);
    let mut hello = ClientHello {
        version: body.u16()?,
        random: body.take(32)?.to_vec(),
        session: body.vector8()?.0.to_vec(),
        ciphers: body.vector16()?.all_u16(),
        ..ClientHello::default()
    };
    body.vector8()?;
    for_each_extension(body, |kind, mut data| {
        hello.extensions.push(kind);
        // What an extension does not give stays empty.
        let _ = match kind {
            0 => hello.read_server_name(data),
            10 => data.vector16().map(|groups| hello.groups = groups.all_u16()),
            11 => data.vector8().map(|formats| hello.point_formats = formats.0.to_vec()),
            13 => data.vector16().map(|algorithms| hello.signature_algorithms = algorithms.all_u16()),
            16 => data.vector16().map(|list| hello.protocols = protocols(list)),
            43 => data.vector8().map(|versions| hello.versions = versions.all_u16()),
            _ => None,
        };
    });
    Some(hello)
}

impl ClientHello {
    /// RFC 6066 section 3.
    fn read_server_name(&mut self, mut data: Reader<'_>) -> Option<()> {
        if self.server_name.is_some() {
            self.oddities.repeated_name = true;
            return None;
        }
        self.oddities.bad_name_length = true;
        let mut list = data.vector16()?;
        let kind = list.u8()?;
        let name = list.vector16()?;
        self.oddities.bad_name_length = name.0.is_empty();
        self.oddities.bad_name_type = kind != 0;
        if kind == 0 && !name.0.is_empty() {
            self.server_name = Some(name.0.to_vec());
        }
        None
    }
}

/// RFC 7301 section 3.1.
fn protocols(mut list: Reader<'_>) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| list.vector8()).map(|name| name.0.to_vec()).collect()
}

/// Reads a server's hello, without the message's header.
pub(super) fn server(body: &[u8]) -> Option<ServerHello> {
    let mut body = Reader(body);
    let mut hello = ServerHello {
        version: body.u16()?,
        random: body.take(32)?.to_vec(),
        session: body.vector8()?.0.to_vec(),
        cipher: body.u16()?,
        ..ServerHello::default()
    };
    body.u8()?;
    for_each_extension(body, |kind, mut data| {
        hello.extensions.push(kind);
        match kind {
            16 => hello.protocol = data.vector16().and_then(|list| protocols(list).into_iter().next()),
            43 => hello.chosen = data.u16(),
            _ => {}
        }
    });
    Some(hello)
}

/// The certificates of a message (RFC 5246 section 7.4.2), without the message's header; the last may be cut off.
pub(super) fn certificates(body: &[u8]) -> Option<Vec<&[u8]>> {
    let mut body = Reader(body);
    let len = body.u24()?;
    let mut list = Reader(body.take(len)?);
    let mut certificates = Vec::new();
    while let Some(len) = list.u24() {
        certificates.push(list.take(len)?);
    }
    Some(certificates)
}
