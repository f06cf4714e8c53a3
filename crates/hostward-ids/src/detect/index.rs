//! Signatures grouped by what finds them: literals per buffer and direction, headers for the rest.

use std::collections::HashMap;

use ahash::AHashMap;

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
    /// For each literal, where its signatures begin in `signatures`; one entry more at the end.
    starts: Box<[u32]>,
    signatures: Box<[u32]>,
    /// The longest literal, in bytes.
    pub longest: usize,
}

impl Group {
    /// Whether nothing is looked for.
    pub fn is_empty(&self) -> bool {
        self.database.is_none()
    }

    /// Adds the signatures whose literal is in `data` to `found`; false if a limit cut the search.
    pub fn scan(&self, data: &[u8], scratch: &mut Scratch, hits: &mut Vec<u32>, found: &mut Vec<u32>) -> bool {
        let Some(database) = &self.database else { return true };
        hits.clear();
        let whole = database.scan(data, scratch, hits);
        for &hit in hits.iter() {
            let at = hit as usize;
            if let (Some(&from), Some(&to)) = (self.starts.get(at), self.starts.get(at + 1)) {
                found.extend_from_slice(self.signatures.get(from as usize..to as usize).unwrap_or_default());
            }
        }
        whole
    }
}

/// A group in the making: literal (bytes, whatever case) to signatures.
#[derive(Default)]
struct Wanted {
    literals: AHashMap<(Box<[u8]>, bool), Vec<u32>>,
}

impl Wanted {
    fn add(&mut self, bytes: &[u8], nocase: bool, signature: u32) {
        self.literals.entry((bytes.into(), nocase)).or_default().push(signature);
    }

    fn compile(self, cache: &mut Cache) -> Result<Group, super::BuildError> {
        if self.literals.is_empty() {
            return Ok(Group::default());
        }
        let mut literals: Vec<((Box<[u8]>, bool), Vec<u32>)> = self.literals.into_iter().collect();
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
        let database = cache.database(key, || {
            let wanted: Vec<Literal<'_>> =
                literals.iter().map(|((bytes, nocase), _)| Literal { bytes, nocase: *nocase }).collect();
            Database::compile(&wanted)
        })?;
        Ok(Group { database: Some(database), starts: starts.into(), signatures: signatures.into(), longest })
    }
}

/// Literals of one buffer as some transforms leave it.
#[derive(Debug)]
pub struct BufferGroup {
    /// What is done with it first.
    pub transforms: Box<[ReadyTransform]>,
    /// What is looked for.
    pub group: Group,
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
            Layer::Tcp | Layer::TcpPacket | Layer::TcpStream => &[TransportClass::Tcp],
            Layer::Udp => &[TransportClass::Udp],
            Layer::Icmp | Layer::Icmpv4 | Layer::Icmpv6 => &[TransportClass::Icmp],
            Layer::Sctp => &[TransportClass::Other],
            Layer::Application(protocols) => match protocols {
                [Protocol::Dns] => &[TransportClass::Tcp, TransportClass::Udp],
                _ => &[TransportClass::Tcp],
            },
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
    pub stream_starts: [Group; 2],
    /// Of packets' payloads, by transport and direction, for signatures that look at packets.
    pub packets: [[Group; 2]; 4],
    /// Likewise, where the literal can only be in the first [`NEAR`] bytes.
    pub packet_starts: [[Group; 2]; 4],
    /// Of bodies of HTTP responses, which are files as well: one scan serves both.
    pub response_bodies: Group,
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

/// How far into a packet the literals reach that are looked for at its beginning only.
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
    stream_starts: [Wanted; 2],
    packets: [[Wanted; 2]; 4],
    packet_starts: [[Wanted; 2]; 4],
    response_bodies: Wanted,
    buffers: HashMap<BufferKey, Wanted>,
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
        index.streams = compile_two(making.streams, cache)?;
        index.stream_starts = compile_two(making.stream_starts, cache)?;
        index.response_bodies = making.response_bodies.compile(cache)?;
        for (groups, wanted) in index.packets.iter_mut().zip(making.packets) {
            *groups = compile_two(wanted, cache)?;
        }
        for (groups, wanted) in index.packet_starts.iter_mut().zip(making.packet_starts) {
            *groups = compile_two(wanted, cache)?;
        }
        let mut buffers: Vec<(BufferKey, Wanted)> = making.buffers.into_iter().collect();
        buffers.sort_unstable_by_key(|((buffer, direction, transforms), _)| {
            (*buffer, *direction, format!("{transforms:?}"))
        });
        for ((buffer, direction, transforms), wanted) in buffers {
            let transforms = transforms.iter().map(ReadyTransform::new).collect::<Read<Vec<_>>>();
            let transforms = transforms.unwrap_or_default().into_boxed_slice();
            let number = index.buffers.len() as u32;
            index.buffers.push(BufferGroup { transforms, group: wanted.compile(cache)? });
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
        let groups = self.buffers.iter().map(|group| &group.group);
        let packets = self.packets.iter().chain(&self.packet_starts).flatten();
        for group in
            groups.chain(&self.streams).chain(&self.stream_starts).chain(packets).chain([&self.response_bodies])
        {
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
                            making.response_bodies.add(&fast.bytes, fast.nocase, at);
                        }
                        let key = (buffer, direction, transforms.clone());
                        making.buffers.entry(key).or_default().add(&fast.bytes, fast.nocase, at);
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
    let near = fast.end.is_some_and(|end| end <= NEAR);
    for direction in (0..2).filter(|&direction| signature.directions[direction]) {
        let packets = if near { &mut making.packet_starts } else { &mut making.packets };
        for (class, groups) in packets.iter_mut().enumerate() {
            if !all.lists[class].is_empty() && (signature.places.packets || class != TransportClass::Tcp as usize) {
                groups[direction].add(&fast.bytes, fast.nocase, at);
            }
        }
        if signature.places.streams && tcp {
            let streams = if signature.positioned { &mut making.stream_starts } else { &mut making.streams };
            streams[direction].add(&fast.bytes, fast.nocase, at);
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

fn compile_two(wanted: [Wanted; 2], cache: &mut Cache) -> Result<[Group; 2], super::BuildError> {
    let [to_server, to_client] = wanted;
    Ok([to_server.compile(cache)?, to_client.compile(cache)?])
}
