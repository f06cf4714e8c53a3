//! TCP options that a connection's state depends on.

use crate::decode::Tcp;
use crate::decode::read::{byte, word};
use crate::decode::transport::TcpOptions;

/// See [`Options::of`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Window scale (RFC 7323), at most 14.
    pub scale: Option<u8>,
    /// Time stamp value and echo reply.
    pub timestamp: Option<(u32, u32)>,
    /// Fast open: a cookie or the request for one.
    pub fast_open: bool,
}

impl Options {
    /// Reads them; what is malformed is left out.
    #[must_use]
    pub fn of(tcp: &Tcp<'_>) -> Self {
        let raw = tcp.header.get(20..).unwrap_or_default();
        // What nearly every packet has: two fillers and a time stamp.
        if let [1, 1, 8, 10, rest @ ..] = raw
            && rest.len() == 8
        {
            return Self { timestamp: word(rest, 0).zip(word(rest, 4)), ..Self::default() };
        }
        let mut found = Self::default();
        for (kind, option) in TcpOptions(raw) {
            let Some(option) = option else { break };
            match kind {
                3 if option.len() == 3 => found.scale = byte(option, 2).map(|scale| scale.min(14)),
                8 if option.len() == 10 => found.timestamp = word(option, 2).zip(word(option, 6)),
                34 => found.fast_open = true,
                254 if option.get(2..4) == Some(&[0xf9, 0x89]) => found.fast_open = true,
                _ => {}
            }
        }
        found
    }
}
