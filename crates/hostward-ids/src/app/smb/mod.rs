//! SMB 1, 2 and 3 over `NetBIOS` sessions or TCP alone, and DCE/RPC in its named pipes.
//!
//! One transaction is a request with its response; a file going one way is one of its own (its reads or writes have
//! none), and so is a call through a pipe. Encrypted and compressed messages of SMB 3 are passed over.

mod files;
mod frames;
mod names;
mod ntlmssp;
#[cfg(test)]
mod tests;
mod text;
mod v1;
mod v2;

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::json;
use smallvec::SmallVec;

use super::buffer::{Buffer, Integer};
use super::queue::Queue;
use super::{Fatal, Limits, Parser, Protocol, Stage, Transaction};
use crate::Direction::{self, ToServer};
use crate::EventName;
use files::{Handles, Key};
use frames::{Frames, Step};

/// How many requests can wait for their response, and how many trees are remembered.
const MAX_REQUESTS: usize = 256;
const MAX_TREES: usize = 128;
/// How many dialects of an offer are read.
const MAX_DIALECTS: usize = 64;
/// How many events outside of transactions wait to be taken.
const MAX_FLOW_EVENTS: usize = 16;

/// Prepares transactions of pipes and files.
type Prepare<'a> = &'a dyn Fn(&mut Transaction);

/// A parser for one flow.
#[must_use]
pub fn new(limits: &Limits) -> Smb {
    Smb {
        queue: Queue::new(limits.transactions),
        handles: Handles::new(limits),
        frames: [Frames::default(), Frames::default()],
        bulk: [None, None],
        requests: VecDeque::new(),
        trees: VecDeque::new(),
        dialect: None,
        related: None,
        events: SmallVec::new(),
    }
}

/// See [`new`].
#[derive(Debug)]
pub struct Smb {
    queue: Queue,
    handles: Handles,
    frames: [Frames; 2],
    /// What the rest of a long message is.
    bulk: [Option<Bulk>; 2],
    requests: VecDeque<Request>,
    trees: VecDeque<(u32, Tree)>,
    dialect: Option<Arc<str>>,
    /// The file that was opened last: what follows in the same compound can mean it without naming it.
    related: Option<Key>,
    events: SmallVec<[(Direction, EventName); 2]>,
}

/// Bytes of a file that continue a message which is too long to be kept.
#[derive(Clone, Debug)]
struct Bulk {
    key: Key,
    offset: u64,
    left: usize,
    facts: Facts,
}

/// A request that waits for its response.
#[derive(Debug)]
struct Request {
    facts: Facts,
    transaction: Option<u64>,
    about: About,
}

/// What has to be remembered of a request.
#[derive(Clone, Debug)]
enum About {
    Other,
    Negotiate(Vec<String>),
    Create { name: String, directory: bool },
    Tree { pipe: bool },
    Read { key: Key, offset: u64 },
    Pipe { key: Key },
}

/// What every message says of itself.
#[derive(Clone, Copy, Debug)]
struct Facts {
    version: u8,
    command: u16,
    /// What a request and its response have in common.
    id: u64,
    tree: u32,
    session: u64,
}

#[derive(Clone, Debug)]
struct Tree {
    pipe: bool,
}

impl Parser for Smb {
    fn protocol(&self) -> Protocol {
        Protocol::Smb
    }

    fn parse(&mut self, direction: Direction, mut data: &[u8]) -> Result<(), Fatal> {
        let mut frames = std::mem::take(&mut self.frames[direction as usize]);
        let mut outcome = Ok(());
        while !data.is_empty() {
            match frames.next_step(&mut data) {
                Ok(Step::More) => {}
                Ok(Step::Message(message, total)) => {
                    self.bulk[direction as usize] = None;
                    self.message(direction, message, total);
                }
                Ok(Step::Rest(rest)) => self.rest(direction, rest),
                Err(fatal) => {
                    self.raise(direction, "smb.malformed_data");
                    outcome = Err(fatal);
                    break;
                }
            }
        }
        self.frames[direction as usize] = frames;
        outcome
    }

    fn gap(&mut self, direction: Direction, len: usize) -> Result<(), Fatal> {
        let inside = self.frames[direction as usize].gap(len);
        if let Some(bulk) = &mut self.bulk[direction as usize] {
            bulk.offset = bulk.offset.saturating_add(len as u64);
            bulk.left = bulk.left.saturating_sub(len);
            let key = bulk.key;
            self.handles.gap(key, direction, &mut self.queue);
        }
        if !inside {
            self.bulk[direction as usize] = None;
        }
        Ok(())
    }

    fn close(&mut self, direction: Direction) {
        if direction == ToServer {
            self.handles.close_all(&mut self.queue);
        }
        self.queue.close(direction);
    }

    fn transactions(&mut self) -> &mut VecDeque<Transaction> {
        self.queue.all()
    }

    fn take_events(&mut self) -> SmallVec<[(Direction, EventName); 2]> {
        std::mem::take(&mut self.events)
    }
}

impl Smb {
    fn raise(&mut self, direction: Direction, event: EventName) {
        if self.events.len() < MAX_FLOW_EVENTS && !self.events.contains(&(direction, event)) {
            self.events.push((direction, event));
        }
    }

    /// A message, or the beginning of one of `total` bytes.
    fn message(&mut self, direction: Direction, message: &[u8], total: usize) {
        match message {
            [0xff, b'S', b'M', b'B', ..] => v1::message(self, direction, message, total),
            [0xfe, b'S', b'M', b'B', ..] => v2::message(self, direction, message, total),
            // Encrypted, compressed.
            [0xfd | 0xfc, b'S', b'M', b'B', ..] => {}
            _ => self.raise(direction, "smb.malformed_data"),
        }
    }

    fn rest(&mut self, direction: Direction, data: &[u8]) {
        let Some(bulk) = &mut self.bulk[direction as usize] else { return };
        let data = data.get(..bulk.left).unwrap_or(data);
        bulk.left -= data.len();
        let (key, offset, facts) = (bulk.key, bulk.offset, bulk.facts);
        bulk.offset = bulk.offset.saturating_add(data.len() as u64);
        self.file_bytes(direction, &facts, key, offset, data);
    }

    /// Bytes written or read: of a file, or through a pipe. `missing` is how many of them come later.
    fn bytes(&mut self, direction: Direction, facts: &Facts, key: Key, offset: u64, data: &[u8], missing: usize) {
        if missing == 0 && self.is_rpc(facts, key, data) {
            self.rpc(direction, facts, key, data);
            return;
        }
        self.file_bytes(direction, facts, key, offset, data);
        if missing > 0 {
            let offset = offset.saturating_add(data.len() as u64);
            self.bulk[direction as usize] = Some(Bulk { key, offset, left: missing, facts: *facts });
        }
    }

    fn is_rpc(&mut self, facts: &Facts, key: Key, data: &[u8]) -> bool {
        match self.tree(facts.tree).map(|tree| tree.pipe) {
            Some(false) => false,
            _ => self.handles.speaks_rpc(key, data, &mut self.queue),
        }
    }

    fn file_bytes(&mut self, direction: Direction, facts: &Facts, key: Key, offset: u64, data: &[u8]) {
        if data.is_empty() || self.tree(facts.tree).is_some_and(|tree| tree.pipe) {
            return;
        }
        let dialect = self.dialect.clone();
        self.handles.transfer(key, direction, offset, data, &mut self.queue, &|transaction| {
            prepare(transaction, facts, dialect.as_deref());
            transaction.log.insert("fuid".into(), super::dcerpc::pdu::uuid_text(key).into());
        });
    }

    fn rpc(&mut self, direction: Direction, facts: &Facts, key: Key, data: &[u8]) {
        let dialect = self.dialect.clone();
        let prepare = |transaction: &mut Transaction| prepare(transaction, facts, dialect.as_deref());
        self.handles.rpc(key, direction, data, &mut self.queue, &prepare);
    }

    fn tree(&self, id: u32) -> Option<&Tree> {
        self.trees.iter().find(|(known, _)| *known == id).map(|(_, tree)| tree)
    }

    fn set_tree(&mut self, id: u32, tree: Tree) {
        self.trees.retain(|(known, _)| *known != id);
        if self.trees.len() >= MAX_TREES {
            self.trees.pop_front();
        }
        self.trees.push_back((id, tree));
    }

    /// Begins the transaction of a request.
    fn begin(&mut self, facts: &Facts) -> &mut Transaction {
        let transaction = self.queue.begin();
        prepare(transaction, facts, self.dialect.as_deref());
        transaction.progress[ToServer as usize] = Stage::Complete;
        transaction
    }

    /// Remembers a request for its response.
    fn remember(&mut self, facts: Facts, transaction: Option<u64>, about: About) {
        if self.requests.len() >= MAX_REQUESTS
            && let Some(lost) = self.requests.pop_front()
            && let Some(transaction) = lost.transaction.and_then(|id| self.queue.get(id))
        {
            transaction.finish();
        }
        self.requests.push_back(Request { facts, transaction, about });
    }

    /// The request that a response belongs to. A negotiation is answered by SMB 2 where the client began with SMB 1.
    fn answered(&mut self, facts: &Facts) -> Option<Request> {
        let negotiation = facts.version == 2 && facts.command == v2::NEGOTIATE && facts.id == 0;
        let at = self.requests.iter().position(|open| {
            open.facts.id == facts.id && open.facts.version == facts.version && open.facts.command == facts.command
                || negotiation && open.facts.version == 1 && matches!(open.about, About::Negotiate(_))
        })?;
        self.requests.remove(at)
    }

    /// Completes the transaction of a request by its response; begins one if the request was not seen.
    fn finish(&mut self, request: Option<&Request>, facts: &Facts, status: u32) -> Option<&mut Transaction> {
        let id = if let Some(request) = request {
            request.transaction?
        } else {
            let transaction = self.begin(facts);
            transaction.directions[ToServer as usize] = false;
            transaction.id
        };
        let dialect = self.dialect.clone();
        let transaction = self.queue.get(id)?;
        if let Some(dialect) = dialect {
            transaction.log.insert("dialect".into(), (*dialect).into());
        }
        transaction.log.insert("status".into(), names::status(status).into());
        transaction.log.insert("status_code".into(), format!("{status:#x}").into());
        transaction.log.insert("session_id".into(), facts.session.into());
        transaction.log.insert("tree_id".into(), facts.tree.into());
        transaction.finish();
        Some(transaction)
    }

    /// Names out of a security blob.
    fn login(&mut self, blob: &[u8], id: u64) {
        let Some(transaction) = self.queue.get(id) else { return };
        match ntlmssp::find(blob) {
            ntlmssp::Found::Nothing => {}
            ntlmssp::Found::Malformed => transaction.raise(ToServer, "smb.malformed_ntlmssp_request"),
            ntlmssp::Found::Names(names) => {
                transaction.put(ToServer, Buffer::SmbNtlmsspUser, names.user.as_bytes());
                transaction.put(ToServer, Buffer::SmbNtlmsspDomain, names.domain.as_bytes());
                let names = json!({"domain": names.domain, "user": names.user, "host": names.host});
                transaction.log.insert("ntlmssp".into(), names);
            }
        }
    }

    /// A request for a tree: a pipe's or a share's name.
    fn tree_connect(&mut self, facts: Facts, share: String, service: Option<&str>) {
        let pipe = service == Some("IPC") || share.to_ascii_uppercase().ends_with("\\IPC$");
        let transaction = self.begin(&facts);
        let id = transaction.id;
        if pipe {
            transaction.put(ToServer, Buffer::SmbNamedPipe, share.as_bytes());
            transaction.log.insert("named_pipe".into(), share.into());
        } else {
            transaction.put(ToServer, Buffer::SmbShare, share.as_bytes());
            transaction.log.insert("share".into(), share.into());
        }
        if let Some(service) = service {
            transaction.log.insert("service".into(), json!({"request": service}));
        }
        self.remember(facts, Some(id), About::Tree { pipe });
    }

    /// A request to open a file.
    fn create(&mut self, facts: Facts, name: String, directory: bool) {
        let transaction = self.begin(&facts);
        transaction.log.insert("filename".into(), name.clone().into());
        let id = transaction.id;
        self.remember(facts, Some(id), About::Create { name, directory });
    }

    /// A file was opened, as the response says.
    fn created(&mut self, facts: &Facts, key: Key, name: String, directory: bool) {
        let pipe = self.tree(facts.tree).map(|tree| tree.pipe);
        self.related = Some(key);
        if !directory {
            self.handles.open(key, name, pipe, &mut self.queue);
        }
    }
}

/// What every transaction begins with.
fn prepare(transaction: &mut Transaction, facts: &Facts, dialect: Option<&str>) {
    let command =
        if facts.version == 1 { names::command1(facts.command as u8) } else { names::command2(facts.command) };
    transaction.integers.push((Integer::SmbVersion, u64::from(facts.version)));
    let log = &mut transaction.log;
    log.insert("id".into(), facts.id.into());
    log.insert("dialect".into(), dialect.unwrap_or("unknown").into());
    log.insert("command".into(), command.into());
    log.insert("session_id".into(), facts.session.into());
    log.insert("tree_id".into(), facts.tree.into());
}
