//! What is open: files with what was written to and read from them, and pipes with their calls.

use std::collections::BTreeMap;

use super::Prepare;
use crate::Direction::{self, ToClient, ToServer};
use crate::app::dcerpc::association::Association;
use crate::app::dcerpc::pdu;
use crate::app::file_writer::FileWriter;
use crate::app::queue::Queue;
use crate::app::{File, FileState, Limits, Stage, Transaction};

/// How many handles are remembered.
const MAX_HANDLES: usize = 256;
/// How many pipes are followed at a time.
const MAX_PIPES: usize = 16;
/// How much of all files waits for what lies before it, and how many pieces of one.
const MAX_WAITING_LEN: usize = 1 << 20;
const MAX_WAITING: usize = 64;

/// A file's number on the wire: 16 bytes of SMB 2, or the 2 of SMB 1.
pub type Key = [u8; 16];

/// The handles of one flow, the one used last at the end.
#[derive(Debug)]
pub struct Handles {
    limits: Limits,
    open: Vec<Handle>,
    waiting_len: usize,
}

#[derive(Debug)]
struct Handle {
    key: Key,
    name: String,
    pipe: Option<Box<Association>>,
    /// Whether it is known to be a pipe, or known to be none.
    is_pipe: Option<bool>,
    transfers: [Option<Transfer>; 2],
}

/// A file going one way.
#[derive(Debug)]
struct Transfer {
    transaction: u64,
    writer: FileWriter,
    /// Where the first byte that was seen lies, and the next one that is awaited.
    base: u64,
    position: u64,
    waiting: BTreeMap<u64, Vec<u8>>,
    waiting_len: usize,
}

impl Handles {
    /// None yet.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self { limits: limits.clone(), open: Vec::new(), waiting_len: 0 }
    }

    /// Something was opened.
    pub fn open(&mut self, key: Key, name: String, is_pipe: Option<bool>, queue: &mut Queue) {
        self.close(key, queue);
        self.insert(key, name, is_pipe, queue);
    }

    fn insert(&mut self, key: Key, name: String, is_pipe: Option<bool>, queue: &mut Queue) -> &mut Handle {
        if self.open.len() >= MAX_HANDLES {
            self.remove(0, FileState::Truncated, queue);
        }
        let at = self.open.len();
        self.open.push(Handle { key, name, pipe: None, is_pipe, transfers: [None, None] });
        &mut self.open[at]
    }

    fn get(&mut self, key: Key, queue: &mut Queue) -> &mut Handle {
        match self.open.iter().position(|handle| handle.key == key) {
            Some(at) => {
                let handle = self.open.remove(at);
                let at = self.open.len();
                self.open.push(handle);
                &mut self.open[at]
            }
            None => self.insert(key, String::new(), None, queue),
        }
    }

    /// Something was closed.
    pub fn close(&mut self, key: Key, queue: &mut Queue) {
        if let Some(at) = self.open.iter().position(|handle| handle.key == key) {
            self.remove(at, FileState::Closed, queue);
        }
    }

    fn remove(&mut self, at: usize, state: FileState, queue: &mut Queue) {
        let handle = self.open.remove(at);
        self.waiting_len -= handle.transfers.iter().flatten().map(|transfer| transfer.waiting_len).sum::<usize>();
        handle.close(state, queue);
    }

    /// The flow ended.
    pub fn close_all(&mut self, queue: &mut Queue) {
        self.waiting_len = 0;
        for handle in self.open.drain(..) {
            handle.close(FileState::Truncated, queue);
        }
    }

    /// Whether what goes through is DCE/RPC: through a pipe, or, where the opening was not seen, by its looks.
    pub fn speaks_rpc(&mut self, key: Key, data: &[u8], queue: &mut Queue) -> bool {
        let handle = self.get(key, queue);
        if handle.pipe.is_some() {
            return true;
        }
        // A pipe that carries something else shows it at once, and is none from then on.
        handle
            .is_pipe
            .unwrap_or_else(|| pdu::Header::read(data).is_some_and(|header| header.fragment_len == data.len()))
    }

    /// Bytes through a pipe.
    pub fn rpc(&mut self, key: Key, direction: Direction, data: &[u8], queue: &mut Queue, prepare: Prepare<'_>) {
        let limits = self.limits.clone();
        if self.open.iter().filter(|handle| handle.pipe.is_some() && handle.key != key).count() >= MAX_PIPES
            && let Some(oldest) = self.open.iter_mut().find(|handle| handle.pipe.is_some() && handle.key != key)
        {
            oldest.pipe = None;
        }
        let handle = self.get(key, queue);
        let pipe = handle.pipe.get_or_insert_with(|| Box::new(Association::new(&limits, Some("dcerpc"))));
        if pipe.feed(direction, data, queue, prepare).is_err() {
            // Not DCE/RPC after all.
            handle.pipe = None;
            handle.is_pipe = Some(false);
        }
    }

    /// Bytes of a file.
    pub fn transfer(
        &mut self,
        key: Key,
        direction: Direction,
        offset: u64,
        data: &[u8],
        queue: &mut Queue,
        prepare: Prepare<'_>,
    ) {
        let limits = self.limits.clone();
        self.get(key, queue);
        let all_waiting = self.waiting_len;
        let Some(handle) = self.open.last_mut() else { return };
        let mut waiting = (0, 0);
        let slot = &mut handle.transfers[direction as usize];
        let known = slot.as_ref().is_some_and(|transfer| queue.get(transfer.transaction).is_some());
        if !known {
            let transaction = queue.begin();
            prepare(transaction);
            transaction.progress = [Stage::Body; 2];
            if !handle.name.is_empty() {
                transaction.log.insert("filename".into(), handle.name.clone().into());
            }
            let name = (!handle.name.is_empty()).then(|| handle.name.clone().into_bytes());
            let gaps = slot.is_some() || offset > 0;
            waiting.0 = slot.as_ref().map_or(0, |lost| lost.waiting_len);
            transaction.files.push(File { name, direction: Some(direction), gaps, ..File::default() });
            *slot = Some(Transfer {
                transaction: transaction.id,
                writer: FileWriter::new(&limits),
                base: offset,
                position: offset,
                waiting: BTreeMap::new(),
                waiting_len: 0,
            });
        }
        if let Some(transfer) = slot
            && let Some(transaction) = queue.get(transfer.transaction)
        {
            let before = transfer.waiting_len;
            transfer.place(direction, offset, data, MAX_WAITING_LEN.saturating_sub(all_waiting), transaction);
            waiting = (waiting.0 + before, transfer.waiting_len);
        }
        self.waiting_len = all_waiting - waiting.0 + waiting.1;
    }

    /// Bytes of a file are missing.
    pub fn gap(&mut self, key: Key, direction: Direction, queue: &mut Queue) {
        if let Some(transfer) = &self.get(key, queue).transfers[direction as usize]
            && let Some(transaction) = queue.get(transfer.transaction)
            && let Some(file) = transaction.files.first_mut()
        {
            file.gaps = true;
        }
    }
}

impl Handle {
    fn close(self, state: FileState, queue: &mut Queue) {
        for transfer in self.transfers.into_iter().flatten() {
            if let Some(transaction) = queue.get(transfer.transaction) {
                if let Some(file) = transaction.files.first_mut() {
                    let state = if transfer.waiting.is_empty() { state } else { FileState::Truncated };
                    transfer.writer.close(file, state);
                }
                transaction.finish();
            }
        }
    }
}

impl Transfer {
    /// Takes bytes to where they belong; up to `room` of them can wait for those before.
    fn place(&mut self, direction: Direction, offset: u64, data: &[u8], room: usize, transaction: &mut Transaction) {
        if offset <= self.position {
            self.place_here(direction, offset, data, transaction);
        } else if data.len() <= room && self.waiting.len() < MAX_WAITING {
            if let Some(old) = self.waiting.insert(offset, data.to_vec()) {
                self.waiting_len -= old.len();
            }
            self.waiting_len += data.len();
            return;
        } else {
            // Too much waits: what is missing is given up.
            let exceeded = match (direction, self.waiting.len() < MAX_WAITING) {
                (ToServer, true) => "smb.write_queue_size_exceeded",
                (ToServer, false) => "smb.write_queue_cnt_exceeded",
                (ToClient, true) => "smb.read_queue_size_exceeded",
                (ToClient, false) => "smb.read_queue_cnt_exceeded",
            };
            transaction.raise(direction, exceeded);
            while self.position < offset {
                self.position = self.waiting.keys().next().map_or(offset, |first| *first.min(&offset));
                if let Some(file) = transaction.files.first_mut() {
                    file.gaps = true;
                }
                self.drain(transaction);
            }
            self.place_here(direction, offset, data, transaction);
        }
        self.drain(transaction);
    }

    /// What begins at the awaited position, or before it: then the last writer wins, as on the server.
    fn place_here(&mut self, direction: Direction, offset: u64, data: &[u8], transaction: &mut Transaction) {
        let Some(file) = transaction.files.first_mut() else { return };
        let known = usize::try_from(self.position.saturating_sub(offset)).unwrap_or(usize::MAX).min(data.len());
        let (old, new) = data.split_at(known);
        if !old.is_empty()
            && let Some(start) = offset.checked_sub(self.base)
            && (!file.gaps || self.position - self.base == file.size)
            && let Some(kept) = file.data.get_mut(usize::try_from(start).unwrap_or(usize::MAX)..)
        {
            let len = kept.len().min(old.len());
            kept[..len].copy_from_slice(&old[..len]);
        }
        self.append(new, transaction);
        if !old.is_empty() && direction == ToServer {
            transaction.raise(ToServer, "smb.file_overlap");
            transaction.raise(ToClient, "smb.file_overlap");
        }
    }

    fn append(&mut self, data: &[u8], transaction: &mut Transaction) {
        if let Some(file) = transaction.files.first_mut() {
            self.writer.append(file, data);
        }
        self.position = self.position.saturating_add(data.len() as u64);
    }

    fn drain(&mut self, transaction: &mut Transaction) {
        while let Some(first) = self.waiting.first_entry()
            && *first.key() <= self.position
        {
            let (offset, data) = first.remove_entry();
            self.waiting_len -= data.len();
            let skip = usize::try_from(self.position - offset).unwrap_or(usize::MAX);
            self.append(data.get(skip..).unwrap_or_default(), transaction);
        }
    }
}

#[cfg(test)]
impl Handles {
    /// How much waits, as counted and as it is.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let transfers = self.open.iter().flat_map(|handle| handle.transfers.iter().flatten());
        (self.waiting_len, transfers.flat_map(|transfer| transfer.waiting.values()).map(Vec::len).sum())
    }
}
