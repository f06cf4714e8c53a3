//! Header fields (RFC 9112 section 5), with the line endings and foldings that browsers accept.

use std::borrow::Cow;
use std::collections::hash_map::Entry;

use ahash::AHashMap;

use super::text::{is_space, is_word, trim};
use crate::Direction::{self, ToClient};

/// Longest line that is followed; Suricata's default (`meta-field-limit`).
pub(super) const FIELD_LIMIT: usize = 18_432;
/// How many lines a block may have.
const LINE_LIMIT: usize = 2048;
/// So many fields are compared one by one; with more, their names are looked up.
const FEW: usize = 24;
/// How long a block may be.
const BLOCK_LIMIT: usize = 1 << 17;
/// How many different fields are kept.
const FIELD_COUNT_LIMIT: usize = 1024;

/// One field, with the values of its repetitions joined by a comma.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::app) struct Field {
    pub(in crate::app) name: Vec<u8>,
    pub(in crate::app) value: Vec<u8>,
}

/// Fields in the order of their first appearance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::app) struct Headers {
    pub(in crate::app) fields: Vec<Field>,
    pub(in crate::app) oddities: Oddities,
}

/// What was odd about a block.
#[allow(clippy::struct_excessive_bools)] // Any of them can be, independently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::app) struct Oddities {
    pub(super) missing_colon: bool,
    pub(super) invalid_name: bool,
    pub(super) invalid_folding: bool,
    pub(super) repeated: bool,
    pub(super) different_lengths: bool,
    pub(super) too_many: bool,
}

impl Headers {
    /// The value of a field, whose name is given in lower case.
    pub(super) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.fields.iter().find(|field| is_word(&field.name, name)).map(|field| field.value.as_slice())
    }

    /// Adds a field or a repetition; `places` holds where each name, in lower case, has its field, so that many different
    /// names cost no more than each its own.
    fn add(&mut self, places: &mut AHashMap<Vec<u8>, usize>, name: &[u8], value: Vec<u8>) {
        let place = if self.fields.len() < FEW {
            self.fields.iter().position(|field| field.name.eq_ignore_ascii_case(name))
        } else {
            if places.is_empty() {
                let known = self.fields.iter().enumerate();
                places.extend(known.map(|(at, field)| (field.name.to_ascii_lowercase(), at)));
            }
            match places.entry(name.to_ascii_lowercase()) {
                Entry::Occupied(entry) => Some(*entry.get()),
                Entry::Vacant(entry) => {
                    entry.insert(self.fields.len());
                    None
                }
            }
        };
        if let Some(place) = place {
            let Some(first) = self.fields.get_mut(place) else { return };
            self.oddities.repeated = true;
            if name.eq_ignore_ascii_case(b"content-length") {
                // Browsers take the first; that they differ is told.
                let lengths = [&first.value, &value].map(|text| super::text::content_length(text));
                self.oddities.different_lengths |= lengths[0].is_none() || lengths[0] != lengths[1];
            } else if first.value.len() < 4 * FIELD_LIMIT {
                first.value.extend_from_slice(b", ");
                first.value.extend_from_slice(&value);
            }
        } else if self.fields.len() < FIELD_COUNT_LIMIT {
            self.fields.push(Field { name: name.to_vec(), value });
        } else {
            self.oddities.too_many = true;
        }
    }
}

/// How far a block was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It ends here: the length of its lines, and of all with the empty line.
    End { lines_len: usize, len: usize },
    /// More bytes are needed.
    More,
    /// A line is longer than [`FIELD_LIMIT`].
    TooLong,
    /// There is more than anybody sends.
    TooMany,
}

/// How a line ended, where that decides what the next bytes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Ending {
    /// There was no line in this block yet.
    #[default]
    None,
    CrLf,
    LfCr,
    Other,
}

/// Finds a block's end without reading any byte twice for long, however small the pieces that it comes in.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    /// Lines so far, without their ends.
    lines: Vec<(usize, usize)>,
    /// Where the current line begins.
    line_start: usize,
    /// Up to where it has no end.
    searched: usize,
    /// How the last line ended.
    ending: Ending,
}

impl Scanner {
    /// Goes on in `block`, which holds all bytes since the block's start; `closed` says that no more will come.
    ///
    /// Requests have lines that end with LF or CR LF. In responses a CR alone is an end too, and LF CR.
    pub(super) fn scan(&mut self, direction: Direction, block: &[u8], closed: bool) -> Progress {
        loop {
            let rest = block.get(self.line_start..).unwrap_or_default();
            match self.empty_line(direction, rest, closed) {
                LineStart::Empty(len) => {
                    return Progress::End { lines_len: self.line_start, len: self.line_start + len };
                }
                LineStart::Skip(len) => {
                    self.line_start += len;
                    self.searched = self.line_start;
                    self.ending = Ending::Other;
                    continue;
                }
                LineStart::Line => {}
                LineStart::More => return Progress::More,
            }
            let unsearched = block.get(self.searched..).unwrap_or_default();
            let found = match direction {
                ToClient => memchr::memchr2(b'\r', b'\n', unsearched),
                Direction::ToServer => memchr::memchr(b'\n', unsearched),
            };
            let Some(found) = found else {
                self.searched = block.len();
                return if self.searched - self.line_start > FIELD_LIMIT { Progress::TooLong } else { Progress::More };
            };
            let end = self.searched + found;
            if end - self.line_start > FIELD_LIMIT {
                return Progress::TooLong;
            }
            let ending = block.get(end..).unwrap_or_default();
            let Some(ending_len) = ending_len(direction, ending, closed) else {
                self.searched = end;
                return Progress::More;
            };
            if self.lines.len() >= LINE_LIMIT || end > BLOCK_LIMIT {
                return Progress::TooMany;
            }
            let line = block.get(self.line_start..end).unwrap_or_default();
            let stripped =
                if direction == ToClient { line.len() } else { line.strip_suffix(b"\r").unwrap_or(line).len() };
            self.lines.push((self.line_start, self.line_start + stripped));
            self.ending = match ending {
                [b'\r', b'\n', ..] => Ending::CrLf,
                [b'\n', b'\r', ..] if ending_len == 2 => Ending::LfCr,
                _ => Ending::Other,
            };
            self.line_start = end + ending_len;
            self.searched = self.line_start;
        }
    }

    /// What a line begins with.
    fn empty_line(&self, direction: Direction, rest: &[u8], closed: bool) -> LineStart {
        match rest {
            [] => LineStart::More,
            // Lines that end with LF CR are followed by an empty one that does, too.
            [b'\n'] if self.ending == Ending::LfCr && !closed => LineStart::More,
            [b'\n', b'\r', ..] if self.ending == Ending::LfCr => LineStart::Empty(2),
            [b'\n', ..] => LineStart::Empty(1),
            [b'\r', b'\n', ..] => LineStart::Empty(2),
            [b'\r'] if !closed => LineStart::More,
            [b'\r', after @ ..] if direction == ToClient => {
                // CR LF CR with more CR and blanks is no empty line to browsers: what follows is read as a header,
                // unless another line end follows.
                let run = after.iter().take_while(|byte| matches!(byte, b'\r' | b' ' | b'\t')).count();
                if self.ending == Ending::None && run == 0 {
                    // The other half of LF CR, which ended the status line.
                    return LineStart::Skip(1);
                }
                if self.ending != Ending::CrLf || run == 0 {
                    return LineStart::Empty(1);
                }
                let tail = after.get(run..).unwrap_or_default();
                let beyond = tail.strip_prefix(b"\n").unwrap_or(tail);
                match beyond {
                    [] | [b'\r'] if !closed && run <= FIELD_LIMIT => LineStart::More,
                    [b'\n', ..] | [b'\r', b'\n', ..] => LineStart::Empty(1),
                    _ => LineStart::Skip(1 + run + tail.len() - beyond.len()),
                }
            }
            _ => LineStart::Line,
        }
    }

    /// Reads the fields of the lines found.
    pub(super) fn fields(&self, direction: Direction, block: &[u8]) -> Headers {
        let mut headers = Headers::default();
        let mut places = AHashMap::new();
        let lines: Vec<&[u8]> =
            self.lines.iter().map(|&(start, end)| block.get(start..end).unwrap_or_default()).collect();
        let mut rest = lines.as_slice();
        while let Some((line, after)) = rest.split_first() {
            rest = after;
            if line.is_empty() {
                continue;
            }
            rest = one_field(direction, line, rest, &mut headers, &mut places);
        }
        headers
    }
}

/// See [`Scanner::empty_line`].
#[derive(Debug)]
enum LineStart {
    /// An empty line of this length: the block ends.
    Empty(usize),
    /// So many bytes that mean nothing.
    Skip(usize),
    Line,
    /// Not enough bytes to decide.
    More,
}

/// The length of a line's end; `None` where the next byte decides.
fn ending_len(direction: Direction, ending: &[u8], closed: bool) -> Option<usize> {
    match (direction, ending) {
        (Direction::ToServer, _) => Some(1),
        (_, [b'\r', b'\n', ..] | [b'\n', b'\r', ..]) => Some(2),
        (_, [_]) if !closed => None,
        _ => Some(1),
    }
}

/// Reads one field and its continuations; gives the lines behind.
fn one_field<'a, 'b>(
    direction: Direction,
    line: &'a [u8],
    mut rest: &'b [&'a [u8]],
    headers: &mut Headers,
    places: &mut AHashMap<Vec<u8>, usize>,
) -> &'b [&'a [u8]] {
    let mut colon_line = line;
    let mut name_before: &[u8] = &[];
    if !line.contains(&b':') {
        // The name may go on behind a line end and a blank, as in `Name CR LF SP : value`.
        match rest.split_first() {
            Some((next, after)) if next.first() == Some(&b' ') && trim(next).first() == Some(&b':') => {
                name_before = line;
                colon_line = next;
                rest = after;
            }
            _ => {}
        }
    }
    let (name_here, value, oddity) = match memchr::memchr(b':', colon_line) {
        Some(colon) => {
            let (name, value) = colon_line.split_at(colon);
            (name, value.get(1..).unwrap_or_default(), false)
        }
        None => (&[][..], line, true),
    };
    let name =
        if name_before.is_empty() { Cow::Borrowed(name_here) } else { Cow::Owned([name_before, name_here].concat()) };
    headers.oddities.missing_colon |= oddity;
    let mut value = Cow::Borrowed(value);
    while let Some((next, after)) = rest.split_first() {
        let Some((&fold, more)) = next.split_first() else { break };
        if !matches!(fold, b' ' | b'\t' | 0) || (direction == ToClient && looks_like_field(more)) {
            break;
        }
        let folded = value.to_mut();
        if trim(folded).is_empty() {
            folded.clear();
        } else {
            folded.push(fold);
        }
        folded.extend_from_slice(more);
        rest = after;
    }
    let trimmed = trim(&name);
    if !oddity {
        headers.oddities.invalid_folding |= name.first().is_some_and(|byte| matches!(byte, b' ' | b'\t'));
        headers.oddities.invalid_name |= trimmed.is_empty()
            || name.last().is_some_and(|&byte| is_space(byte))
            || !trimmed.iter().all(|&byte| is_token(byte));
    }
    headers.add(places, trimmed, trim(&value).to_vec());
    rest
}

/// A token and a colon: a field of its own that was only indented.
fn looks_like_field(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else { return false };
    let name = trim(line.get(..colon).unwrap_or_default());
    !name.is_empty() && name.iter().all(|&byte| is_token(byte))
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Direction::ToServer;

    fn read(direction: Direction, bytes: &[u8]) -> (Vec<(String, String)>, usize, Oddities) {
        let mut whole = Scanner::default();
        let Progress::End { len, .. } = whole.scan(direction, bytes, false) else { panic!("no end in {bytes:?}") };
        let headers = whole.fields(direction, bytes);
        let mut split = Scanner::default();
        for end in 0..=bytes.len() {
            if let Progress::End { len: split_len, .. } = split.scan(direction, &bytes[..end], false) {
                assert_eq!(split_len, len);
                assert_eq!(split.fields(direction, bytes), headers);
                break;
            }
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let pairs = headers.fields.iter().map(|field| (text(&field.name), text(&field.value))).collect();
        (pairs, len, headers.oddities)
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.into(), value.into())
    }

    #[test]
    fn line_ends_of_responses() {
        let (pairs, len, _) = read(ToClient, b"\rA: b\n\r\n\rbody");
        assert_eq!((pairs, len), (vec![pair("A", "b")], 9));
        for ends in ["\r\n\r\n", "\n\n", "\r\r", "\r\n\n", "\n\r\n", "\n\r\r\n", "\n\r\n\r"] {
            let bytes = format!("A: b{ends}body");
            let (pairs, len, _) = read(ToClient, bytes.as_bytes());
            assert_eq!((pairs, len), (vec![pair("A", "b")], 4 + ends.len()), "{ends:?}");
        }
        let (pairs, ..) = read(ToClient, b"A: b\r\n\r\r\nC: d\r\n\r\nbody");
        assert_eq!(pairs, [pair("A", "b"), pair("C", "d")]);
    }

    #[test]
    fn folding() {
        let (pairs, ..) = read(ToClient, b"A: b\r\n c\r\nB:\r\n\td\r\nC\r\n : e\r\n\r\n");
        assert_eq!(pairs, [pair("A", "b c"), pair("B", "d"), pair("C", "e")]);
        let (pairs, ..) = read(ToClient, b"A: b\r\n C: d\r\n\r\n");
        assert_eq!(pairs, [pair("A", "b"), pair("C", "d")]);
        let (pairs, ..) = read(ToServer, b"A: b\r\n C: d\r\n\r\n");
        assert_eq!(pairs, [pair("A", "b C: d")]);
    }

    #[test]
    fn repetitions_and_oddities() {
        let (pairs, _, odd) =
            read(ToServer, b"A: 1\r\na: 2\r\nContent-Length: 3\r\nContent-Length: 4\r\nnothing\r\n\r\n");
        assert_eq!(pairs, [pair("A", "1, 2"), pair("Content-Length", "3"), pair("", "nothing")]);
        assert!(odd.repeated && odd.different_lengths && odd.missing_colon && !odd.invalid_name);
    }

    #[test]
    fn limits() {
        let long = vec![b'a'; FIELD_LIMIT + 1];
        assert_eq!(Scanner::default().scan(ToServer, &long, false), Progress::TooLong);
        let long = [&vec![b'a'; 10_000], b"\n".as_slice()].concat().repeat(20);
        assert_eq!(Scanner::default().scan(ToServer, &long, false), Progress::TooMany);
        let many = b"a: b\n".repeat(LINE_LIMIT + 1);
        assert_eq!(Scanner::default().scan(ToServer, &many, false), Progress::TooMany);
    }
}
