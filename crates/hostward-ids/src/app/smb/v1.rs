//! Messages of SMB 1 (MS-CIFS §2.2, MS-SMB §2.2).

use serde_json::json;

use super::files::Key;
use super::{About, Facts, MAX_DIALECTS, Smb, Tree, text};
use crate::Direction::{self, ToClient, ToServer};
use crate::app::cursor::Cursor;

const CLOSE: u8 = 0x04;
const WRITE: u8 = 0x0b;
const TRANS: u8 = 0x25;
const WRITE_AND_CLOSE: u8 = 0x2c;
const OPEN_ANDX: u8 = 0x2d;
const READ_ANDX: u8 = 0x2e;
const WRITE_ANDX: u8 = 0x2f;
const TREE_DISCONNECT: u8 = 0x71;
const NEGOTIATE: u8 = 0x72;
const SESSION_SETUP_ANDX: u8 = 0x73;
const TREE_CONNECT_ANDX: u8 = 0x75;
const NT_CREATE_ANDX: u8 = 0xa2;
const NO_ANDX: u8 = 0xff;

const HEADER_LEN: usize = 32;
/// How many commands of one `AndX` chain are read.
const MAX_CHAIN: usize = 16;
const REPLY: u8 = 0x80;
const UNICODE: u16 = 0x8000;
/// `TransactNmPipe`.
const TRANSACT_PIPE: u16 = 0x26;
/// `FILE_DIRECTORY_FILE`.
const DIRECTORY: u32 = 1;
const BUFFER_OVERFLOW: u32 = 0x8000_0005;

/// One command of a message.
struct Command<'a> {
    code: u8,
    facts: Facts,
    status: u32,
    unicode: bool,
    message: &'a [u8],
    /// How many bytes of the message come later.
    missing: usize,
    words: &'a [u8],
    /// What follows the words, and where it lies in the message.
    bytes: &'a [u8],
    bytes_offset: usize,
}

impl<'a> Command<'a> {
    fn words(&self) -> Cursor<'a> {
        Cursor::little(self.words)
    }

    /// Bytes at an offset of the message, and how many of them come later.
    fn at(&self, offset: usize, len: usize) -> Option<(&'a [u8], usize)> {
        if offset > self.message.len() || offset + len > self.message.len() + self.missing {
            return None;
        }
        let data = self.message.get(offset..(offset + len).min(self.message.len()))?;
        Some((data, len - data.len()))
    }
}

pub(super) fn message(smb: &mut Smb, direction: Direction, message: &[u8], total: usize) {
    let missing = total - message.len();
    let Some((mut code, reply, status, unicode, facts)) = header(message) else {
        smb.raise(direction, "smb.malformed_data");
        return;
    };
    match (direction, reply) {
        (ToServer, true) => return smb.raise(direction, "smb.response_to_server"),
        (ToClient, false) => return smb.raise(direction, "smb.request_to_client"),
        _ => {}
    }
    let mut offset = HEADER_LEN;
    for _ in 0..MAX_CHAIN {
        let facts = Facts { command: u16::from(code), ..facts };
        let Some(command) = command(code, facts, status, unicode, message, missing, offset) else {
            smb.raise(direction, "smb.malformed_data");
            return;
        };
        let mut words = command.words();
        let (next, next_offset) = (words.u8(), words.take(1).and_then(|_| words.u16()));
        let handled = if reply { response(smb, command) } else { request(smb, command) };
        if handled.is_none() {
            smb.raise(direction, "smb.malformed_data");
        }
        let (Some(next), Some(next_offset)) = (next.filter(|_| has_andx(code)), next_offset) else { return };
        // Only forwards, so that a chain ends.
        if next == NO_ANDX || usize::from(next_offset) <= offset {
            return;
        }
        code = next;
        offset = usize::from(next_offset);
    }
}

fn has_andx(code: u8) -> bool {
    matches!(
        code,
        0x24 | OPEN_ANDX | READ_ANDX | WRITE_ANDX | SESSION_SETUP_ANDX | 0x74 | TREE_CONNECT_ANDX | NT_CREATE_ANDX
    )
}

fn header(message: &[u8]) -> Option<(u8, bool, u32, bool, Facts)> {
    let mut cursor = Cursor::little(message);
    cursor.take(4)?;
    let (code, status, flags, flags2) = (cursor.u8()?, cursor.u32()?, cursor.u8()?, cursor.u16()?);
    cursor.take(12)?;
    let (tree, process, user, multiplex) = (cursor.u16()?, cursor.u16()?, cursor.u16()?, cursor.u16()?);
    let facts = Facts {
        version: 1,
        command: u16::from(code),
        id: u64::from(process) << 16 | u64::from(multiplex),
        tree: u32::from(tree),
        session: u64::from(user),
    };
    Some((code, flags & REPLY != 0, status, flags2 & UNICODE != 0, facts))
}

fn command(
    code: u8,
    facts: Facts,
    status: u32,
    unicode: bool,
    message: &[u8],
    missing: usize,
    offset: usize,
) -> Option<Command<'_>> {
    let mut cursor = Cursor::little(message.get(offset..)?);
    let words_len = 2 * usize::from(cursor.u8()?);
    let words = cursor.take(words_len)?;
    let count = usize::from(cursor.u16().unwrap_or_default());
    let bytes = cursor.rest();
    let bytes_offset = message.len() - bytes.len();
    let bytes = bytes.get(..count).unwrap_or(bytes);
    Some(Command { code, facts, status, unicode, message, missing, words, bytes, bytes_offset })
}

fn key(file: u16) -> Key {
    let mut key = Key::default();
    key[..2].copy_from_slice(&file.to_be_bytes());
    key
}

fn request(smb: &mut Smb, command: Command<'_>) -> Option<()> {
    let mut words = command.words();
    let facts = command.facts;
    match command.code {
        NEGOTIATE => {
            let dialects: Vec<String> = command
                .bytes
                .split(|&byte| byte == 0)
                .filter_map(|dialect| dialect.strip_prefix(b"\x02"))
                .map(|dialect| String::from_utf8_lossy(dialect).into_owned())
                .take(MAX_DIALECTS)
                .collect();
            let transaction = smb.begin(&facts);
            transaction.log.insert("client_dialects".into(), dialects.clone().into());
            let id = transaction.id;
            smb.remember(facts, Some(id), About::Negotiate(dialects));
        }
        SESSION_SETUP_ANDX => {
            let id = smb.begin(&facts).id;
            smb.remember(facts, Some(id), About::Other);
            if command.words.len() == 24 {
                words.take(14)?;
                let len = usize::from(words.u16()?);
                smb.login(command.bytes.get(..len).unwrap_or(command.bytes), id);
            }
        }
        TREE_CONNECT_ANDX => {
            words.take(6)?;
            let password_len = usize::from(words.u16()?);
            let path = command.bytes.get(password_len..)?;
            let (share, rest) = text::terminated(path, command.bytes_offset + password_len, command.unicode);
            let (service, _) = text::terminated(rest, 0, false);
            smb.tree_connect(facts, share, Some(&service));
        }
        NT_CREATE_ANDX => {
            words.take(5)?;
            let len = usize::from(words.u16()?);
            words.take(4 + 4 + 4 + 8 + 4 + 4 + 4)?;
            let options = words.u32()?;
            let padding = if command.unicode { command.bytes_offset % 2 } else { 0 };
            let name = command.bytes.get(padding..)?;
            let name = text::whole(name.get(..len).unwrap_or(name), command.unicode);
            smb.create(facts, name, options & DIRECTORY != 0);
        }
        OPEN_ANDX => {
            let (name, _) = text::terminated(command.bytes, command.bytes_offset, command.unicode);
            smb.create(facts, name, false);
        }
        READ_ANDX => {
            words.take(4)?;
            let (file, low) = (words.u16()?, words.u32()?);
            words.take(10)?;
            let high = words.u32().unwrap_or_default();
            let offset = u64::from(high) << 32 | u64::from(low);
            smb.remember(facts, None, About::Read { key: key(file), offset });
        }
        WRITE_ANDX => {
            words.take(4)?;
            let (file, low) = (words.u16()?, words.u32()?);
            words.take(8)?;
            let (len_high, len, start) = (words.u16()?, words.u16()?, words.u16()?);
            let high = words.u32().unwrap_or_default();
            let offset = u64::from(high) << 32 | u64::from(low);
            let len = usize::from(len_high) << 16 | usize::from(len);
            let (data, missing) = command.at(usize::from(start), len)?;
            smb.remember(facts, None, About::Other);
            smb.bytes(ToServer, &facts, key(file), offset, data, missing);
        }
        WRITE | WRITE_AND_CLOSE => {
            let (file, len, offset) = (words.u16()?, words.u16()?, words.u32()?);
            // A format byte and a second length come first, or three bytes of padding.
            let data = command.bytes.get(3..)?;
            let data = data.get(..usize::from(len)).unwrap_or(data);
            smb.remember(facts, None, About::Other);
            smb.bytes(ToServer, &facts, key(file), u64::from(offset), data, 0);
            if command.code == WRITE_AND_CLOSE {
                smb.handles.close(key(file), &mut smb.queue);
            }
        }
        CLOSE => {
            let file = words.u16()?;
            let id = smb.begin(&facts).id;
            smb.remember(facts, Some(id), About::Other);
            smb.handles.close(key(file), &mut smb.queue);
        }
        TRANS => return trans(smb, &command),
        _ => {
            let id = smb.begin(&facts).id;
            smb.remember(facts, Some(id), About::Other);
        }
    }
    Some(())
}

/// A transaction; those that go through pipes are calls.
fn trans(smb: &mut Smb, command: &Command<'_>) -> Option<()> {
    let facts = command.facts;
    let mut words = command.words();
    words.take(22)?;
    let (len, offset, setup_len) = (words.u16()?, words.u16()?, words.u16()?);
    let (function, file) = (words.u16().unwrap_or_default(), words.u16().unwrap_or_default());
    if setup_len & 0xff >= 2 && function == TRANSACT_PIPE {
        let (data, missing) = command.at(usize::from(offset), usize::from(len))?;
        if missing == 0 && smb.handles.speaks_rpc(key(file), data, &mut smb.queue) {
            smb.remember(facts, None, About::Pipe { key: key(file) });
            smb.rpc(ToServer, &facts, key(file), data);
            return Some(());
        }
    }
    let id = smb.begin(&facts).id;
    smb.remember(facts, Some(id), About::Other);
    Some(())
}

fn response(smb: &mut Smb, command: Command<'_>) -> Option<()> {
    let mut words = command.words();
    let facts = command.facts;
    let request = smb.answered(&facts);
    let about = request.as_ref().map_or(About::Other, |request| request.about.clone());
    let succeeded = command.status == 0 || command.status == BUFFER_OVERFLOW;
    match command.code {
        NEGOTIATE => {
            if let About::Negotiate(asked) = &about
                && let Some(index) = words.u16()
                && let Some(dialect) = asked.get(usize::from(index))
            {
                smb.dialect = Some(dialect.as_str().into());
            }
            smb.finish(request.as_ref(), &facts, command.status);
        }
        TREE_CONNECT_ANDX => {
            let (service, _) = text::terminated(command.bytes, 0, false);
            if let About::Tree { pipe, .. } = about
                && succeeded
            {
                smb.set_tree(facts.tree, Tree { pipe: pipe || service == "IPC" });
            }
            if let Some(transaction) = smb.finish(request.as_ref(), &facts, command.status) {
                let asked = transaction.log.get("service").and_then(|service| service.get("request")).cloned();
                transaction.log.insert("service".into(), json!({"request": asked, "response": service}));
            }
        }
        TREE_DISCONNECT => {
            smb.trees.retain(|(known, _)| *known != facts.tree);
            smb.finish(request.as_ref(), &facts, command.status);
        }
        NT_CREATE_ANDX | OPEN_ANDX => {
            if let About::Create { name, directory } = about
                && succeeded
            {
                words.take(if command.code == NT_CREATE_ANDX { 5 } else { 4 })?;
                let file = words.u16()?;
                smb.created(&facts, key(file), name, directory);
            }
            smb.finish(request.as_ref(), &facts, command.status);
        }
        READ_ANDX => {
            let About::Read { key, offset } = about else { return Some(()) };
            if !succeeded {
                return Some(());
            }
            words.take(10)?;
            let (len, start, len_high) = (words.u16()?, words.u16()?, words.u16()?);
            let len = usize::from(len_high) << 16 | usize::from(len);
            let (data, missing) = command.at(usize::from(start), len)?;
            smb.bytes(ToClient, &facts, key, offset, data, missing);
        }
        WRITE_ANDX | WRITE | WRITE_AND_CLOSE => {}
        TRANS if matches!(about, About::Pipe { .. }) => {
            let About::Pipe { key } = about else { return Some(()) };
            if !succeeded {
                return Some(());
            }
            words.take(12)?;
            let (len, offset) = (words.u16()?, words.u16()?);
            let (data, _) = command.at(usize::from(offset), usize::from(len))?;
            smb.rpc(ToClient, &facts, key, data);
        }
        _ => {
            smb.finish(request.as_ref(), &facts, command.status);
        }
    }
    Some(())
}
