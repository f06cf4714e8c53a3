//! What becomes of a body: decoded, kept as far as it is inspected, and given to files.

use super::coding::{Coding, Decoder};
use super::headers::Headers;
use super::multipart::Multipart;
use super::text::{is_word, parameter};
use crate::Direction::{self, ToClient, ToServer};
use crate::EventName;
use crate::app::buffer::Buffer;
use crate::app::file_writer::FileWriter;
use crate::app::{Content, File, FileState, Limits, Transaction};

/// How long a file's name may be.
const NAME_LIMIT: usize = 4096;

/// One body as it comes in.
#[derive(Debug, Default)]
pub(in crate::app) struct Body {
    /// Its length as sent, chunks' frames left out.
    pub(in crate::app) wire_len: u64,
    decoder: Option<Box<Decoder>>,
    /// Nothing can be decoded any more: too much came out, or bytes are missing.
    undecodable: bool,
    /// Where in the transaction its buffer lies.
    content: Option<usize>,
    files: Files,
}

/// What in a body is a file.
#[derive(Debug, Default)]
enum Files {
    #[default]
    None,
    /// All of it, under this name, once there is a first byte.
    Whole(Option<Vec<u8>>),
    Open(usize, FileWriter),
    Form(Box<Multipart>),
}

impl Body {
    /// A response's.
    pub(in crate::app) fn of_response(
        headers: &Headers,
        path: Option<&[u8]>,
        limits: &Limits,
        events: &mut Vec<EventName>,
    ) -> Self {
        let name = headers.get(b"content-disposition").and_then(|value| parameter(value, b"filename"));
        Self {
            decoder: decoder(headers, limits, events),
            files: Files::Whole(name.or_else(|| path.map(<[u8]>::to_vec))),
            ..Self::default()
        }
    }

    /// A request's: a form's files, or all of what is posted or put.
    pub(in crate::app) fn of_request(
        method: &[u8],
        headers: &Headers,
        path: Option<&[u8]>,
        limits: &Limits,
        events: &mut Vec<EventName>,
    ) -> Self {
        let form = headers.get(b"content-type").and_then(Multipart::new);
        let files = match (method, form) {
            (b"POST", Some(form)) => Files::Form(Box::new(form)),
            (b"POST" | b"PUT", _) => Files::Whole(path.map(<[u8]>::to_vec)),
            _ => Files::None,
        };
        Self { decoder: decoder(headers, limits, events), files, ..Self::default() }
    }

    /// Takes more of it.
    pub(in crate::app) fn write(
        &mut self,
        transaction: &mut Transaction,
        direction: Direction,
        limits: &Limits,
        data: &[u8],
    ) {
        if data.is_empty() {
            return;
        }
        self.wire_len += data.len() as u64;
        if self.undecodable {
            return;
        }
        match self.decoder.take() {
            None => self.decoded(transaction, direction, limits, data),
            Some(mut decoder) => {
                let result = decoder.write(data, &mut |output| self.decoded(transaction, direction, limits, output));
                if result.is_err() {
                    transaction.events.push((direction, "http.compression_bomb"));
                    self.close_files(transaction, FileState::Truncated);
                    self.undecodable = true;
                }
                self.decoder = Some(decoder);
            }
        }
    }

    fn decoded(&mut self, transaction: &mut Transaction, direction: Direction, limits: &Limits, data: &[u8]) {
        let buffer = match direction {
            ToServer => Buffer::HttpRequestBody,
            ToClient => Buffer::HttpResponseBody,
        };
        let at = *self.content.get_or_insert_with(|| {
            transaction.buffers.push(Content { buffer, direction, data: Vec::new(), complete: false });
            transaction.buffers.len() - 1
        });
        if let Some(content) = transaction.buffers.get_mut(at) {
            let room = limits.body_inspect_len.saturating_sub(content.data.len());
            content.data.extend_from_slice(data.get(..room).unwrap_or(data));
        }
        if let Files::Whole(name) = &mut self.files {
            let mut name = name.take();
            if let Some(name) = &mut name
                && name.len() > NAME_LIMIT
            {
                name.truncate(NAME_LIMIT);
                transaction.events.push((direction, "http.file_name_too_long"));
            }
            transaction.files.push(File { name, direction: Some(direction), ..File::default() });
            self.files = Files::Open(transaction.files.len() - 1, FileWriter::new(limits));
        }
        match &mut self.files {
            Files::Open(at, writer) => {
                if let Some(file) = transaction.files.get_mut(*at) {
                    writer.append(file, data);
                }
            }
            Files::Form(form) => form.write(transaction, limits, data),
            Files::None | Files::Whole(_) => {}
        }
    }

    /// Bytes are missing inside.
    pub(in crate::app) fn gap(&mut self, transaction: &mut Transaction, len: usize) {
        self.wire_len += len as u64;
        if let Files::Open(at, _) = &self.files
            && let Some(file) = transaction.files.get_mut(*at)
        {
            file.gaps = true;
            file.size += len as u64;
        }
        self.undecodable = self.decoder.is_some();
    }

    /// Nothing more comes.
    pub(in crate::app) fn finish(
        &mut self,
        transaction: &mut Transaction,
        direction: Direction,
        limits: &Limits,
        state: FileState,
    ) {
        if let Some(mut decoder) = self.decoder.take().filter(|_| !self.undecodable)
            && decoder.finish(&mut |output| self.decoded(transaction, direction, limits, output)).is_err()
        {
            transaction.events.push((direction, "http.compression_bomb"));
        }
        if let Some(content) = self.content.and_then(|at| transaction.buffers.get_mut(at)) {
            content.complete = true;
        }
        self.close_files(transaction, state);
    }

    fn close_files(&mut self, transaction: &mut Transaction, state: FileState) {
        match std::mem::take(&mut self.files) {
            Files::Open(at, writer) => {
                if let Some(file) = transaction.files.get_mut(at) {
                    writer.close(file, if file.gaps { FileState::Truncated } else { state });
                }
            }
            Files::Form(mut form) => form.finish(transaction, state),
            Files::None | Files::Whole(_) => {}
        }
    }
}

/// What undoes the codings that the headers name, if there are any.
fn decoder(headers: &Headers, limits: &Limits, events: &mut Vec<EventName>) -> Option<Box<Decoder>> {
    let value = headers.get(b"content-encoding")?;
    let mut codings = Vec::new();
    let mut lzma = 0;
    let words = value.split(|byte| matches!(byte, b',' | b' ' | b'\t')).filter(|word| !word.is_empty());
    for (layer, word) in words.enumerate() {
        if layer >= limits.decompression_layers as usize {
            events.push("http.too_many_encoding_layers");
            break;
        }
        let (coding, exact) = coding(word);
        if coding == Some(Coding::Lzma) {
            lzma += 1;
            if lzma > 1 {
                events.push("http.response_too_many_lzma_layers");
                break;
            }
        }
        if !exact {
            events.push("http.abnormal_ce_header");
        }
        codings.extend(coding);
    }
    (!codings.is_empty()).then(|| Box::new(Decoder::new(&codings, limits.decompressed_len as u64)))
}

/// The coding that a word names, and whether it names it exactly.
fn coding(word: &[u8]) -> (Option<Coding>, bool) {
    let named = |names: &[&[u8]]| names.iter().any(|name| is_word(word, name));
    if named(&[b"gzip", b"x-gzip"]) {
        (Some(Coding::Gzip), true)
    } else if named(&[b"deflate", b"x-deflate"]) {
        (Some(Coding::Deflate), true)
    } else if named(&[b"lzma"]) {
        (Some(Coding::Lzma), true)
    } else if named(&[b"br"]) {
        (Some(Coding::Brotli), true)
    } else if named(&[b"inflate", b"none", b"identity"]) {
        (None, true)
    } else if super::text::contains_word(word, b"gzip") {
        (Some(Coding::Gzip), false)
    } else if super::text::contains_word(word, b"deflate") {
        (Some(Coding::Deflate), false)
    } else {
        (None, false)
    }
}
