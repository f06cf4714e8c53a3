//! Compressed buffers, within a limit.

use std::io::Read;

use flate2::read::{GzDecoder, ZlibDecoder};

/// Reads at most `max` bytes; what was made before an error counts, as a cut-off stream has no end.
fn read(source: impl Read, max: usize) -> Option<Vec<u8>> {
    let mut made = Vec::new();
    let mut source = source.take(max as u64);
    let mut chunk = [0; 4096];
    loop {
        match source.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(len) => made.extend_from_slice(chunk.get(..len)?),
        }
    }
    (!made.is_empty()).then_some(made)
}

/// Undoes gzip.
pub fn gunzip(data: &[u8], max: usize) -> Option<Vec<u8>> {
    read(GzDecoder::new(data), max)
}

/// Undoes zlib.
pub fn zlib(data: &[u8], max: usize) -> Option<Vec<u8>> {
    read(ZlibDecoder::new(data), max)
}
