//! Transactions: each signature at most once, as soon as everything it asks for is there.

use std::collections::VecDeque;

use super::inspect::{CANDIDATES, Look};
use super::scene::Notes;
use super::signature::{Compiled, ReadyInspection};
use super::state::{Candidates, Pending, TransactionState};
use super::transform;
use crate::Direction;
use crate::app::buffer::{Buffer, Integer};
use crate::app::{File, FileState, Protocol, Stage, Transaction};
use crate::rules::rule::Absent;
use crate::rules::test::{DigestKind, TransactionTest};

/// Which of a transaction's lists has the signatures that cover both directions.
const BOTH: usize = 2;

/// So many bytes of a body are looked at together, if no signature decides over packets.
const BATCH: u32 = 4096;

/// The length of a buffer that was never looked at.
const NEVER: u32 = u32::MAX;

/// What one thing that is asked says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Yes,
    /// Not now, but perhaps when more is there.
    Wait,
    /// Never in this transaction.
    No,
}

impl Answer {
    fn when(holds: bool, last: bool) -> Self {
        match (holds, last) {
            (true, _) => Self::Yes,
            (false, true) => Self::No,
            (false, false) => Self::Wait,
        }
    }
}

impl Look<'_> {
    /// Looks at what is new in a flow's transactions, in the direction of the scene.
    pub(super) fn transactions(&mut self, transactions: &mut VecDeque<Transaction>) {
        for transaction in transactions.iter_mut() {
            let way = self.scene.direction as usize;
            if transaction.inspected[way] {
                continue;
            }
            self.transaction = Some(transaction.id);
            let mut state = std::mem::take(&mut transaction.detect);
            if self.candidates(transaction, &mut state) {
                let list = |number: u32| {
                    self.detector
                        .compiled
                        .get(number as usize)
                        .map_or(way, |signature| if signature.whole() { BOTH } else { way })
                };
                let mut judged = std::mem::take(&mut self.worker.judged);
                judged.clear();
                for &signature in &self.worker.found {
                    let Candidates { pending, done } = &state.lists[list(signature)];
                    if !done.contains(&signature) && !pending.iter().any(|known| known.signature == signature) {
                        judged.push(Pending { signature, matched: 0, payload: false });
                    }
                }
                judged.append(&mut state.lists[way].pending);
                judged.append(&mut state.lists[BOTH].pending);
                judged.sort_unstable_by_key(|pending| pending.signature);
                self.verify(transaction, &mut judged, &mut state.lists, way);
                self.worker.judged = judged;
            }
            transaction.detect = state;
        }
    }

    /// Adds candidates that what is new brings; whether there is anything new.
    fn candidates(&mut self, transaction: &Transaction, state: &mut TransactionState) -> bool {
        let direction = self.scene.direction;
        let way = direction as usize;
        let detector = self.detector;
        let mut found = std::mem::take(&mut self.worker.found);
        found.clear();
        let mut changed = false;
        state.seen.resize(transaction.buffers.len(), (NEVER, false));
        for (content, seen) in transaction.buffers.iter().zip(&mut state.seen) {
            let now = (content.data.len() as u32, content.complete);
            if content.direction != direction || *seen == now {
                continue;
            }
            if self.too_little(seen.0, now.0, now.1) {
                continue;
            }
            let before = match std::mem::replace(seen, now).0 {
                NEVER => 0,
                before => before as usize,
            };
            changed = true;
            self.scan_buffer(content.buffer, &content.data, before, content.complete, &mut found);
        }
        state.files.resize(transaction.files.len(), (0, false, false));
        for (file, seen) in transaction.files.iter().zip(&mut state.files) {
            if file.direction.is_some_and(|way| way != direction) {
                continue;
            }
            let now = (file.data.len() as u32, file.state != FileState::Open, file.name.is_some());
            if *seen == now || (seen.2 == now.2 && self.too_little(seen.0, now.0, now.1)) {
                continue;
            }
            let before = std::mem::replace(seen, now);
            changed = true;
            if let Some(name) = file.name.as_ref().filter(|_| !before.2) {
                self.scan_buffer(Buffer::FileName, name, 0, true, &mut found);
            }
            self.scan_buffer(Buffer::FileData, &file.data, before.0 as usize, now.1, &mut found);
        }
        if let Some(protocol) = self.scene.protocol
            && !std::mem::replace(&mut state.begun[way], true)
        {
            changed = true;
            if let Some(always) = detector.index.transaction.get(&protocol) {
                found.extend_from_slice(&always[way]);
            }
        }
        for (_, event) in transaction.events.get(usize::from(state.events[way])..).unwrap_or_default() {
            changed = true;
            found.extend(detector.index.events.get(*event).into_iter().flatten());
        }
        state.events[way] = transaction.events.len() as u16;
        changed |= state.progress[way].replace(transaction.progress[way]) != Some(transaction.progress[way]);
        changed |=
            std::mem::replace(&mut state.digests[way], digests(&transaction.files)) != digests(&transaction.files);
        let integers = (transaction.integers.len() + transaction.directed_integers.len()) as u16;
        changed |= std::mem::replace(&mut state.integers[way], integers) != integers;
        if !self.worker.of_payload.is_empty() {
            changed = true;
            found.extend_from_slice(&self.worker.of_payload);
        }
        found.sort_unstable();
        found.dedup();
        self.worker.found = found;
        changed
    }

    /// Whether so little was added to a body that it can wait for more: a scan costs less per byte the longer it is.
    fn too_little(&self, before: u32, now: u32, complete: bool) -> bool {
        !complete && !self.detector.decides && !matches!(before, 0 | NEVER) && now.saturating_sub(before) < BATCH
    }

    /// Looks for literals in a buffer, of which `before` bytes were looked at already.
    fn scan_buffer(&mut self, buffer: Buffer, data: &[u8], before: usize, complete: bool, found: &mut Vec<u32>) {
        let detector = self.detector;
        let http = matches!(self.scene.protocol, Some(Protocol::Http1 | Protocol::Http2));
        let one_scan = http && self.scene.direction == Direction::ToClient;
        for group in detector.index.of_buffer(buffer, self.scene.direction) {
            // A response's body is its file.
            let body = one_scan && matches!(buffer, Buffer::HttpResponseBody | Buffer::FileData);
            if body && group.transforms.is_empty() {
                continue;
            }
            if group.transforms.is_empty() {
                self.search(&group.searched, data, before, found);
            } else if complete && let Some(data) = transform::run(&group.transforms, data) {
                self.search(&group.searched, &data, 0, found);
            }
        }
        if one_scan && buffer == Buffer::HttpResponseBody {
            self.search(&detector.index.response_bodies, data, before, found);
        }
    }

    /// Verifies candidates; those that may match yet are kept.
    fn verify(
        &mut self,
        transaction: &Transaction,
        judged: &mut Vec<Pending>,
        lists: &mut [Candidates; 3],
        way: usize,
    ) {
        for mut pending in judged.drain(..) {
            let Some(signature) = self.detector.compiled.get(pending.signature as usize) else { continue };
            let list = &mut lists[if signature.whole() { BOTH } else { way }];
            let mut notes = Notes::default();
            let mut from_stream = false;
            match self.judge(signature, transaction, &mut pending, &mut notes, &mut from_stream) {
                Answer::Wait if list.pending.len() < CANDIDATES => list.pending.push(pending),
                Answer::Wait => self.worker.counters.candidates_cut += 1,
                // What cannot match is forgotten: if its literal comes again, it fails again.
                Answer::No => {}
                Answer::Yes => {
                    self.matched(pending.signature, signature, Some(transaction.id), from_stream, notes);
                    list.done.push(pending.signature);
                }
            }
        }
    }

    fn judge(
        &mut self,
        signature: &Compiled,
        transaction: &Transaction,
        pending: &mut Pending,
        notes: &mut Notes,
        from_stream: &mut bool,
    ) -> Answer {
        let direction = self.scene.direction;
        if !signature.whole() && !signature.directions[direction as usize] {
            return Answer::Wait;
        }
        if let Some((hook, stage)) = signature.hook
            && transaction.progress[hook as usize] < stage
        {
            return Answer::Wait;
        }
        if !self.scene.header_fits(signature) {
            // Establishment may come; addresses and ports do not change.
            return if signature.rule.establishment.is_some() { Answer::Wait } else { Answer::No };
        }
        let little_endian =
            transaction.integers.iter().any(|&(integer, value)| integer == Integer::DcerpcLittleEndian && value == 1);
        let mut all = Answer::Yes;
        let mut numbers = [0; 32];
        for (at, inspection) in signature.buffers.iter().enumerate() {
            let bit = 1_u64 << (at & 63);
            if pending.matched & bit != 0 && signature.rule.variables == 0 {
                continue;
            }
            match self.buffer_answer(signature, inspection, transaction, &mut numbers, little_endian, notes) {
                Answer::Yes => pending.matched |= bit,
                Answer::Wait => all = Answer::Wait,
                Answer::No => return Answer::No,
            }
        }
        let mut digests = signature.digests.iter();
        for test in &signature.rule.transaction_tests {
            match self.test_answer(test, signature, transaction, &mut digests) {
                Answer::Yes => {}
                Answer::Wait => all = Answer::Wait,
                Answer::No => return Answer::No,
            }
        }
        if all != Answer::Yes && (signature.payload.is_empty() || pending.payload) {
            return Answer::Wait;
        }
        if !signature.payload.is_empty() && !pending.payload {
            match self.payload_matches(signature, &mut numbers, notes) {
                Some(stream) => {
                    pending.payload = true;
                    *from_stream = stream;
                }
                None => return Answer::Wait,
            }
        }
        let rest = all == Answer::Yes
            && self.scene.packet_tests_hold(signature)
            && self.scene.flow_tests_hold(signature, self.state.as_deref(), &self.worker.store)
            && self.packet_buffers_match(signature, &mut numbers, notes);
        Answer::when(rest, false)
    }

    /// Whether a direction counts for a buffer of this signature.
    fn counts(&self, signature: &Compiled, buffer: Buffer, direction: Direction) -> bool {
        if signature.whole() {
            return buffer.direction().is_none_or(|own| own == direction);
        }
        direction == self.scene.direction
    }

    fn buffer_answer(
        &mut self,
        signature: &Compiled,
        inspection: &ReadyInspection<Buffer>,
        transaction: &Transaction,
        numbers: &mut [u64; 32],
        little_endian: bool,
        notes: &mut Notes,
    ) -> Answer {
        let buffer = inspection.target;
        notes.buffer = Some(buffer);
        let mut there = false;
        let mut all_complete = true;
        for (direction, data, complete) in instances(transaction, buffer) {
            if direction.is_some_and(|direction| !self.counts(signature, buffer, direction)) {
                continue;
            }
            there = true;
            let complete = complete || direction.is_some_and(|way| reached(transaction, way, Stage::Complete));
            all_complete &= complete;
            if inspection.absent == Some(Absent::Only) || (inspection.need_complete && !complete) {
                continue;
            }
            if let Some(data) = transform::run(&inspection.transforms, data)
                && self.steps_match(&inspection.steps, &data, numbers, little_endian, notes).is_some()
            {
                return Answer::Yes;
            }
        }
        // Nothing more comes once every direction that counts is past the stage at which the buffer is read.
        let over = [Direction::ToServer, Direction::ToClient].into_iter().all(|direction| {
            !self.counts(signature, buffer, direction)
                || !transaction.directions[direction as usize]
                || reached(transaction, direction, later(buffer.stage()))
        });
        let last = over && all_complete;
        match inspection.absent {
            Some(_) if !there => Answer::when(over, false),
            _ => Answer::when(false, last),
        }
    }

    fn test_answer(
        &mut self,
        test: &TransactionTest,
        signature: &Compiled,
        transaction: &Transaction,
        digests: &mut std::slice::Iter<'_, u16>,
    ) -> Answer {
        let direction = self.scene.direction;
        let over = reached(transaction, direction, Stage::Complete);
        match test {
            TransactionTest::Event(name) => {
                let seen = transaction
                    .events
                    .iter()
                    .any(|(way, event)| event == name && (signature.rule.direction.is_none() || *way == direction));
                Answer::when(seen, over)
            }
            TransactionTest::Integer(integer, comparisons) => {
                let here = transaction.directed_integers.iter().filter(|(way, ..)| *way == direction);
                let here = here.map(|(_, known, value)| (known, value));
                let holds = transaction.integers.iter().map(|(known, value)| (known, value)).chain(here).any(
                    |(known, value)| known == integer && comparisons.iter().any(|comparison| comparison.holds(*value)),
                );
                Answer::when(holds, over)
            }
            TransactionTest::DcerpcInterface { uuid, version, any_fragment } => {
                let holds = transaction.buffers.iter().any(|content| {
                    content.buffer == Buffer::DcerpcInterface
                        && interface_holds(&content.data, uuid, version.as_ref(), *any_fragment)
                });
                Answer::when(holds, over)
            }
            TransactionTest::TlsCertificateExpired(expired) => {
                let ends = |(way, known, _): &&(Direction, Integer, u64)| {
                    *way == direction && *known == Integer::TlsCertNotAfter
                };
                match transaction.directed_integers.iter().find(ends) {
                    Some(&(_, _, until)) => Answer::when((self.scene.now / 1_000_000_000 > until) == *expired, over),
                    None => Answer::when(false, over),
                }
            }
            TransactionTest::TlsVersion { negated, versions } => {
                let mut known = transaction.integers.iter().filter(|(integer, _)| *integer == Integer::TlsVersion);
                match known.next_back() {
                    Some(&(_, value)) => {
                        let named = versions.iter().any(|&version| u64::from(version) == value);
                        Answer::when(named != *negated, over)
                    }
                    None => Answer::when(false, over),
                }
            }
            TransactionTest::TlsState { negated, reached: points } => {
                if self.scene.protocol != Some(Protocol::Tls) {
                    return Answer::No;
                }
                let any = points.iter().any(|&(way, stage)| reached(transaction, way, stage));
                Answer::when(any != *negated, over)
            }
            TransactionTest::FtpBounce => {
                let client = self.scene.flow.map(|flow| flow.client.0);
                let holds = transaction.buffers.iter().any(|content| {
                    content.buffer == Buffer::FtpPortAddress
                        && client.is_some_and(|client| {
                            let mut room = [0; 16];
                            super::packet::address_bytes(client, &mut room) != &*content.data
                        })
                });
                Answer::when(holds, over)
            }
            TransactionTest::FileName { content, nocase, negated } => self.files(transaction, over, |file| {
                let name = file.name.as_ref()?;
                Some(find(name, content, *nocase) != *negated)
            }),
            TransactionTest::FileExtension { content, negated } => self.files(transaction, over, |file| {
                let name = file.name.as_ref()?;
                let extension = name.iter().rposition(|&byte| byte == b'.').and_then(|dot| name.get(dot + 1..))?;
                Some(extension.eq_ignore_ascii_case(content) != *negated)
            }),
            TransactionTest::FileSize(comparison) => self.files(transaction, over, |file| {
                (file.state == FileState::Closed).then(|| comparison.holds(file.size))
            }),
            TransactionTest::FileDigest { kind, negated, .. } => {
                let Some(&set) = digests.next() else { return Answer::No };
                let sets = &self.detector.sets;
                self.files(transaction, over, |file| {
                    let digest = match kind {
                        DigestKind::Md5 => &file.digests.md5,
                        DigestKind::Sha1 => &file.digests.sha1,
                        DigestKind::Sha256 => &file.digests.sha256,
                    };
                    Some(sets.has_digest(set, digest.as_ref()?) != *negated)
                })
            }
            TransactionTest::State(comparison) => {
                let stage = match transaction.progress[direction as usize] {
                    Stage::Started => 0,
                    Stage::Line | Stage::Headers => 1,
                    Stage::Body => 4,
                    Stage::Complete => 5,
                };
                Answer::when(comparison.holds(stage), over)
            }
        }
    }

    /// Whether some file of this direction is as asked; `None` from `asked`: it cannot be said of this file yet.
    fn files(&self, transaction: &Transaction, over: bool, asked: impl Fn(&File) -> Option<bool>) -> Answer {
        let direction = self.scene.direction;
        let mut of_direction =
            transaction.files.iter().filter(|file| file.direction.is_none_or(|way| way == direction));
        Answer::when(of_direction.any(|file| asked(file) == Some(true)), over)
    }
}

/// Whether a direction of a transaction has come as far as `stage`.
fn reached(transaction: &Transaction, direction: Direction, stage: Stage) -> bool {
    transaction.progress[direction as usize] >= stage
}

/// A buffer that is read while the body comes is whole only when everything is.
fn later(stage: Stage) -> Stage {
    if stage == Stage::Body { Stage::Complete } else { stage }
}

/// How many files are closed, which is when their digests and sizes are known.
fn digests(files: &[File]) -> u16 {
    files.iter().filter(|file| file.state != FileState::Open).count() as u16
}

/// All there is of a buffer: direction, bytes, whether nothing is added. Files lie beside the other buffers.
fn instances(transaction: &Transaction, buffer: Buffer) -> impl Iterator<Item = (Option<Direction>, &[u8], bool)> {
    let buffers = transaction
        .buffers
        .iter()
        .filter(move |content| content.buffer == buffer)
        .map(|content| (Some(content.direction), content.data.as_slice(), content.complete));
    let files = transaction.files.iter().filter_map(move |file| match buffer {
        Buffer::FileData => Some((file.direction, file.data.as_slice(), file.state != FileState::Open)),
        Buffer::FileName => Some((file.direction, file.name.as_deref()?, true)),
        _ => None,
    });
    buffers.chain(files)
}

/// UUID, version and first fragment as the DCERPC parser writes them (see [`crate::app::buffer`]).
fn interface_holds(
    data: &[u8],
    uuid: &[u8; 16],
    version: Option<&crate::rules::number::Comparison>,
    any_fragment: bool,
) -> bool {
    let Some((known, rest)) = data.split_at_checked(16) else { return false };
    let [major_high, major_low, _, _, first, ..] = rest else { return false };
    known == uuid
        && version.is_none_or(|version| version.holds(u64::from(u16::from_be_bytes([*major_high, *major_low]))))
        && (any_fragment || *first == 1)
}

fn find(name: &[u8], wanted: &[u8], nocase: bool) -> bool {
    let same = |part: &[u8]| if nocase { part.eq_ignore_ascii_case(wanted) } else { part == wanted };
    !wanted.is_empty() && name.windows(wanted.len()).any(same)
}
