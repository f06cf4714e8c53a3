//! Lines in a file that is replaced by a new one when it has its size; so many of the old are kept.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use crate::ipfix::counts::Counts;

/// Octets that wait to be written together.
const BUFFER: usize = 1 << 16;
/// Who has these addresses is nobody else's business.
const MODE: u32 = 0o640;

/// A file of lines: `PATH`, and behind it `PATH.1`, `PATH.2` …, which are older.
pub struct Lines {
    path: PathBuf,
    limit: u64,
    kept: u32,
    file: Option<File>,
    length: u64,
    buffer: Vec<u8>,
    waiting: u64,
}

impl Lines {
    /// Appends to a file of at most `limit` octets, and keeps `kept` that are full.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path, limit: u64, kept: u32) -> io::Result<Self> {
        let mut lines = Self {
            path: path.to_owned(),
            limit,
            kept,
            file: None,
            length: 0,
            buffer: Vec::with_capacity(BUFFER),
            waiting: 0,
        };
        lines.reopen()?;
        Ok(lines)
    }

    /// Adds a line; `write` writes it without its end.
    pub fn add(&mut self, counts: &mut Counts, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.buffer.len();
        write(&mut self.buffer);
        self.buffer.push(b'\n');
        if self.length + self.buffer.len() as u64 > self.limit && self.length + before as u64 > 0 {
            let next = self.buffer.split_off(before);
            self.flush(counts);
            self.rotate();
            self.buffer = next;
        }
        self.waiting += 1;
        if self.buffer.len() >= BUFFER {
            self.flush(counts);
        }
    }

    /// Writes what waits. What the file system refuses is lost whole: half a line would spoil the next.
    pub fn flush(&mut self, counts: &mut Counts) {
        if self.buffer.is_empty() {
            return;
        }
        let (lines, length) = (std::mem::take(&mut self.waiting), self.buffer.len() as u64);
        if self.write().is_ok() {
            counts.lines += lines;
            self.length += length;
        } else {
            counts.lines_lost += lines;
            if let Some(file) = self.file.take() {
                // Else the next line begins behind half a one.
                let _ = file.set_len(self.length);
            }
        }
        self.buffer.clear();
    }

    fn write(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            self.reopen()?;
        }
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        file.write_all(&self.buffer)
    }

    fn reopen(&mut self) -> io::Result<()> {
        let file = OpenOptions::new().append(true).create(true).mode(MODE).open(&self.path)?;
        self.length = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Moves every file one further; the last is no more. What cannot be moved is appended to.
    fn rotate(&mut self) {
        self.file = None;
        let older = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        if self.kept == 0 {
            let _ = fs::remove_file(&self.path);
        } else {
            for number in (1..self.kept).rev() {
                let _ = fs::rename(older(number), older(number + 1));
            }
            let _ = fs::rename(&self.path, older(1));
        }
        self.length = 0;
        let _ = self.reopen();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("hostward-lines-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn add(lines: &mut Lines, counts: &mut Counts, text: &str) {
        lines.add(counts, |out| out.extend(text.as_bytes()));
    }

    #[test]
    fn a_full_file_makes_room_and_only_so_many_are_kept() {
        let folder = folder("full");
        let path = folder.join("flows.json");
        let mut counts = Counts::default();
        let mut lines = Lines::open(&path, 20, 2).unwrap();
        for number in 0..9 {
            add(&mut lines, &mut counts, &format!("line {number}"));
        }
        lines.flush(&mut counts);
        assert_eq!(fs::read_to_string(&path).unwrap(), "line 8\n");
        assert_eq!(fs::read_to_string(folder.join("flows.json.1")).unwrap(), "line 6\nline 7\n");
        assert_eq!(fs::read_to_string(folder.join("flows.json.2")).unwrap(), "line 4\nline 5\n");
        assert!(!folder.join("flows.json.3").exists());
        assert_eq!((counts.lines, counts.lines_lost), (9, 0));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_restart_appends_and_what_cannot_be_written_is_counted() {
        let folder = folder("restart");
        let path = folder.join("flows.json");
        let mut counts = Counts::default();
        for _ in 0..2 {
            let mut lines = Lines::open(&path, 1_000, 0).unwrap();
            add(&mut lines, &mut counts, "x");
            lines.flush(&mut counts);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "x\nx\n");
        let mut lines =
            Lines { path: folder.join("gone/flows.json"), file: None, ..Lines::open(&path, 1_000, 0).unwrap() };
        add(&mut lines, &mut counts, "y");
        lines.flush(&mut counts);
        assert_eq!((counts.lines, counts.lines_lost), (2, 1));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_full_disk_leaves_no_half_lines() {
        let mut counts = Counts::default();
        let mut lines = Lines::open(Path::new("/dev/full"), 1_000, 0).unwrap();
        add(&mut lines, &mut counts, "x");
        lines.flush(&mut counts);
        assert_eq!((counts.lines, counts.lines_lost), (0, 1));
    }
}
