//! Signatures grouped by what finds them: literals per buffer and direction, headers for the rest.

use std::collections::HashMap;

use ahash::AHashMap;
use memchr::memmem;

use super::cache::{Cache, Key};
use super::signature::{Compiled, Fast, FastTarget, Kind};
use super::transform::ReadyTransform;
use super::vectorscan::{Database, Literal, Scratch};
use crate::Direction;
use crate::app::Protocol;
use crate::app::buffer::Buffer;
use crate::rules::Read;
use crate::rules::address::Ports;
use crate::rules::header::{Arrow, Layer};
use crate::rules::test::{FlagMode, PacketTest, TransactionTest};
use crate::rules::transform::Transform;

/// Literals of many signatures, and who wants to know of each.
#[derive(Debug, Default)]
pub struct Group {
    database: Option<Database>,
    /// In place of a database: so few that each is looked for by itself, which costs less than beginning a scan.
    few: Box<[LiteralKey]>,
    /// For each literal, where its signatures begin in `signatures`; one entry more at the end.
    starts: Box<[u32]>,
    signatures: Box<[u32]>,
    /// The longest literal, in bytes.
    pub longest: usize,
}

impl Group {
    /// Whether nothing is looked for.
    pub fn is_empty(&self) -> bool {
        self.database.is_none() && self.few.is_empty()
    }

    /// Adds the signatures whose literal is in `data` to `found`; false if a limit cut the search.
    pub fn scan(&self, data: &[u8], scratch: &mut Scratch, hits: &mut Vec<u32>, found: &mut Vec<u32>) -> bool {
        hits.clear();
        let whole = if let Some(database) = &self.database {
            database.scan(data, scratch, hits)
        } else {
            let there = self.few.iter().enumerate().filter(|(_, (bytes, nocase))| is_in(bytes, *nocase, data));
            hits.extend(there.map(|(at, _)| at as u32));
            true
        };
        for &hit in hits.iter() {
            let at = hit as usize;
            if let (Some(&from), Some(&to)) = (self.starts.get(at), self.starts.get(at + 1)) {
                found.extend_from_slice(self.signatures.get(from as usize..to as usize).unwrap_or_default());
            }
        }
        whole
    }
}

/// Literals that can be anywhere, and those that can only be at the beginning.
#[derive(Debug, Default)]
pub struct Searched {
    /// Anywhere.
    pub anywhere: Group,
    /// Within the first [`NEAR`] bytes.
    pub near: Group,
    /// Anywhere, too short for the group.
    pub shorts: Vec<Short>,
}

impl Searched {
    /// What of `data`, of which `before` bytes were searched already, each group has to see.
    pub fn parts<'g, 'd>(&'g self, data: &'d [u8], before: usize) -> [(&'g Group, &'d [u8]); 2] {
        let from = before.saturating_sub(self.anywhere.longest.saturating_sub(1));
        let near = if before < NEAR { data.get(..NEAR).unwrap_or(data) } else { &[] };
        [(&self.anywhere, data.get(from..).unwrap_or_default()), (&self.near, near)]
    }

    fn groups(&self) -> [&Group; 2] {
        [&self.anywhere, &self.near]
    }
}

/// A signature with a literal so short that many literals together would be found more slowly for it.
#[derive(Debug)]
pub struct Short {
    /// Which.
    pub signature: u32,
    literal: Box<[u8]>,
    nocase: bool,
}

impl Short {
    /// Whether the literal is in `data`, of which `before` bytes were searched already.
    pub fn is_in(&self, data: &[u8], before: usize) -> bool {
        let from = before.saturating_sub(self.literal.len().saturating_sub(1));
        let data = data.get(from..).unwrap_or_default();
        is_in(&self.literal, self.nocase, data)
    }
}

/// Whether a literal is in `data`.
fn is_in(literal: &[u8], nocase: bool, data: &[u8]) -> bool {
    if nocase { super::matching::find_nocase(literal, data).is_some() } else { memmem::find(data, literal).is_some() }
}

/// Two groups in the making.
#[derive(Default)]
struct WantedBoth {
    anywhere: Wanted,
    near: Wanted,
}

impl WantedBoth {
    fn add(&mut self, fast: &Fast, signature: u32) {
        let near = fast.end.is_some_and(|end| end <= NEAR);
        let group = if near { &mut self.near } else { &mut self.anywhere };
        group.add(&fast.bytes, fast.nocase, signature);
    }

    fn compile(mut self, cache: &mut Cache) -> Result<Searched, super::BuildError> {
        let short = |bytes: &[u8], nocase: bool| bytes.len() < SHORT && !nocase;
        let few = self.anywhere.literals.keys().filter(|(bytes, nocase)| short(bytes, *nocase)).count();
        let mut shorts = Vec::new();
        if few <= SHORTS_MAX && SHORTS_WORTH.contains(&self.anywhere.literals.len()) {
            self.anywhere.literals.retain(|(bytes, nocase), signatures| {
                let short = short(bytes, *nocase);
                if short {
                    shorts.extend(signatures.iter().map(|&signature| Short {
                        signature,
                        literal: bytes.clone(),
                        nocase: *nocase,
                    }));
                }
                !short
            });
            shorts.sort_unstable_by_key(|short| short.signature);
        }
        Ok(Searched { anywhere: self.anywhere.compile(cache)?, near: self.near.compile(cache)?, shorts })
    }
}

/// A group in the making: literal (bytes, whatever case) to signatures.
#[derive(Default)]
struct Wanted {
    literals: AHashMap<LiteralKey, Vec<u32>>,
}

/// A literal, and whether case does not count.
type LiteralKey = (Box<[u8]>, bool);

impl Wanted {
    fn add(&mut self, bytes: &[u8], nocase: bool, signature: u32) {
        self.literals.entry((bytes.into(), nocase)).or_default().push(signature);
    }

    fn compile(self, cache: &mut Cache) -> Result<Group, super::BuildError> {
        if self.literals.is_empty() {
            return Ok(Group::default());
        }
        let mut literals: Vec<(LiteralKey, Vec<u32>)> = self.literals.into_iter().collect();
        literals.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let (mut starts, mut signatures) = (Vec::with_capacity(literals.len() + 1), Vec::new());
        let mut key = Key::new();
        for ((bytes, nocase), wanting) in &literals {
            key.add(&[u8::from(*nocase)]);
            key.add(bytes);
            starts.push(signatures.len() as u32);
            signatures.extend_from_slice(wanting);
        }
        starts.push(signatures.len() as u32);
        let longest = literals.iter().map(|((bytes, _), _)| bytes.len()).max().unwrap_or(0);
        if literals.len() <= FEW {
            let few = literals.into_iter().map(|(literal, _)| literal).collect();
            return Ok(Group { database: None, few, starts: starts.into(), signatures: signatures.into(), longest });
        }
        let database = cache.database(key, || {
            let wanted: Vec<Literal<'_>> =
                literals.iter().map(|((bytes, nocase), _)| Literal { bytes, nocase: *nocase }).collect();
            Database::compile(&wanted)
        })?;
        let few = Box::default();
        Ok(Group { database: Some(database), few, starts: starts.into(), signatures: signatures.into(), longest })
    }
}

/// Literals of one buffer as some transforms leave it.
#[derive(Debug)]
pub struct BufferGroup {
    /// What is done with it first.
    pub transforms: Box<[ReadyTransform]>,
    /// What is looked for.
    pub searched: Searched,
}

/// Signatures that no literal finds, by transport.
#[derive(Debug, Default)]
pub struct ByTransport {
    /// TCP, UDP, ICMP, others.
    lists: [Vec<u32>; 4],
}

/// A packet's transport, as an index into [`ByTransport`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TransportClass {
    Tcp = 0,
    Udp = 1,
    Icmp = 2,
    Other = 3,
}

impl ByTransport {
    fn add(&mut self, layer: Layer, signature: u32) {
        let classes: &[TransportClass] = match layer {
            Layer::Udp => &[TransportClass::Udp],
            Layer::Icmp | Layer::Icmpv4 | Layer::Icmpv6 => &[TransportClass::Icmp],
            Layer::Sctp => &[TransportClass::Other],
            // Its rules are for both transports.
            Layer::Application(protocols) if protocols.contains(&Protocol::Dns) => {
                &[TransportClass::Tcp, TransportClass::Udp]
            }
            Layer::Tcp | Layer::TcpPacket | Layer::TcpStream | Layer::Application(_) => &[TransportClass::Tcp],
            _ => &[TransportClass::Tcp, TransportClass::Udp, TransportClass::Icmp, TransportClass::Other],
        };
        for &class in classes {
            self.lists[class as usize].push(signature);
        }
    }

    /// Those for one transport.
    pub fn get(&self, class: TransportClass) -> &[u32] {
        &self.lists[class as usize]
    }
}

/// Everything that finds candidates.
#[derive(Debug, Default)]
pub struct Index {
    buffers: Vec<BufferGroup>,
    /// By buffer and direction: indices into `buffers`.
    by_buffer: Vec<[Vec<u32>; 2]>,
    /// Of streams, by direction.
    pub streams: [Group; 2],
    /// Of streams' beginnings: signatures with contents that have a place of their own.
    pub stream_starts: [Searched; 2],
    /// Of streams, by direction: literals too short for the groups.
    pub stream_shorts: [Vec<Short>; 2],
    /// Of packets' payloads, by transport and direction, for signatures that look at packets.
    pub packets: [[Searched; 2]; 4],
    /// Of bodies of HTTP responses, which are files as well: one scan serves both.
    pub response_bodies: Searched,
    /// Looked at once for each direction of a flow.
    pub ip_only: ByTransport,
    /// Looked at for each packet.
    pub packet: ByTransport,
    /// Looked at for each packet of TCP with SYN.
    pub syn: Vec<u32>,
    /// Looked at for each packet to one of few ports.
    pub to_port: AHashMap<u16, Vec<u32>>,
    /// Looked at when the protocol is known.
    pub protocol_only: ByTransport,
    /// Looked at for each packet of a flow with this protocol.
    pub application: AHashMap<Protocol, Vec<u32>>,
    /// Looked at whenever a stream grows: without a literal.
    pub stream_always: ByTransport,
    /// Looked at for each transaction, by protocol and direction.
    pub transaction: AHashMap<Protocol, [Vec<u32>; 2]>,
    /// Events of packets.
    pub decode_events: HashMap<String, Vec<u32>>,
    /// Events of streams.
    pub stream_events: HashMap<String, Vec<u32>>,
    /// Events of transactions and flows.
    pub events: HashMap<String, Vec<u32>>,
    /// Whether any signature looks at streams at all.
    pub looks_at_streams: bool,
}

/// Literals shorter than this are kept out of the groups that see whole streams: they halve the matcher's speed.
const SHORT: usize = 4;
/// With more of them than this, one search for all is cheaper than one for each.
const SHORTS_MAX: usize = 32;
/// With fewer literals a group is fast in any case; with more, short ones were measured to cost nothing.
const SHORTS_WORTH: std::ops::Range<usize> = 48..512;
/// So few literals need no database.
const FEW: usize = 4;
/// How far in the literals reach that are looked for at the beginning only.
pub const NEAR: usize = 128;
/// Signatures for at most so many ports are looked up by port.
const FEW_PORTS: u128 = 16;

/// All protocols.
const PROTOCOLS: &[Protocol] = &[
    Protocol::Http1,
    Protocol::Http2,
    Protocol::Doh2,
    Protocol::Dns,
    Protocol::Tls,
    Protocol::Smtp,
    Protocol::Ftp,
    Protocol::FtpData,
    Protocol::Ssh,
    Protocol::Dcerpc,
    Protocol::Smb,
];

type BufferKey = (Buffer, usize, Vec<Transform>);

/// Groups in the making.
#[derive(Default)]
struct Making {
    streams: [Wanted; 2],
    stream_starts: [WantedBoth; 2],
    stream_shorts: [Vec<Short>; 2],
    packets: [[WantedBoth; 2]; 4],
    response_bodies: WantedBoth,
    buffers: HashMap<BufferKey, WantedBoth>,
}

impl Index {
    /// Groups signatures, whose index is their position. `inspections` gives the transforms of a signature's buffer.
    ///
    /// # Errors
    /// The multi-pattern matcher refuses.
    pub fn build(signatures: &[Compiled], cache: &mut Cache) -> Result<Self, super::BuildError> {
        let mut index =
            Self { by_buffer: (0..Buffer::ALL.len()).map(|_| Default::default()).collect(), ..Self::default() };
        let mut making = Making::default();
        for (at, signature) in signatures.iter().enumerate() {
            index.place(at as u32, signature, &mut making);
        }
        let [to_server, to_client] = making.streams;
        index.streams = [to_server.compile(cache)?, to_client.compile(cache)?];
        index.stream_starts = compile_two(making.stream_starts, cache)?;
        index.stream_shorts = making.stream_shorts;
        index.response_bodies = making.response_bodies.compile(cache)?;
        for (groups, wanted) in index.packets.iter_mut().zip(making.packets) {
            *groups = compile_two(wanted, cache)?;
        }
        let mut buffers: Vec<(BufferKey, WantedBoth)> = making.buffers.into_iter().collect();
        buffers.sort_unstable_by_key(|((buffer, direction, transforms), _)| {
            (*buffer, *direction, format!("{transforms:?}"))
        });
        for ((buffer, direction, transforms), wanted) in buffers {
            let transforms = transforms.iter().map(ReadyTransform::new).collect::<Read<Vec<_>>>();
            let transforms = transforms.unwrap_or_default().into_boxed_slice();
            let number = index.buffers.len() as u32;
            index.buffers.push(BufferGroup { transforms, searched: wanted.compile(cache)? });
            index.by_buffer[buffer as usize][direction].push(number);
        }
        Ok(index)
    }

    /// The groups that look into a buffer.
    pub fn of_buffer(&self, buffer: Buffer, direction: Direction) -> impl Iterator<Item = &BufferGroup> {
        let numbers = self.by_buffer.get(buffer as usize).map_or(&[][..], |both| &both[direction as usize]);
        numbers.iter().filter_map(|&number| self.buffers.get(number as usize))
    }

    /// Makes room for scans of all groups.
    ///
    /// # Errors
    /// There is no memory.
    pub fn fit(&self, scratch: &mut Scratch) -> Result<(), super::vectorscan::Error> {
        let buffers = self.buffers.iter().map(|group| &group.searched);
        let others = self.packets.iter().flatten().chain(&self.stream_starts).chain([&self.response_bodies]);
        for group in buffers.chain(others).flat_map(Searched::groups).chain(&self.streams) {
            if let Some(database) = &group.database {
                scratch.fit(database)?;
            }
        }
        Ok(())
    }

    fn place(&mut self, at: u32, signature: &Compiled, making: &mut Making) {
        let layer = signature.rule.header.layer;
        match signature.kind {
            Kind::IpOnly => self.ip_only.add(layer, at),
            Kind::ProtocolOnly => self.protocol_only.add(layer, at),
            Kind::Application => {
                for protocol in signature.protocols().unwrap_or(PROTOCOLS) {
                    self.application.entry(*protocol).or_default().push(at);
                }
            }
            Kind::Transaction => self.place_transaction(at, signature, making),
            Kind::Packet | Kind::Stream => self.place_packet(at, signature, making),
        }
    }

    fn place_packet(&mut self, at: u32, signature: &Compiled, making: &mut Making) {
        let layer = signature.rule.header.layer;
        self.looks_at_streams |= signature.places.streams && !signature.payload.is_empty();
        for test in &signature.rule.packet_tests {
            match test {
                PacketTest::DecodeEvent(name) => {
                    self.decode_events.entry(name.clone()).or_default().push(at);
                    return;
                }
                PacketTest::StreamEvent(name) => {
                    self.stream_events.entry(name.clone()).or_default().push(at);
                    return;
                }
                _ => {}
            }
        }
        match signature.fast.as_ref().filter(|fast| fast.target == FastTarget::Payload) {
            Some(fast) => place_payload(at, signature, fast, making),
            None if signature.kind == Kind::Stream => self.stream_always.add(layer, at),
            None if needs_syn(signature) => self.syn.push(at),
            None => match few_ports(signature) {
                Some(ports) => {
                    for port in ports {
                        self.to_port.entry(port).or_default().push(at);
                    }
                }
                None => self.packet.add(layer, at),
            },
        }
    }

    fn place_transaction(&mut self, at: u32, signature: &Compiled, making: &mut Making) {
        for test in &signature.rule.transaction_tests {
            if let TransactionTest::Event(name) = test {
                self.events.entry(name.clone()).or_default().push(at);
                return;
            }
        }
        self.looks_at_streams |= !signature.payload.is_empty();
        match &signature.fast {
            Some(fast) if fast.target != FastTarget::Payload => {
                let FastTarget::Buffer { buffer, inspection } = fast.target else { return };
                let transforms: Vec<Transform> = signature
                    .buffers
                    .get(inspection)
                    .map(|inspection| inspection.transforms.iter().map(|ready| ready.transform().clone()).collect())
                    .unwrap_or_default();
                let own = buffer.direction();
                for direction in 0..2 {
                    let allowed = if signature.whole() { true } else { signature.directions[direction] };
                    if allowed && own.is_none_or(|own| own as usize == direction) {
                        if transforms.is_empty()
                            && direction == Direction::ToClient as usize
                            && matches!(buffer, Buffer::HttpResponseBody | Buffer::FileData)
                        {
                            making.response_bodies.add(fast, at);
                        }
                        let key = (buffer, direction, transforms.clone());
                        let wanted = making.buffers.entry(key).or_default();
                        if matches!(buffer, Buffer::FileData | Buffer::HttpRequestBody | Buffer::HttpResponseBody) {
                            wanted.add(fast, at);
                        } else {
                            // Short enough for one scan of the whole.
                            wanted.anywhere.add(&fast.bytes, fast.nocase, at);
                        }
                    }
                }
            }
            Some(fast) => place_payload(at, signature, fast, making),
            None => {
                for protocol in signature.protocols().unwrap_or(PROTOCOLS) {
                    for direction in 0..2 {
                        if signature.directions[direction] {
                            self.transaction.entry(*protocol).or_default()[direction].push(at);
                        }
                    }
                }
            }
        }
    }
}

/// Puts a signature's literal where payloads are looked at: of packets, of streams, or only of their beginnings.
fn place_payload(at: u32, signature: &Compiled, fast: &Fast, making: &mut Making) {
    let mut all = ByTransport::default();
    all.add(signature.rule.header.layer, at);
    let tcp = !all.lists[TransportClass::Tcp as usize].is_empty();
    let beginning = signature.near.as_ref().unwrap_or(fast);
    for direction in (0..2).filter(|&direction| signature.directions[direction]) {
        for (class, groups) in making.packets.iter_mut().enumerate() {
            if !all.lists[class].is_empty() && (signature.places.packets || class != TransportClass::Tcp as usize) {
                groups[direction].add(beginning, at);
            }
        }
        if !signature.places.streams || !tcp {
            continue;
        }
        if signature.positioned {
            making.stream_starts[direction].add(beginning, at);
        } else if fast.bytes.len() < SHORT {
            let (literal, nocase) = (fast.bytes.clone(), fast.nocase);
            making.stream_shorts[direction].push(Short { signature: at, literal, nocase });
        } else {
            making.streams[direction].add(&fast.bytes, fast.nocase, at);
        }
    }
}

/// Whether only packets with SYN can match.
fn needs_syn(signature: &Compiled) -> bool {
    signature.rule.packet_tests.iter().any(|test| match test {
        PacketTest::Flags(flags) => {
            matches!(flags.mode, FlagMode::Exactly | FlagMode::All) && flags.flags & !flags.ignored & SYN != 0
        }
        _ => false,
    })
}

/// The destination ports of a signature that is for few.
fn few_ports(signature: &Compiled) -> Option<Vec<u16>> {
    let header = &signature.rule.header;
    let Ports::Some(ports) = &header.destination_ports else { return None };
    if header.arrow == Arrow::Both || ports.ranges().iter().map(|(low, high)| high - low + 1).sum::<u128>() > FEW_PORTS
    {
        return None;
    }
    Some(ports.ranges().iter().flat_map(|&(low, high)| low as u16..=high as u16).collect())
}

/// The SYN bit of TCP's flags.
const SYN: u8 = 0x02;

fn compile_two(wanted: [WantedBoth; 2], cache: &mut Cache) -> Result<[Searched; 2], super::BuildError> {
    let [to_server, to_client] = wanted;
    Ok([to_server.compile(cache)?, to_client.compile(cache)?])
}
