//! Events on their way to the agent's log: never waited for, and counted where they find no room.

use std::io::ErrorKind;
use std::io::Write;

/// What may wait for a slow reader, in bytes.
const ROOM: usize = 8 << 20;

/// A pipe that is written without blocking.
pub struct Log<W> {
    pipe: W,
    waiting: Vec<u8>,
    sent: usize,
    /// Events that were given away whole.
    pub written: u64,
    /// Events that found no room.
    pub lost: u64,
}

impl<W: Write> Log<W> {
    /// Over a pipe that does not block.
    pub fn new(pipe: W) -> Self {
        Self { pipe, waiting: Vec::new(), sent: 0, written: 0, lost: 0 }
    }

    /// Adds one event, a line without its end.
    pub fn push(&mut self, line: &[u8]) {
        if self.waiting.len() - self.sent + line.len() >= ROOM {
            self.lost += 1;
            return;
        }
        self.waiting.extend_from_slice(line);
        self.waiting.push(b'\n');
        self.written += 1;
        if self.waiting.len() - self.sent > 1 << 16 {
            self.flush();
        }
    }

    /// Gives away what the pipe takes; `false` once its reader is gone.
    pub fn flush(&mut self) -> bool {
        while self.sent < self.waiting.len() {
            match self.pipe.write(&self.waiting[self.sent..]) {
                Ok(0) => return false,
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        if self.sent == self.waiting.len() {
            self.waiting.clear();
            self.sent = 0;
        } else if self.sent > 1 << 20 {
            self.waiting.drain(..self.sent);
            self.sent = 0;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    /// Takes `room` bytes, then blocks.
    struct Narrow {
        room: usize,
        got: Vec<u8>,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            self.room -= count;
            self.got.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_slow_reader_gets_whole_lines_and_losses_are_counted() {
        let mut log = Log::new(Narrow { room: 0, got: Vec::new() });
        let line = vec![b'x'; 1 << 20];
        for _ in 0..10 {
            log.push(&line);
        }
        assert_eq!((log.written, log.lost), (7, 3));
        assert!(log.flush());
        log.pipe.room = usize::MAX;
        assert!(log.flush());
        assert_eq!(log.pipe.got.len(), 7 * (line.len() + 1));
        assert!(log.pipe.got.chunks(line.len() + 1).all(|chunk| chunk.ends_with(b"x\n")));
    }
}
