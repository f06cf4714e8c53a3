//! Uploads in forms: `multipart/form-data` (RFC 7578) cut into its parts as it comes in.

use super::text::{parameter, trim};
use crate::Direction;
use crate::app::file_writer::FileWriter;
use crate::app::{File, FileState, Limits, Transaction};

/// How long a part's header may be.
const HEADER_LIMIT: usize = 8192;
/// How many files of one form are kept.
const FILE_LIMIT: usize = 64;

/// Where in the form reading stands.
#[derive(Debug)]
enum State {
    /// Before the first boundary.
    Preamble,
    /// Behind a boundary: a line end, or two hyphens at the form's end.
    Boundary,
    Header,
    /// A part's data, which may be a file's.
    Data(Option<(usize, FileWriter)>),
    End,
}

/// Reads one form.
#[derive(Debug)]
pub(super) struct Multipart {
    /// Two hyphens and the boundary.
    delimiter: Vec<u8>,
    state: State,
    /// What could not be decided yet: never more than a header and a delimiter.
    pending: Vec<u8>,
    files: usize,
}

impl Multipart {
    /// For a body with this `Content-Type`, if it is a form with a boundary.
    pub(super) fn new(content_type: &[u8]) -> Option<Self> {
        let kind = content_type.get(..19)?;
        if !kind.eq_ignore_ascii_case(b"multipart/form-data") {
            return None;
        }
        let boundary = parameter(content_type, b"boundary").filter(|text| !text.is_empty() && text.len() <= 200)?;
        let delimiter = [b"--", boundary.as_slice()].concat();
        Some(Self { delimiter, state: State::Preamble, pending: Vec::new(), files: 0 })
    }

    /// Takes more of the body.
    pub(super) fn write(&mut self, transaction: &mut Transaction, limits: &Limits, data: &[u8]) {
        let mut buffer = std::mem::take(&mut self.pending);
        buffer.extend_from_slice(data);
        let mut at = 0;
        while let Some(taken) = self.step(transaction, limits, buffer.get(at..).unwrap_or_default()) {
            at += taken;
        }
        buffer.drain(..at);
        self.pending = buffer;
    }

    /// Says that no more comes.
    pub(super) fn finish(&mut self, transaction: &mut Transaction, state: FileState) {
        let rest = std::mem::take(&mut self.pending);
        if let State::Data(Some((at, mut writer))) = std::mem::replace(&mut self.state, State::End)
            && let Some(file) = transaction.files.get_mut(at)
        {
            writer.append(file, &rest);
            writer.close(file, if state == FileState::Closed { FileState::Truncated } else { state });
        }
    }

    /// Takes one thing off the beginning of `data`: how many bytes, or `None` where more are needed.
    fn step(&mut self, transaction: &mut Transaction, limits: &Limits, data: &[u8]) -> Option<usize> {
        if data.is_empty() {
            return None;
        }
        match &mut self.state {
            State::End => Some(data.len()),
            State::Preamble => match memchr::memmem::find(data, &self.delimiter) {
                Some(at) => {
                    self.state = State::Boundary;
                    Some(at + self.delimiter.len())
                }
                None => self.all_but_tail(data),
            },
            State::Boundary => {
                if data.starts_with(b"--") {
                    self.state = State::End;
                    return Some(2);
                }
                let end = memchr::memchr(b'\n', data);
                if end.is_some() {
                    self.state = State::Header;
                }
                end.map(|at| at + 1).or_else(|| self.give_up_beyond(HEADER_LIMIT, transaction, data))
            }
            State::Header => match header_end(data) {
                Some((header_len, len)) => {
                    self.open_part(transaction, limits, data.get(..header_len).unwrap_or_default());
                    Some(len)
                }
                None => self.give_up_beyond(HEADER_LIMIT, transaction, data),
            },
            State::Data(part) => {
                let found = memchr::memmem::find(data, &self.delimiter);
                let keep = self.delimiter.len() + 2;
                let (len, taken) = match found {
                    Some(at) => {
                        let body = data.get(..at).unwrap_or_default();
                        let body = body.strip_suffix(b"\n").unwrap_or(body);
                        (body.strip_suffix(b"\r").unwrap_or(body).len(), at + self.delimiter.len())
                    }
                    None => (data.len().saturating_sub(keep), data.len().saturating_sub(keep)),
                };
                if let Some((at, writer)) = part
                    && let Some(file) = transaction.files.get_mut(*at)
                {
                    writer.append(file, data.get(..len).unwrap_or_default());
                }
                if found.is_some() {
                    if let State::Data(Some((at, writer))) = std::mem::replace(&mut self.state, State::Boundary)
                        && let Some(file) = transaction.files.get_mut(at)
                    {
                        writer.close(file, FileState::Closed);
                    }
                    return Some(taken);
                }
                (taken > 0).then_some(taken)
            }
        }
    }

    /// All bytes that cannot belong to a delimiter that is cut off.
    fn all_but_tail(&self, data: &[u8]) -> Option<usize> {
        data.len().checked_sub(self.delimiter.len()).filter(|taken| *taken > 0)
    }

    fn give_up_beyond(&mut self, limit: usize, transaction: &mut Transaction, data: &[u8]) -> Option<usize> {
        if data.len() <= limit {
            return None;
        }
        transaction.events.push((Direction::ToServer, "http.multipart_generic_error"));
        self.state = State::End;
        Some(data.len())
    }

    fn open_part(&mut self, transaction: &mut Transaction, limits: &Limits, header: &[u8]) {
        let mut name = None;
        let mut disposition = false;
        for line in header.split(|byte| *byte == b'\n').map(trim) {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let (field, value) = line.split_at(colon);
            if trim(field).eq_ignore_ascii_case(b"content-disposition") {
                disposition = true;
                name = parameter(value, b"filename");
            }
        }
        if !disposition {
            transaction.events.push((Direction::ToServer, "http.multipart_invalid_header"));
        }
        self.state = State::Data(name.filter(|name| !name.is_empty() && self.files < FILE_LIMIT).map(|name| {
            self.files += 1;
            let direction = Some(Direction::ToServer);
            transaction.files.push(File { name: Some(name), direction, ..File::default() });
            (transaction.files.len() - 1, FileWriter::new(limits))
        }));
    }
}

/// Where a part's header ends, and where its data begin.
fn header_end(data: &[u8]) -> Option<(usize, usize)> {
    if data.starts_with(b"\r\n") {
        return Some((0, 2));
    }
    let crlf = memchr::memmem::find(data, b"\r\n\r\n").map(|at| (at, at + 4));
    let lf = memchr::memmem::find(data, b"\n\n").map(|at| (at, at + 2));
    match (crlf, lf) {
        (Some(first), Some(second)) => Some(if first.0 < second.0 { first } else { second }),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &[u8] = b"--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nvalue\r\n\
        --XX\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x.txt\"\r\nContent-Type: text/plain\r\n\r\n\
        one\r\n--X two\r\n--XX\r\ncontent-disposition: form-data; filename=y\r\n\r\n\r\n--XX--\r\nepilogue";

    fn files(pieces: &[&[u8]]) -> String {
        let limits = Limits::default();
        let mut transaction = Transaction::new(0);
        let mut form = Multipart::new(b"Multipart/Form-Data; boundary=XX").unwrap();
        for piece in pieces {
            form.write(&mut transaction, &limits, piece);
            assert!(form.pending.len() <= HEADER_LIMIT);
        }
        form.finish(&mut transaction, FileState::Closed);
        let shown = transaction.files.iter().map(|file| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            format!("{}={:?}({:?})", text(file.name.as_deref().unwrap()), text(&file.data), file.state)
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn files_of_a_form_however_it_is_split() {
        let whole = files(&[FORM]);
        assert_eq!(whole, "x.txt=\"one\\r\\n--X two\"(Closed) y=\"\"(Closed)");
        for at in 0..FORM.len() {
            assert_eq!(files(&[&FORM[..at], &FORM[at..]]), whole, "split at {at}");
        }
        let bytes: Vec<&[u8]> = FORM.chunks(1).collect();
        assert_eq!(files(&bytes), whole);
    }

    #[test]
    fn cut_off() {
        let cut = memchr::memmem::find(FORM, b"--X two").unwrap();
        assert_eq!(files(&[&FORM[..cut]]), "x.txt=\"one\\r\\n\"(Truncated)");
        assert!(Multipart::new(b"multipart/form-data").is_none());
        assert!(Multipart::new(b"text/plain; boundary=x").is_none());
    }
}
