//! Messages as SMTP carries them: header fields, MIME parts (RFC 2045, 2046), and the files in them.
//!
//! Works a line at a time, without recursion: where a part ends is known from the stack of open boundaries.

use md5::{Digest, Md5};
use serde_json::{Map, Value};
use smallvec::SmallVec;

use super::decode::{self, Base64, Coding};
use super::fields;
use super::urls::Urls;
use crate::Direction::ToServer;
use crate::app::buffer::Buffer;
use crate::app::file_writer::{FileWriter, hex};
use crate::app::lines::Piece;
use crate::app::{File, FileState, Limits, Transaction, logged};

/// How deep multiparts can lie in each other.
const MAX_DEPTH: usize = 20;
/// How much of a header field is kept; what an event calls long.
const MAX_VALUE_LEN: usize = 2000;
const MAX_NAME_LEN: usize = 75;
const MAX_LINE_LEN: usize = 998;
const MAX_CODED_LINE_LEN: usize = 76;
const MAX_BOUNDARY_LEN: usize = 254;
/// Shorter files are looked at once they are whole, so that a signature sees them at once and not line by line.
const MIN_FILE_LEN: usize = 32_768;
/// How many files and header fields of a message are looked at.
const MAX_FILES: usize = 32;
const MAX_FIELDS: usize = 256;

/// A message being read.
#[derive(Debug)]
pub struct Message {
    limits: Limits,
    place: Place,
    boundaries: SmallVec<[Vec<u8>; 2]>,
    /// Whether the fields are the message's own, not a part's.
    outermost: bool,
    field: Vec<u8>,
    fields: usize,
    part: Part,
    body_md5: Option<Md5>,
}

#[derive(Debug)]
enum Place {
    Fields,
    /// Between parts: before the first boundary or after the last.
    Between,
    Body(Box<Body>),
}

/// What the fields say of the part.
#[derive(Debug, Default)]
struct Part {
    kind: Vec<u8>,
    boundary: Option<Vec<u8>>,
    name: Option<Vec<u8>>,
    attachment: bool,
    coding: Coding,
}

#[derive(Debug)]
struct Body {
    coding: Coding,
    base64: Base64,
    /// Which of the transaction's files, and its writer.
    file: Option<(usize, FileWriter)>,
    urls: Option<Urls>,
    /// The end of the last line, which belongs to the boundary if one follows.
    ending: &'static [u8],
    decoded: Vec<u8>,
    /// The first bytes of a file, until there are enough to look at.
    held: Option<Vec<u8>>,
}

impl Message {
    /// At its first line.
    #[must_use]
    pub fn new(limits: &Limits, transaction: &mut Transaction) -> Self {
        set_status(transaction, "HEADER_STARTED");
        Self {
            limits: limits.clone(),
            place: Place::Fields,
            boundaries: SmallVec::new(),
            outermost: true,
            field: Vec::new(),
            fields: 0,
            part: Part::default(),
            body_md5: None,
        }
    }

    /// The next line, without the dot that was put before it if it was `stuffed`.
    pub fn line(&mut self, piece: Piece<'_>, stuffed: bool, transaction: &mut Transaction) {
        if let Some(md5) = &mut self.body_md5 {
            // As it was sent, boundaries and all.
            md5.update(if stuffed { &b"."[..] } else { b"" });
            md5.update(piece.text);
            md5.update(piece.ending);
        }
        if piece.text.len() > MAX_LINE_LEN {
            transaction.raise(ToServer, "smtp.mime_long_line");
        }
        if piece.starts && self.boundary(piece.text, transaction) {
            return;
        }
        match &mut self.place {
            Place::Fields => self.field_line(piece, transaction),
            Place::Between => {}
            Place::Body(body) => body.line(piece, transaction),
        }
    }

    /// Bytes are missing here.
    pub fn gap(&mut self, transaction: &mut Transaction) {
        if let Place::Body(body) = &mut self.place
            && let Some((at, _)) = &body.file
            && let Some(file) = transaction.files.get_mut(*at)
        {
            file.gaps = true;
        }
    }

    /// The message is over; `whole` if by its own end.
    pub fn finish(mut self, whole: bool, transaction: &mut Transaction) {
        if matches!(self.place, Place::Fields) {
            self.end_field(transaction);
        }
        self.end_body(if whole { FileState::Closed } else { FileState::Truncated }, transaction);
        if let Some(md5) = self.body_md5.take().filter(|_| whole) {
            let md5 = hex(&md5.finalize());
            transaction.put(ToServer, Buffer::EmailBodyMd5, md5.as_bytes());
        }
        if whole {
            set_status(transaction, "PARSE_DONE");
        }
    }

    fn field_line(&mut self, piece: Piece<'_>, transaction: &mut Transaction) {
        let folded = !piece.starts || matches!(piece.text.first(), Some(b' ' | b'\t')) && !self.field.is_empty();
        if piece.whole() && piece.text.is_empty() {
            self.end_field(transaction);
            self.begin_body(transaction);
        } else if folded {
            let room = (MAX_NAME_LEN + MAX_VALUE_LEN).saturating_sub(self.field.len());
            if piece.text.len() > room {
                transaction.raise(ToServer, "smtp.mime_long_header_value");
            }
            self.field.extend_from_slice(piece.text.get(..room).unwrap_or(piece.text));
        } else {
            self.end_field(transaction);
            if memchr::memchr(b':', piece.text).is_none() {
                // No field: a body without the empty line before it.
                if self.fields > 0 {
                    transaction.raise(ToServer, "smtp.mime_malformed_msg");
                }
                self.begin_body(transaction);
                if let Place::Body(body) = &mut self.place {
                    body.line(piece, transaction);
                }
                return;
            }
            if piece.text.len() > MAX_NAME_LEN + MAX_VALUE_LEN {
                transaction.raise(ToServer, "smtp.mime_long_header_value");
            }
            let len = piece.text.len().min(MAX_NAME_LEN + MAX_VALUE_LEN);
            self.field.extend_from_slice(piece.text.get(..len).unwrap_or_default());
        }
    }

    fn end_field(&mut self, transaction: &mut Transaction) {
        let field = std::mem::take(&mut self.field);
        let Some(colon) = memchr::memchr(b':', &field) else { return };
        self.fields = self.fields.saturating_add(1);
        let (name, value) = field.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.len() > MAX_NAME_LEN {
            transaction.raise(ToServer, "smtp.mime_long_header_name");
        }
        let name = name.trim_ascii().to_ascii_lowercase();
        if self.outermost && self.fields <= MAX_FIELDS {
            outer_field(&name, value, transaction);
        }
        match name.as_slice() {
            b"content-type" => {
                let (kind, found) = fields::parameters(value);
                self.part.boundary = fields::parameter(&found, "boundary").filter(|boundary| !boundary.is_empty());
                if let Some(boundary) = &self.part.boundary
                    && boundary.len() > MAX_BOUNDARY_LEN
                {
                    transaction.raise(ToServer, "smtp.mime_long_boundary");
                }
                self.part.kind = kind;
                if self.part.name.is_none() {
                    self.part.name = fields::parameter(&found, "name");
                }
            }
            b"content-disposition" => {
                let (kind, found) = fields::parameters(value);
                self.part.attachment = kind == b"attachment";
                if let Some(name) = fields::parameter(&found, "filename") {
                    self.part.name = Some(name);
                }
            }
            b"content-transfer-encoding" => self.part.coding = Coding::named(value),
            _ => {}
        }
    }

    fn begin_body(&mut self, transaction: &mut Transaction) {
        let part = std::mem::take(&mut self.part);
        if self.outermost {
            self.body_md5 = Some(Md5::new());
            set_status(transaction, "BODY_STARTED");
        }
        if part.kind.starts_with(b"multipart/")
            && let Some(boundary) = part.boundary
        {
            if self.boundaries.len() < MAX_DEPTH {
                self.boundaries.push(boundary);
            }
            self.outermost = false;
            self.place = Place::Between;
            return;
        }
        if part.kind == b"message/rfc822" || part.kind == b"message/global" {
            // Such a part must not be coded (RFC 2046 §5.2.1), whatever its fields say; mail clients agree.
            self.outermost = false;
            self.place = Place::Fields;
            return;
        }
        self.outermost = false;
        let text = part.kind.is_empty() || part.kind.starts_with(b"text/");
        let mut body = Body {
            coding: part.coding,
            base64: Base64::default(),
            file: None,
            urls: (text && !part.attachment).then(Urls::default),
            ending: b"",
            decoded: Vec::new(),
            held: Some(Vec::new()),
        };
        if part.name.is_some() || part.attachment {
            body.open(part.name, &self.limits, transaction);
        }
        self.place = Place::Body(Box::new(body));
    }

    fn end_body(&mut self, state: FileState, transaction: &mut Transaction) {
        if let Place::Body(body) = std::mem::replace(&mut self.place, Place::Between) {
            body.finish(state, transaction);
        }
    }

    /// Whether the line is a boundary of a part that is open.
    fn boundary(&mut self, line: &[u8], transaction: &mut Transaction) -> bool {
        let Some(after) = line.strip_prefix(b"--") else { return false };
        let line = after.trim_ascii_end();
        let found = self.boundaries.iter().enumerate().rev().find_map(|(depth, boundary)| {
            let rest = line.strip_prefix(boundary.as_slice())?;
            (rest.is_empty() || rest == b"--").then_some((depth, !rest.is_empty()))
        });
        let Some((depth, last)) = found else { return false };
        if matches!(self.place, Place::Fields) {
            self.end_field(transaction);
        }
        self.end_body(FileState::Closed, transaction);
        self.boundaries.truncate(if last { depth } else { depth + 1 });
        if !last {
            self.place = Place::Fields;
            self.part = Part::default();
            self.outermost = false;
        }
        true
    }
}

impl Body {
    fn open(&mut self, name: Option<Vec<u8>>, limits: &Limits, transaction: &mut Transaction) {
        if transaction.files.len() >= MAX_FILES {
            return;
        }
        if let Some(name) = &name {
            log_push(transaction, "attachment", String::from_utf8_lossy(name).into_owned().into());
        }
        self.file = Some((transaction.files.len(), FileWriter::new(limits)));
        transaction.files.push(File { name, direction: Some(ToServer), ..File::default() });
    }

    fn line(&mut self, piece: Piece<'_>, transaction: &mut Transaction) {
        self.decoded.clear();
        match self.coding {
            Coding::Identity => {
                self.decoded.extend_from_slice(self.ending);
                self.decoded.extend_from_slice(piece.text);
                self.ending = piece.ending;
            }
            Coding::Base64 => {
                if piece.text.len() > MAX_CODED_LINE_LEN {
                    transaction.raise(ToServer, "smtp.mime_long_enc_line");
                }
                if !self.base64.decode(piece.text, &mut self.decoded) {
                    transaction.raise(ToServer, "smtp.mime_invalid_base64");
                }
            }
            Coding::QuotedPrintable => {
                self.decoded.extend_from_slice(self.ending);
                let (ends, clean) = decode::quoted_printable(piece.text, &mut self.decoded);
                self.ending = if ends { piece.ending } else { b"" };
                if piece.text.len() > MAX_CODED_LINE_LEN {
                    transaction.raise(ToServer, "smtp.mime_long_enc_line");
                }
                if !clean {
                    transaction.raise(ToServer, "smtp.mime_invalid_qp");
                }
            }
            Coding::Uuencode => {
                if !piece.text.starts_with(b"begin ") && piece.text != b"end" {
                    decode::uuencode(piece.text, &mut self.decoded);
                }
            }
        }
        self.give(transaction);
    }

    fn give(&mut self, transaction: &mut Transaction) {
        if let Some(urls) = &mut self.urls {
            urls.feed(&self.decoded, transaction);
        }
        if self.file.is_none() {
            return;
        }
        match &mut self.held {
            Some(held) if held.len() + self.decoded.len() < MIN_FILE_LEN => held.extend_from_slice(&self.decoded),
            _ => {
                self.release(transaction);
                if let Some((at, writer)) = &mut self.file
                    && let Some(file) = transaction.files.get_mut(*at)
                {
                    writer.append(file, &self.decoded);
                }
            }
        }
    }

    /// Shows what was held back.
    fn release(&mut self, transaction: &mut Transaction) {
        if let (Some(held), Some((at, writer))) = (self.held.take(), &mut self.file)
            && let Some(file) = transaction.files.get_mut(*at)
        {
            writer.append(file, &held);
        }
    }

    fn finish(mut self, state: FileState, transaction: &mut Transaction) {
        self.decoded.clear();
        self.base64.flush(&mut self.decoded);
        self.give(transaction);
        if let Some(urls) = &mut self.urls {
            urls.finish(transaction);
        }
        self.release(transaction);
        if let Some((at, writer)) = self.file
            && let Some(file) = transaction.files.get_mut(at)
        {
            writer.close(file, state);
        }
    }
}

/// A field of the message itself: what signatures and EVE know it by.
fn outer_field(name: &[u8], value: &[u8], transaction: &mut Transaction) {
    let text = || Value::from(String::from_utf8_lossy(value).into_owned());
    match name {
        b"from" => {
            transaction.put(ToServer, Buffer::EmailFrom, value);
            log(transaction).insert("from".into(), text());
        }
        b"to" | b"cc" => {
            let (buffer, key) = if name == b"to" { (Buffer::EmailTo, "to") } else { (Buffer::EmailCc, "cc") };
            transaction.put(ToServer, buffer, value);
            for address in fields::addresses(value) {
                log_push(transaction, key, address.into());
            }
        }
        b"subject" => {
            transaction.put(ToServer, Buffer::EmailSubject, value);
            log(transaction).insert("subject".into(), text());
        }
        b"date" => {
            transaction.put(ToServer, Buffer::EmailDate, value);
            log(transaction).insert("date".into(), text());
        }
        b"message-id" => {
            transaction.put(ToServer, Buffer::EmailMessageId, value);
            log(transaction).insert("message_id".into(), text());
        }
        b"x-mailer" => {
            transaction.put(ToServer, Buffer::EmailXMailer, value);
            log(transaction).insert("x_mailer".into(), text());
        }
        b"received" => {
            transaction.put(ToServer, Buffer::EmailReceived, value);
            log_push(transaction, "received", text());
        }
        _ => {}
    }
}

fn log(transaction: &mut Transaction) -> &mut Map<String, Value> {
    logged::object(&mut transaction.log_beside, "email")
}

fn set_status(transaction: &mut Transaction, status: &str) {
    log(transaction).insert("status".into(), status.into());
}

/// How many entries a list in EVE can have.
const MAX_LOGGED: usize = 128;

/// Adds to a list of EVE's `email` object.
pub(super) fn log_push(transaction: &mut Transaction, key: &str, value: Value) {
    logged::push(log(transaction), key, value, MAX_LOGGED);
}
