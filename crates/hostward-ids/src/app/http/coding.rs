//! Content codings undone (RFC 9110 section 8.4.1), as leniently as browsers do it.
//!
//! A body that is not coded as its header says is tried with the other codings, and at last taken as it is. Output is
//! bounded by a total and by its ratio to the input.

use super::gzip::{Broken, Header as GzipHeader};
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState, HeapAlloc, HuffmanCode};
use flate2::{Decompress, FlushDecompress, Status};
use std::io::Write as _;

/// How much output is made at a time.
const PIECE_LEN: usize = 8192;
/// LZMA makes its output in one go: this much input cannot make too much of it.
const LZMA_PIECE_LEN: usize = 128;
/// LZMA's header and the first bytes of its range coder.
const LZMA_HEADER_LEN: usize = 18;
/// Dictionary of LZMA, in bytes.
const LZMA_MEMORY_LIMIT: usize = 1 << 20;
/// How much input is kept to try another coding with, until there is output.
const HELD_LIMIT: usize = 4096;
/// How many bytes tell text from compressed data.
const TEXT_LEN: usize = 24;
/// How much output makes a coding believed that the header did not name.
const TRIAL_LEN: usize = 16_384;
/// Output beyond this must not exceed [`BOMB_RATIO`] times the input.
const BOMB_LEN: u64 = 1 << 20;
/// See [`BOMB_LEN`]: more than DEFLATE reaches on honest data.
const BOMB_RATIO: u64 = 2048;

/// A coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1951, which many send as `deflate`.
    Deflate,
    /// RFC 1950, what `deflate` means.
    Zlib,
    /// RFC 7932.
    Brotli,
    /// The format of LZMA alone, with a header of 13 bytes.
    Lzma,
}

/// The decompressed bytes were too many.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bomb;

/// Undoes the codings of one body.
pub(super) struct Decoder {
    /// The one applied last comes first.
    layers: Vec<Layer>,
    limit: u64,
    input_len: u64,
    output_len: u64,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Decoder({} layers, {} of {} bytes)", self.layers.len(), self.output_len, self.limit)
    }
}

impl Decoder {
    /// For codings in the order in which they were applied; `limit` is how many bytes may come out.
    pub(super) fn new(codings: &[Coding], limit: u64) -> Self {
        let layers = codings.iter().rev().map(|&coding| Layer::new(coding)).collect();
        Self { layers, limit, input_len: 0, output_len: 0 }
    }

    /// Decodes more, and hands over what it gives.
    ///
    /// # Errors
    /// [`Bomb`]: too much came out; nothing further should be given.
    pub(super) fn write(&mut self, data: &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<(), Bomb> {
        self.input_len += data.len() as u64;
        self.through(sink, |layers, limit, sink| pass(layers, data, limit, sink))
    }

    /// Hands over what was held back for the end.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(super) fn finish(&mut self, sink: &mut dyn FnMut(&[u8])) -> Result<(), Bomb> {
        self.through(sink, finish)
    }

    /// Counts what comes out.
    fn through(
        &mut self,
        sink: &mut dyn FnMut(&[u8]),
        run: impl FnOnce(&mut [Layer], u64, &mut Sink<'_>) -> Result<(), Bomb>,
    ) -> Result<(), Bomb> {
        let (input_len, limit, total) = (self.input_len, self.limit, &mut self.output_len);
        run(&mut self.layers, limit, &mut |output| {
            *total += output.len() as u64;
            if *total > limit || (*total > BOMB_LEN && *total / BOMB_RATIO > input_len) {
                return Err(Bomb);
            }
            sink(output);
            Ok(())
        })
    }
}

type Sink<'a> = dyn FnMut(&[u8]) -> Result<(), Bomb> + 'a;

/// Through all layers; as deep as there are of them, which the caller bounds.
fn pass(layers: &mut [Layer], data: &[u8], limit: u64, sink: &mut Sink<'_>) -> Result<(), Bomb> {
    let Some((layer, inner)) = layers.split_first_mut() else { return sink(data) };
    layer.write(data, limit, &mut |output| pass(inner, output, limit, sink))
}

/// Ends each layer, the outermost first, since what it held back goes through the others.
fn finish(layers: &mut [Layer], limit: u64, sink: &mut Sink<'_>) -> Result<(), Bomb> {
    let Some((layer, inner)) = layers.split_first_mut() else { return Ok(()) };
    layer.finish(limit, &mut |output| pass(inner, output, limit, sink))?;
    finish(inner, limit, sink)
}

struct Layer {
    engine: Engine,
    coding: Coding,
    /// Codings that were tried after the first.
    retries: u8,
    /// Input for another try.
    held: Vec<u8>,
    /// Whether there was more than could be kept.
    not_held: bool,
    /// How many bytes at the beginning are a header that is done with.
    skip: usize,
    output_len: u64,
}

enum Engine {
    Gzip(GzipHeader, Decompress),
    Inflate(Decompress),
    Brotli(Box<BrotliState<HeapAlloc<u8>, HeapAlloc<u32>, HeapAlloc<HuffmanCode>>>),
    Lzma(Box<lzma_rs::decompress::Stream<Vec<u8>>>),
    /// Not what its name says; more bytes tell what it is.
    Undecided,
    /// As it is.
    Plain,
    /// The end was reached, or what follows is broken.
    Over,
}

/// Why an engine stops.
enum Stop {
    Broken,
    Bomb,
}

impl From<Broken> for Stop {
    fn from(_: Broken) -> Self {
        Self::Broken
    }
}

impl From<Bomb> for Stop {
    fn from(_: Bomb) -> Self {
        Self::Bomb
    }
}

impl Layer {
    fn new(coding: Coding) -> Self {
        Self {
            engine: Engine::new(coding),
            coding,
            retries: 0,
            held: Vec::new(),
            not_held: false,
            skip: 0,
            output_len: 0,
        }
    }

    fn write(&mut self, data: &[u8], limit: u64, sink: &mut Sink<'_>) -> Result<(), Bomb> {
        let result = self.run(data, limit, sink);
        self.retry(result, data, false, limit, sink)?;
        if self.output_len == 0 && !self.not_held && self.held.len() + data.len() <= HELD_LIMIT {
            self.held.extend_from_slice(data);
        } else {
            self.not_held = true;
            self.held = Vec::new();
        }
        Ok(())
    }

    /// LZMA keeps its window until it ends.
    fn finish(&mut self, limit: u64, sink: &mut Sink<'_>) -> Result<(), Bomb> {
        if matches!(self.engine, Engine::Undecided) {
            self.retry(Err(Stop::Broken), &[], true, limit, sink)?;
        }
        if !matches!(self.engine, Engine::Over) && self.output_len == 0 && !self.held.is_empty() {
            self.finish_without_output(limit, sink)?;
        }
        match std::mem::replace(&mut self.engine, Engine::Over) {
            Engine::Lzma(stream) => match stream.finish() {
                Ok(output) if output.len() as u64 + self.output_len > limit => Err(Bomb),
                Ok(output) => sink(&output),
                Err(_) => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Short bodies may decide nothing: what no coding made anything of is taken as it is.
    fn finish_without_output(&mut self, limit: u64, sink: &mut Sink<'_>) -> Result<(), Bomb> {
        if let Engine::Lzma(stream) = &mut self.engine
            && stream.get_output().is_some_and(|_| self.held.len() > LZMA_HEADER_LEN)
        {
            return Ok(());
        }
        let held = std::mem::take(&mut self.held);
        self.engine = Engine::Over;
        if held.len() as u64 > limit { Err(Bomb) } else { sink(&held) }
    }

    /// Tries other codings for as long as there was no output.
    fn retry(
        &mut self,
        mut result: Result<(), Stop>,
        data: &[u8],
        last: bool,
        limit: u64,
        sink: &mut Sink<'_>,
    ) -> Result<(), Bomb> {
        while let Err(stop) = result {
            if matches!(stop, Stop::Bomb) {
                return Err(Bomb);
            }
            if self.output_len > 0 || self.not_held {
                self.engine = Engine::Over;
                break;
            }
            if let Engine::Gzip(header, _) = &self.engine
                && header.is_over()
            {
                // What follows gzip's header may still be another coding.
                self.skip = header.len();
            }
            if !last && self.held.len() + data.len() < self.skip + TEXT_LEN {
                self.engine = Engine::Undecided;
                break;
            }
            let held = std::mem::take(&mut self.held);
            let from_held = held.get(self.skip.min(held.len())..).unwrap_or_default();
            let from_data = data.get(self.skip.saturating_sub(held.len()).min(data.len())..).unwrap_or_default();
            self.try_next(from_held.iter().chain(from_data));
            result = self.run_on_trial(&[from_held, from_data], limit, sink);
            self.held = held;
        }
        Ok(())
    }

    /// Like [`Self::run`], but what comes out before it breaks does not count, unless it is much: nearly any bytes are
    /// the beginning of some DEFLATE stream.
    fn run_on_trial(&mut self, pieces: &[&[u8]], limit: u64, sink: &mut Sink<'_>) -> Result<(), Stop> {
        let mut output = Vec::new();
        let mut believed = false;
        let mut trial = |bytes: &[u8]| {
            if !believed && output.len() + bytes.len() <= TRIAL_LEN {
                output.extend_from_slice(bytes);
                return Ok(());
            }
            believed = true;
            sink(&std::mem::take(&mut output))?;
            sink(bytes)
        };
        let result = pieces.iter().try_for_each(|piece| self.run(piece, limit, &mut trial));
        match result {
            Err(Stop::Broken) if !believed => self.output_len = 0,
            _ if !output.is_empty() => sink(&output)?,
            _ => {}
        }
        result
    }

    /// Another coding; when all were tried, or the bytes are text, none: text makes a DEFLATE stream too often.
    fn try_next<'a>(&mut self, bytes: impl Iterator<Item = &'a u8>) {
        self.retries += 1;
        let mut first = bytes.take(TEXT_LEN).peekable();
        let text = first.peek().is_some() && first.all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7e));
        if self.retries > 3 || text {
            self.engine = Engine::Plain;
            return;
        }
        self.coding = match self.coding {
            Coding::Deflate => Coding::Zlib,
            Coding::Zlib => Coding::Gzip,
            Coding::Gzip | Coding::Lzma | Coding::Brotli => Coding::Deflate,
        };
        self.engine = Engine::new(self.coding);
    }

    fn run(&mut self, data: &[u8], limit: u64, sink: &mut Sink<'_>) -> Result<(), Stop> {
        let total = &mut self.output_len;
        let mut counted = |output: &[u8]| {
            *total += output.len() as u64;
            if *total > limit { Err(Bomb) } else { sink(output) }
        };
        let over = match &mut self.engine {
            Engine::Gzip(header, inflate) => match header.skip(data)? {
                Some(rest) => inflate_all(inflate, rest, &mut counted)?,
                None => false,
            },
            Engine::Inflate(inflate) => inflate_all(inflate, data, &mut counted)?,
            Engine::Brotli(state) => brotli_all(state, data, &mut counted)?,
            Engine::Lzma(stream) => {
                lzma_all(stream, data, &mut counted)?;
                false
            }
            Engine::Undecided => return Err(Stop::Broken),
            Engine::Plain => {
                counted(data)?;
                false
            }
            Engine::Over => false,
        };
        if over {
            self.engine = Engine::Over;
        }
        Ok(())
    }
}

impl Engine {
    fn new(coding: Coding) -> Self {
        match coding {
            Coding::Gzip => Self::Gzip(GzipHeader::default(), Decompress::new(false)),
            Coding::Deflate => Self::Inflate(Decompress::new(false)),
            Coding::Zlib => Self::Inflate(Decompress::new(true)),
            Coding::Brotli => Self::Brotli(Box::new(BrotliState::new_strict(
                HeapAlloc::new(0),
                HeapAlloc::new(0),
                HeapAlloc::new(HuffmanCode { bits: 0, value: 0 }),
            ))),
            Coding::Lzma => {
                let options = lzma_rs::decompress::Options {
                    memlimit: Some(LZMA_MEMORY_LIMIT),
                    allow_incomplete: true,
                    ..Default::default()
                };
                Self::Lzma(Box::new(lzma_rs::decompress::Stream::new_with_options(&options, Vec::new())))
            }
        }
    }
}

/// Whether the end of the data was reached.
fn inflate_all(inflate: &mut Decompress, mut data: &[u8], sink: &mut Sink<'_>) -> Result<bool, Stop> {
    let mut piece = [0; PIECE_LEN];
    loop {
        let (input_before, output_before) = (inflate.total_in(), inflate.total_out());
        let result = inflate.decompress(data, &mut piece, FlushDecompress::None);
        let made = (inflate.total_out() - output_before) as usize;
        if made > 0 {
            sink(piece.get(..made).unwrap_or_default())?;
        }
        let taken = (inflate.total_in() - input_before) as usize;
        data = data.get(taken..).unwrap_or_default();
        match result {
            Err(_) => return Err(Stop::Broken),
            Ok(Status::StreamEnd) => return Ok(true),
            Ok(_) if made == 0 && (taken == 0 || data.is_empty()) => return Ok(false),
            Ok(_) if data.is_empty() && made < PIECE_LEN => return Ok(false),
            Ok(_) => {}
        }
    }
}

fn brotli_all(
    state: &mut BrotliState<HeapAlloc<u8>, HeapAlloc<u32>, HeapAlloc<HuffmanCode>>,
    data: &[u8],
    sink: &mut Sink<'_>,
) -> Result<bool, Stop> {
    let mut piece = [0; PIECE_LEN];
    let (mut left, mut offset, mut total) = (data.len(), 0, 0);
    loop {
        let (mut room, mut made) = (PIECE_LEN, 0);
        let result =
            BrotliDecompressStream(&mut left, &mut offset, data, &mut room, &mut made, &mut piece, &mut total, state);
        if made > 0 {
            sink(piece.get(..made).unwrap_or_default())?;
        }
        match result {
            BrotliResult::ResultSuccess => return Ok(true),
            BrotliResult::NeedsMoreInput => return Ok(false),
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultFailure => return Err(Stop::Broken),
        }
    }
}

fn lzma_all(stream: &mut lzma_rs::decompress::Stream<Vec<u8>>, data: &[u8], sink: &mut Sink<'_>) -> Result<(), Stop> {
    for piece in data.chunks(LZMA_PIECE_LEN) {
        let result = stream.write_all(piece);
        if let Some(output) = stream.get_output_mut()
            && !output.is_empty()
        {
            sink(output)?;
            output.clear();
        }
        result.map_err(|_| Stop::Broken)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use std::io::Write;

    const TEXT: &[u8] = b"the quick brown fox jumps over the lazy dog, and over it again: the lazy dog";

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(data: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate(data: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn brotli(data: &[u8]) -> Vec<u8> {
        let mut coded = Vec::new();
        brotli::CompressorWriter::new(&mut coded, 4096, 5, 16).write_all(data).unwrap();
        coded
    }

    fn lzma(data: &[u8]) -> Vec<u8> {
        let mut coded = Vec::new();
        lzma_rs::lzma_compress(&mut &data[..], &mut coded).unwrap();
        coded
    }

    fn decode(codings: &[Coding], pieces: &[&[u8]]) -> Vec<u8> {
        let mut decoder = Decoder::new(codings, 1 << 24);
        let mut output = Vec::new();
        for piece in pieces {
            decoder.write(piece, &mut |bytes| output.extend_from_slice(bytes)).unwrap();
        }
        decoder.finish(&mut |bytes| output.extend_from_slice(bytes)).unwrap();
        output
    }

    #[test]
    fn every_coding_whole_and_split_at_every_byte() {
        let cases = [
            (Coding::Gzip, gzip(TEXT)),
            (Coding::Zlib, zlib(TEXT)),
            (Coding::Deflate, deflate(TEXT)),
            (Coding::Brotli, brotli(TEXT)),
            (Coding::Lzma, lzma(TEXT)),
        ];
        for (coding, coded) in cases {
            assert_eq!(decode(&[coding], &[&coded]), TEXT, "{coding:?}");
            for at in 0..coded.len() {
                assert_eq!(decode(&[coding], &[&coded[..at], &coded[at..]]), TEXT, "{coding:?} split at {at}");
            }
        }
    }

    #[test]
    fn wrong_names_and_no_coding_at_all() {
        for (coding, coded) in [
            (Coding::Deflate, zlib(TEXT)),
            (Coding::Deflate, gzip(TEXT)),
            (Coding::Gzip, deflate(TEXT)),
            (Coding::Gzip, zlib(TEXT)),
            (Coding::Gzip, TEXT.to_vec()),
            (Coding::Gzip, b"{\"sdk_version\":11026,\"app_package\":\"com.xcm\",\"app\":1}".to_vec()),
            (Coding::Brotli, gzip(TEXT)),
        ] {
            let expected = if coded.starts_with(b"{") { &coded } else { TEXT };
            assert_eq!(decode(&[coding], &[&coded]), expected, "{coding:?}");
            assert_eq!(decode(&[coding], &[&coded[..1], &coded[1..2], &coded[2..]]), expected, "{coding:?}");
        }
    }

    #[test]
    fn another_coding_behind_a_header_of_gzip() {
        let coded = [b"\x1f\x8b\x08\0\0\0\0\0\x02\0".as_slice(), &zlib(TEXT)].concat();
        assert_eq!(decode(&[Coding::Gzip], &[&coded]), TEXT);
        for at in 0..coded.len() {
            assert_eq!(decode(&[Coding::Gzip], &[&coded[..at], &coded[at..]]), TEXT, "split at {at}");
        }
    }

    #[test]
    fn layers() {
        let coded = gzip(&deflate(&gzip(TEXT)));
        assert_eq!(decode(&[Coding::Gzip, Coding::Deflate, Coding::Gzip], &[&coded]), TEXT);
    }

    #[test]
    fn optional_parts_of_the_header() {
        let plain = gzip(TEXT);
        let mut coded = plain[..3].to_vec();
        coded.push(0b1_1110);
        coded.extend_from_slice(&plain[4..10]);
        coded.extend_from_slice(b"\x03\x00abcname\0comment\0\x12\x34");
        coded.extend_from_slice(&plain[10..]);
        assert_eq!(decode(&[Coding::Gzip], &[&coded]), TEXT);
        for at in 0..coded.len() {
            assert_eq!(decode(&[Coding::Gzip], &[&coded[..at], &coded[at..]]), TEXT, "split at {at}");
        }
    }

    #[test]
    fn what_was_decoded_before_damage_stays() {
        let noise: Vec<u8> = (0_u32..20_000).map(|n| (n.pow(2).wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let mut coded = gzip(&noise);
        let middle = coded.len() / 2;
        coded.truncate(middle);
        let part = decode(&[Coding::Gzip], &[&coded]);
        assert!(part.len() > 5000 && noise.starts_with(&part), "{}", part.len());
    }

    #[test]
    fn bombs_end() {
        let zeros = vec![0; 16 << 20];
        for (coding, coded) in [(Coding::Gzip, gzip(&zeros)), (Coding::Brotli, brotli(&zeros))] {
            let mut decoder = Decoder::new(&[coding], 4 << 20);
            let mut len = 0;
            assert_eq!(decoder.write(&coded, &mut |bytes| len += bytes.len()), Err(Bomb), "{coding:?}");
            assert!(len <= 4 << 20);
        }
    }

    #[test]
    fn hostile_bytes_do_no_harm() {
        for coded in [gzip(TEXT), zlib(TEXT), brotli(TEXT), lzma(TEXT)] {
            for at in 0..coded.len() {
                for value in [0, 1, 0x7f, 0xff] {
                    let mut mutated = coded.clone();
                    mutated[at] = value;
                    for coding in [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Lzma] {
                        let _ = Decoder::new(&[coding], 1 << 20).write(&mutated, &mut |_| ());
                    }
                }
            }
        }
    }
}
