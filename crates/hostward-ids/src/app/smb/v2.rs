//! Messages of SMB 2 and 3 (MS-SMB2 §2.2).

use serde_json::json;

use super::files::Key;
use super::{About, Facts, MAX_DIALECTS, Smb, Tree, names, text};
use crate::Direction::{self, ToClient, ToServer};
use crate::app::cursor::Cursor;

pub(super) const NEGOTIATE: u16 = 0;
const SESSION_SETUP: u16 = 1;
const TREE_CONNECT: u16 = 3;
const CREATE: u16 = 5;
const CLOSE: u16 = 6;
const READ: u16 = 8;
const WRITE: u16 = 9;
const IOCTL: u16 = 11;
const CANCEL: u16 = 12;
const OPLOCK_BREAK: u16 = 18;

const HEADER_LEN: usize = 64;
/// How many messages of one compound are read.
const MAX_COMPOUND: usize = 64;
const PENDING: u32 = 0x103;
const FLAG_RESPONSE: u32 = 1;
const FLAG_ASYNC: u32 = 2;
/// `FSCTL_PIPE_TRANSCEIVE`.
const PIPE_TRANSCEIVE: u32 = 0x0011_c017;
/// `FILE_DIRECTORY_FILE`.
const DIRECTORY: u32 = 1;
/// "The file opened before, in this compound."
const RELATED: Key = [0xff; 16];

/// One message of a compound.
struct Record<'a> {
    facts: Facts,
    status: u32,
    /// The message from its header on, and its body.
    whole: &'a [u8],
    body: Cursor<'a>,
    /// How many of its bytes come later.
    missing: usize,
}

impl<'a> Record<'a> {
    /// Bytes at an offset from the header, and how many of them come later; `None` if they do not fit.
    fn at(&self, offset: usize, len: usize) -> Option<(&'a [u8], usize)> {
        let end = offset.checked_add(len)?;
        if end > self.whole.len() + self.missing || offset > self.whole.len() {
            return None;
        }
        let data = self.whole.get(offset..end.min(self.whole.len()))?;
        Some((data, len - data.len()))
    }
}

pub(super) fn message(smb: &mut Smb, direction: Direction, data: &[u8], total: usize) {
    let mut offset = 0;
    for _ in 0..MAX_COMPOUND {
        let Some(here) = data.get(offset..) else { return };
        let Some((next, response, record)) = read(here, total - offset) else {
            smb.raise(direction, "smb.malformed_data");
            return;
        };
        let handled = match (direction, response) {
            (ToServer, false) => request(smb, record),
            (ToClient, true) => self::response(smb, record),
            (ToServer, true) => {
                smb.raise(direction, "smb.response_to_server");
                Some(())
            }
            // A server may break an oplock unasked; it is a response by its flag. Nothing else comes unasked.
            (ToClient, false) => {
                smb.raise(direction, "smb.request_to_client");
                Some(())
            }
        };
        if handled.is_none() {
            smb.raise(direction, "smb.malformed_data");
        }
        if next < HEADER_LEN {
            return;
        }
        offset += next;
    }
}

fn read(data: &[u8], total: usize) -> Option<(usize, bool, Record<'_>)> {
    let mut cursor = Cursor::little(data);
    cursor.take(4)?;
    let (size, _, status, command, _) = (cursor.u16()?, cursor.u16()?, cursor.u32()?, cursor.u16()?, cursor.u16()?);
    let (flags, next, id) = (cursor.u32()?, cursor.u32()?, cursor.u64()?);
    let (_, tree, session) = (cursor.u32()?, cursor.u32()?, cursor.u64()?);
    cursor.take(16)?;
    if usize::from(size) != HEADER_LEN {
        return None;
    }
    let next = usize::try_from(next).ok()?;
    let len = if next == 0 { total } else { next.min(total) };
    let whole = data.get(..len).unwrap_or(data);
    let tree = if flags & FLAG_ASYNC == 0 { tree } else { 0 };
    let record = Record {
        facts: Facts { version: 2, command, id, tree, session },
        status,
        whole,
        body: Cursor::little(whole.get(HEADER_LEN..)?),
        missing: len - whole.len(),
    };
    Some((next, flags & FLAG_RESPONSE != 0, record))
}

fn request(smb: &mut Smb, record: Record<'_>) -> Option<()> {
    let facts = record.facts;
    let mut body = record.body;
    match facts.command {
        NEGOTIATE => negotiate(smb, facts, body)?,
        SESSION_SETUP => {
            let id = smb.begin(&facts).id;
            smb.remember(facts, Some(id), About::Other);
            body.take(12)?;
            let (offset, len) = (body.u16()?, body.u16()?);
            smb.login(record.at(usize::from(offset), usize::from(len))?.0, id);
        }
        TREE_CONNECT => {
            body.take(4)?;
            let (offset, len) = (body.u16()?, body.u16()?);
            let share = text::whole(record.at(usize::from(offset), usize::from(len))?.0, true);
            smb.tree_connect(facts, share, None);
        }
        CREATE => {
            body.take(36)?;
            body.take(4)?;
            let (options, offset, len) = (body.u32()?, body.u16()?, body.u16()?);
            let name = if len == 0 { &[] } else { record.at(usize::from(offset), usize::from(len))?.0 };
            let name = text::whole(name, true);
            let directory = options & DIRECTORY != 0;
            if !directory {
                let pipe = smb.tree(facts.tree).map(|tree| tree.pipe);
                smb.handles.open(RELATED, name.clone(), pipe, &mut smb.queue);
            }
            smb.create(facts, name, directory);
        }
        CLOSE => {
            body.take(8)?;
            let key = body.array()?;
            let id = smb.begin(&facts).id;
            smb.remember(facts, Some(id), About::Other);
            smb.handles.close(key, &mut smb.queue);
        }
        READ => {
            body.take(8)?;
            let (offset, key) = (body.u64()?, body.array()?);
            smb.remember(facts, None, About::Read { key, offset });
        }
        WRITE => {
            body.take(2)?;
            let (start, len, offset, key) = (body.u16()?, body.u32()?, body.u64()?, body.array()?);
            let (data, missing) = record.at(usize::from(start), usize::try_from(len).ok()?)?;
            smb.remember(facts, None, About::Other);
            smb.bytes(ToServer, &facts, key, offset, data, missing);
        }
        IOCTL => {
            body.take(4)?;
            let (function, key) = (body.u32()?, body.array()?);
            let (offset, len) = (body.u32()?, body.u32()?);
            let (data, missing) = record.at(usize::try_from(offset).ok()?, usize::try_from(len).ok()?)?;
            if function == PIPE_TRANSCEIVE && missing == 0 && smb.handles.speaks_rpc(key, data, &mut smb.queue) {
                smb.remember(facts, None, About::Pipe { key });
                smb.rpc(ToServer, &facts, key, data);
                return Some(());
            }
            let id = smb.begin(&facts).id;
            smb.remember(facts, Some(id), About::Other);
        }
        CANCEL => smb.begin(&facts).finish(),
        _ => {
            let id = smb.begin(&facts).id;
            smb.remember(facts, Some(id), About::Other);
        }
    }
    Some(())
}

fn negotiate(smb: &mut Smb, facts: Facts, mut body: Cursor<'_>) -> Option<()> {
    let id = smb.begin(&facts).id;
    body.take(2)?;
    let count = body.u16()?;
    body.take(8)?;
    let client = body.array()?;
    body.take(8)?;
    let mut dialects = Vec::new();
    for _ in 0..usize::from(count).min(MAX_DIALECTS) {
        dialects.push(names::dialect2(body.u16()?).to_owned());
    }
    if let Some(transaction) = smb.queue.get(id) {
        transaction.log.insert("client_dialects".into(), dialects.clone().into());
        let client = crate::app::dcerpc::pdu::uuid_text(crate::app::dcerpc::pdu::uuid(client, true));
        transaction.log.insert("client_guid".into(), client.into());
    }
    smb.remember(facts, Some(id), About::Negotiate(dialects));
    Some(())
}

fn response(smb: &mut Smb, record: Record<'_>) -> Option<()> {
    let facts = &record.facts;
    if record.status == PENDING || facts.command == OPLOCK_BREAK && facts.id == u64::MAX {
        return Some(());
    }
    let request = smb.answered(facts);
    let about = request.as_ref().map_or(About::Other, |request| request.about.clone());
    // The tree of an answer that came late is known from its request only.
    let mut facts = *facts;
    if let Some(request) = request.as_ref().filter(|_| facts.tree == 0) {
        facts.tree = request.facts.tree;
    }
    let mut body = record.body;
    match facts.command {
        NEGOTIATE => {
            body.take(4)?;
            let dialect = body.u16()?;
            body.take(2)?;
            let server = body.array()?;
            smb.dialect = Some(names::dialect2(dialect).into());
            let unasked = match &about {
                About::Negotiate(asked) if request.as_ref().is_some_and(|request| request.facts.version == 2) => {
                    !asked.iter().any(|known| known == names::dialect2(dialect))
                }
                _ => false,
            };
            if let Some(transaction) = smb.finish(request.as_ref(), &facts, record.status) {
                let server = crate::app::dcerpc::pdu::uuid_text(crate::app::dcerpc::pdu::uuid(server, true));
                transaction.log.insert("server_guid".into(), server.into());
                if unasked {
                    transaction.raise(ToClient, "smb.negotiate_malformed_dialects");
                }
            }
        }
        READ => {
            if record.status != 0 && record.status != 0x8000_0005 {
                return Some(());
            }
            let About::Read { key, offset } = about else { return Some(()) };
            let key = if key == RELATED { smb.related.unwrap_or(key) } else { key };
            body.take(2)?;
            let (start, _, len) = (body.u8()?, body.u8()?, body.u32()?);
            let (data, missing) = record.at(usize::from(start), usize::try_from(len).ok()?)?;
            smb.bytes(ToClient, &facts, key, offset, data, missing);
        }
        WRITE => {}
        IOCTL if matches!(about, About::Pipe { .. }) => {
            let About::Pipe { key } = about else { return Some(()) };
            if record.status != 0 && record.status != 0x8000_0005 {
                return Some(());
            }
            body.take(24)?;
            body.take(8)?;
            let (offset, len) = (body.u32()?, body.u32()?);
            let (data, _) = record.at(usize::try_from(offset).ok()?, usize::try_from(len).ok()?)?;
            smb.rpc(ToClient, &facts, key, data);
        }
        TREE_CONNECT => {
            let accepted = record.status == 0;
            let kind = if accepted { body.take(2).and_then(|_| body.u8()) } else { None };
            if let About::Tree { pipe, .. } = about
                && accepted
            {
                smb.set_tree(facts.tree, Tree { pipe: pipe || kind == Some(2) });
            }
            if let Some(transaction) = smb.finish(request.as_ref(), &facts, record.status)
                && let Some(kind) = kind
            {
                let kind = match kind {
                    1 => "FILE",
                    2 => "PIPE",
                    3 => "PRINT",
                    _ => "UNKNOWN",
                };
                transaction.log.insert("share_type".into(), json!(kind));
            }
        }
        CREATE => {
            let accepted = record.status == 0;
            let key = if accepted { body.take(64).and_then(|_| body.array()) } else { None };
            if let (About::Create { name, directory }, Some(key)) = (about, key) {
                smb.created(&facts, key, name, directory);
            }
            if let Some(transaction) = smb.finish(request.as_ref(), &facts, record.status)
                && let Some(key) = key
            {
                transaction.log.insert("fuid".into(), crate::app::dcerpc::pdu::uuid_text(key).into());
            }
        }
        _ => {
            smb.finish(request.as_ref(), &facts, record.status);
        }
    }
    Some(())
}
