//! A data connection of FTP: one file, or a listing.

use std::collections::VecDeque;

use crate::Direction;
use crate::app::buffer::Integer;
use crate::app::file_writer::FileWriter;
use crate::app::queue::Queue;
use crate::app::{Expected, Fatal, File, FileState, Limits, Parser, Protocol, Stage, Transaction};

/// A parser for a flow that a control connection announced.
#[must_use]
pub fn new(limits: &Limits, announced: Option<&Expected>) -> FtpData {
    FtpData {
        queue: Queue::new(1),
        limits: limits.clone(),
        command: announced.map(|announced| announced.command.clone()).unwrap_or_default(),
        file_name: announced.and_then(|announced| announced.file_name.clone()),
        begun: None,
        writer: None,
    }
}

/// See [`new`].
#[derive(Debug)]
pub struct FtpData {
    queue: Queue,
    limits: Limits,
    command: Vec<u8>,
    file_name: Option<Vec<u8>>,
    begun: Option<Direction>,
    writer: Option<FileWriter>,
}

impl FtpData {
    fn begin(&mut self, direction: Direction) {
        self.begun = Some(direction);
        let transaction = self.queue.begin();
        transaction.directions[direction.reversed() as usize] = false;
        transaction.progress[direction as usize] = Stage::Body;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if !self.command.is_empty() {
            match self.command.as_slice() {
                b"RETR" => transaction.integers.push((Integer::FtpDataCommand, 1)),
                b"STOR" | b"STOU" | b"APPE" => transaction.integers.push((Integer::FtpDataCommand, 2)),
                _ => {}
            }
            transaction.log.insert("command".into(), text(&self.command).into());
        }
        if let Some(name) = &self.file_name {
            transaction.log.insert("filename".into(), text(name).into());
            transaction.files.push(File { name: Some(name.clone()), direction: Some(direction), ..File::default() });
            self.writer = Some(FileWriter::new(&self.limits));
        }
    }
}

impl Parser for FtpData {
    fn protocol(&self) -> Protocol {
        Protocol::FtpData
    }

    fn parse(&mut self, direction: Direction, data: &[u8]) -> Result<(), Fatal> {
        if self.begun.is_none() {
            self.begin(direction);
        }
        if self.begun == Some(direction)
            && let Some(writer) = &mut self.writer
            && let Some(file) = self.queue.last().and_then(|transaction| transaction.files.first_mut())
        {
            writer.append(file, data);
        }
        Ok(())
    }

    fn gap(&mut self, direction: Direction, _: usize) -> Result<(), Fatal> {
        if self.begun.is_none() {
            self.begin(direction);
        }
        if let Some(file) = self.queue.last().and_then(|transaction| transaction.files.first_mut()) {
            file.gaps = true;
        }
        Ok(())
    }

    fn close(&mut self, direction: Direction) {
        if self.begun == Some(direction)
            && let Some(writer) = self.writer.take()
            && let Some(file) = self.queue.last().and_then(|transaction| transaction.files.first_mut())
        {
            writer.close(file, FileState::Closed);
        }
        self.queue.close(direction);
    }

    fn transactions(&mut self) -> &mut VecDeque<Transaction> {
        self.queue.all()
    }
}
