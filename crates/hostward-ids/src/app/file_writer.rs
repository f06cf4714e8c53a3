//! A file as it comes in: what is kept of it for inspection, its size and its digests.

use std::fmt::Write as _;

use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::Sha256;

use super::{File, FileState, Limits};

/// Fills a [`File`], which lies in its transaction, while the parser that receives it holds this.
#[derive(Debug)]
pub struct FileWriter {
    keep_len: usize,
    digests: Option<Box<Digests>>,
}

#[derive(Debug, Default)]
struct Digests {
    md5: Md5,
    sha1: Sha1,
    sha256: Sha256,
}

impl FileWriter {
    /// For one file.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self { keep_len: limits.body_inspect_len, digests: limits.file_digests.then(Box::default) }
    }

    /// Adds the next bytes.
    pub fn append(&mut self, file: &mut File, data: &[u8]) {
        let room = self.keep_len.saturating_sub(file.data.len());
        file.data.extend_from_slice(data.get(..room).unwrap_or(data));
        file.size += data.len() as u64;
        if let Some(digests) = &mut self.digests {
            digests.md5.update(data);
            digests.sha1.update(data);
            digests.sha256.update(data);
        }
    }

    /// Says that nothing more comes. A file that is not whole gets no digests: they would be those of another file.
    pub fn close(self, file: &mut File, state: FileState) {
        file.state = state;
        if let Some(digests) = self.digests.filter(|_| state == FileState::Closed && !file.gaps) {
            file.digests.md5 = Some(hex(&digests.md5.finalize()));
            file.digests.sha1 = Some(hex(&digests.sha1.finalize()));
            file.digests.sha256 = Some(hex(&digests.sha256.finalize()));
        }
    }
}

/// Lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_limit_and_digests_everything() {
        let limits = Limits { body_inspect_len: 2, file_digests: true, ..Limits::default() };
        let mut file = File::default();
        let mut writer = FileWriter::new(&limits);
        writer.append(&mut file, b"a");
        writer.append(&mut file, b"bc");
        writer.close(&mut file, FileState::Closed);
        assert_eq!((file.data.as_slice(), file.size), (b"ab".as_slice(), 3));
        assert_eq!(file.digests.md5.as_deref(), Some("900150983cd24fb0d6963f7d28e17f72"));
    }
}
