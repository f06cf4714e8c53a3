//! What is being looked at, and what is asked of it beside bytes.

use std::net::IpAddr;

use super::bits::Ends;
use super::datasets::DataSets;
use super::packet;
use super::signature::{Compiled, FlowBitTest, ReadyEffect, establishment_holds};
use super::state::{FLOW_VALUES, FlowState, Store};
use crate::Direction;
use crate::app::Protocol;
use crate::decode::{Nanos, Packet, Transport};
use crate::flow::Flow;
use crate::rules::header::{Arrow, Layer};
use crate::rules::pattern::Capture;
use crate::rules::test::{
    BitOperation, Effect, FlowInteger, FlowIntegerOperation, FlowIntegerValue, FlowTest, ProtocolName, ProtocolOf,
    StreamSide,
};

/// A packet, its flow, or both.
#[derive(Clone, Copy)]
pub struct Scene<'s> {
    pub packet: Option<&'s Packet<'s>>,
    pub flow: Option<&'s Flow>,
    /// The flow's application protocol.
    pub protocol: Option<Protocol>,
    pub direction: Direction,
    /// Who sent, in this direction.
    pub source: End,
    pub destination: End,
    pub now: Nanos,
    pub tenant: u32,
    /// The bit of the owner's rule profile.
    pub profile: u64,
}

impl<'s> Scene<'s> {
    /// Of what [`super::Detector::inspect`] is given.
    pub fn new(
        packet: Option<&'s Packet<'s>>,
        flow: Option<&'s Flow>,
        protocol: Option<Protocol>,
        direction: Direction,
    ) -> Self {
        let (source, destination) = match (packet, flow) {
            (Some(packet), _) => ends_of(packet),
            (None, Some(flow)) => {
                let with_port = |(address, port): (IpAddr, u16)| Some((address, Some(port)));
                match direction {
                    Direction::ToServer => (with_port(flow.client), with_port(flow.server)),
                    Direction::ToClient => (with_port(flow.server), with_port(flow.client)),
                }
            }
            (None, None) => (None, None),
        };
        let owner = flow.map(|flow| flow.owner).unwrap_or_default();
        Self {
            packet,
            flow,
            protocol,
            direction,
            source,
            destination,
            now: packet.map(|packet| packet.time).or(flow.map(|flow| flow.last)).unwrap_or_default(),
            tenant: owner.tenant,
            profile: 1_u64.checked_shl(u32::from(owner.profile)).unwrap_or(0),
        }
    }

    /// Both addresses, for what is remembered of hosts.
    pub fn ends(&self) -> Option<Ends> {
        Some(Ends { tenant: self.tenant, source: self.source?.0, destination: self.destination?.0 })
    }

    /// Whether the header of a rule fits: layer, addresses, ports, direction, state of the flow.
    pub fn header_fits(&self, signature: &Compiled) -> bool {
        let rule = &signature.rule;
        if signature.profiles & self.profile == 0 || !self.layer_fits(rule.header.layer) {
            return false;
        }
        let directed = rule.direction.is_some() || rule.establishment.is_some() || rule.stateless;
        if directed && self.flow.is_none() {
            return false;
        }
        if self.flow.is_some() && !signature.directions[self.direction as usize] {
            return false;
        }
        if !establishment_holds(rule.establishment, self.flow.map(|flow| flow.established)) {
            return false;
        }
        let (source, destination) = match (rule.header.arrow, self.direction) {
            (Arrow::Transaction, Direction::ToClient) => (self.destination, self.source),
            _ => (self.source, self.destination),
        };
        Self::ends_fit(rule, source, destination)
            || (rule.header.arrow == Arrow::Both && Self::ends_fit(rule, destination, source))
    }

    fn ends_fit(rule: &crate::rules::Rule, source: End, destination: End) -> bool {
        use crate::rules::address::{Addresses, Ports};
        let fits = |end: End, addresses: &Addresses, ports: &Ports| {
            let address = *addresses == Addresses::Any || end.is_some_and(|(address, _)| addresses.contains(address));
            let port =
                || *ports == Ports::Any || end.and_then(|(_, port)| port).is_some_and(|port| ports.contains(port));
            address && port()
        };
        fits(source, &rule.header.source, &rule.header.source_ports)
            && fits(destination, &rule.header.destination, &rule.header.destination_ports)
    }

    fn layer_fits(&self, layer: Layer) -> bool {
        let transport = self.packet.map(|packet| &packet.transport);
        let protocol = self.flow.map(|flow| flow.protocol);
        let is = |number: u8, seen: bool| seen || (self.packet.is_none() && protocol == Some(number));
        let v4 = || self.source.map(|(address, _)| address.is_ipv4());
        match layer {
            Layer::PacketHeader => self.packet.is_some(),
            Layer::Ip => self.source.is_some(),
            Layer::Ipv4 => v4() == Some(true),
            Layer::Ipv6 => v4() == Some(false),
            Layer::Tcp | Layer::TcpPacket | Layer::TcpStream => is(6, matches!(transport, Some(Transport::Tcp(_)))),
            Layer::Udp => is(17, matches!(transport, Some(Transport::Udp { .. }))),
            Layer::Sctp => is(132, matches!(transport, Some(Transport::Sctp { .. }))),
            Layer::Icmp => matches!(transport, Some(Transport::Icmp { .. })),
            Layer::Icmpv4 => matches!(transport, Some(Transport::Icmp { .. })) && v4() == Some(true),
            Layer::Icmpv6 => matches!(transport, Some(Transport::Icmp { .. })) && v4() == Some(false),
            Layer::Application(protocols) => self.protocol.is_some_and(|protocol| protocols.contains(&protocol)),
        }
    }

    /// Whether everything that is asked of the packet's headers holds.
    pub fn packet_tests_hold(&self, signature: &Compiled) -> bool {
        if signature.rule.packet_tests.is_empty() {
            return true;
        }
        let Some(packet) = self.packet else { return false };
        let events = self.flow.and_then(|flow| flow.stream.as_ref()).map_or(&[][..], |stream| &stream.events[..]);
        signature.rule.packet_tests.iter().all(|test| packet::holds(test, packet, events))
    }

    /// Whether everything that is asked of the flow and its hosts holds.
    pub fn flow_tests_hold(&self, signature: &Compiled, state: Option<&FlowState>, store: &Store) -> bool {
        signature.flow_bits.iter().all(|test| bits_hold(test, state))
            && signature.rule.flow_tests.iter().all(|test| match test {
                FlowTest::Bits { .. } => true,
                FlowTest::Integer(integer) => state.is_some_and(|state| integer_holds(integer, state)),
                FlowTest::HostBit(bit) => self.ends().is_some_and(|ends| store.host_bits.holds(bit, ends, self.now)),
                FlowTest::Age(comparison) => self.flow.is_some_and(|flow| {
                    // Whole seconds of both are compared, as Suricata does.
                    comparison.holds((self.now / 1_000_000_000).saturating_sub(flow.first / 1_000_000_000))
                }),
                FlowTest::Packets { to_server, count } => {
                    self.flow.is_some_and(|flow| either(*to_server, flow.packets, |packets| count.holds(packets)))
                }
                FlowTest::Bytes { to_server, count } => {
                    self.flow.is_some_and(|flow| either(*to_server, flow.bytes, |bytes| count.holds(bytes)))
                }
                FlowTest::StreamSize { side, size } => {
                    let Some(stream) = self.flow.and_then(|flow| flow.stream.as_ref()) else { return false };
                    let [client, server] = [&stream.sides[0], &stream.sides[1]].map(|side| size.holds(side.in_order));
                    match side {
                        StreamSide::Client => client,
                        StreamSide::Server => server,
                        StreamSide::Both => client && server,
                        StreamSide::Either => client || server,
                    }
                }
                FlowTest::Protocol { negated, name, of } => self.protocol_holds(*negated, *name, *of),
            })
    }

    fn protocol_holds(&self, negated: bool, name: ProtocolName, of: ProtocolOf) -> bool {
        let Some(flow) = self.flow else { return false };
        let of_direction = |way: usize| (flow.recognised[way], flow.recognition_over[way]);
        let one = |(protocol, over): (Option<Protocol>, bool)| match name {
            ProtocolName::Failed => (protocol.is_none() && over) != negated,
            ProtocolName::Unknown => protocol.is_none() && !over,
            // What is not known yet satisfies neither a name nor its negation.
            ProtocolName::Known(names) => match protocol {
                Some(protocol) => names.contains(&protocol) != negated,
                None => negated && over,
            },
            ProtocolName::Never => negated && (protocol.is_some() || over),
        };
        match of {
            ProtocolOf::Direction => one(of_direction(self.direction as usize)),
            ProtocolOf::ToServer => one(of_direction(0)),
            ProtocolOf::ToClient => one(of_direction(1)),
            ProtocolOf::Either => one(of_direction(0)) || one(of_direction(1)),
            ProtocolOf::Final => one((self.protocol, flow.recognition_over == [true; 2])),
            ProtocolOf::Original => {
                one((flow.original.or(flow.recognised[0]).or(flow.recognised[1]), flow.recognition_over == [true; 2]))
            }
        }
    }
}

fn either(to_server: Option<bool>, counts: [u64; 2], holds: impl Fn(u64) -> bool) -> bool {
    match to_server {
        Some(true) => holds(counts[0]),
        Some(false) => holds(counts[1]),
        None => counts.into_iter().any(holds),
    }
}

/// An address, and a port where there are ports.
type End = Option<(IpAddr, Option<u16>)>;

fn ends_of(packet: &Packet<'_>) -> (End, End) {
    let Some(ip) = &packet.ip else { return (None, None) };
    let ports = match &packet.transport {
        Transport::Tcp(tcp) => Some((tcp.source, tcp.destination)),
        Transport::Udp { source, destination, .. } | Transport::Sctp { source, destination } => {
            Some((*source, *destination))
        }
        _ => None,
    };
    (Some((ip.source, ports.map(|ports| ports.0))), Some((ip.destination, ports.map(|ports| ports.1))))
}

fn bits_hold(test: &FlowBitTest, state: Option<&FlowState>) -> bool {
    let any = state.is_some_and(|state| test.bits.iter().any(|bit| state.bits.contains(bit)));
    any == test.set
}

fn integer_holds(integer: &FlowInteger, state: &FlowState) -> bool {
    let known = state.integer(&integer.name);
    let value = match &integer.value {
        FlowIntegerValue::Number(number) => Some(*number),
        FlowIntegerValue::Name(name) => state.integer(name),
    };
    match (integer.operation, known, value) {
        (FlowIntegerOperation::IsSet, known, _) => known.is_some(),
        (FlowIntegerOperation::IsNotSet, known, _) => known.is_none(),
        (operation, Some(known), Some(value)) => match operation {
            FlowIntegerOperation::Less => known < value,
            FlowIntegerOperation::AtMost => known <= value,
            FlowIntegerOperation::Equal => known == value,
            FlowIntegerOperation::NotEqual => known != value,
            FlowIntegerOperation::AtLeast => known >= value,
            FlowIntegerOperation::Greater => known > value,
            _ => false,
        },
        _ => false,
    }
}

/// Does what a rule orders beside its action.
pub fn apply(effects: &[ReadyEffect], scene: &Scene<'_>, mut state: Option<&mut FlowState>, store: &mut Store) {
    for effect in effects {
        match effect {
            ReadyEffect::FlowBit(operation, bit) => {
                let Some(state) = state.as_deref_mut() else { continue };
                let at = state.bits.iter().position(|known| known == bit);
                match (operation, at) {
                    (BitOperation::Set | BitOperation::Toggle, None) if state.bits.len() < FLOW_VALUES => {
                        state.bits.push(*bit);
                    }
                    (BitOperation::Unset | BitOperation::Toggle, Some(at)) => {
                        state.bits.swap_remove(at);
                    }
                    _ => {}
                }
            }
            ReadyEffect::Other(Effect::Integer(integer)) => {
                let Some(state) = state.as_deref_mut() else { continue };
                let value = match &integer.value {
                    FlowIntegerValue::Number(number) => *number,
                    FlowIntegerValue::Name(name) => state.integer(name).unwrap_or(0),
                };
                let known = state.integer(&integer.name).unwrap_or(0);
                let new = match integer.operation {
                    FlowIntegerOperation::Add => known.wrapping_add(value),
                    FlowIntegerOperation::Subtract => known.saturating_sub(value),
                    _ => value,
                };
                state.set_integer(&integer.name, new);
            }
            ReadyEffect::Other(Effect::HostBit(bit)) => {
                if let Some(ends) = scene.ends() {
                    store.host_bits.change(bit, ends, scene.now);
                }
            }
            ReadyEffect::Other(_) => {}
        }
    }
}

/// What a match leaves beside its alert.
#[derive(Debug, Default)]
pub struct Notes {
    /// What patterns captured.
    pub captures: Vec<(Capture, Box<[u8]>)>,
    /// Entropies that were asked for, and of which buffer.
    pub entropies: Vec<(&'static str, f64)>,
    /// The buffer that is being looked at.
    pub buffer: Option<crate::app::buffer::Buffer>,
}

/// What the steps of a rule may ask of the outside.
pub struct Around<'a> {
    pub sets: &'a DataSets,
    pub store: &'a mut Store,
    pub tenant: u32,
    pub little_endian: bool,
    /// What is kept if the whole rule matches.
    pub notes: &'a mut Notes,
}

impl super::matching::Surroundings for Around<'_> {
    fn data_set(&mut self, number: u16, value: &[u8]) -> bool {
        self.sets.apply(number, self.tenant, value, &mut self.store.sets)
    }

    fn capture(&mut self, capture: &Capture, value: &[u8]) {
        if self.notes.captures.len() < 32 {
            self.notes.captures.push((capture.clone(), value.get(..256).unwrap_or(value).into()));
        }
    }

    fn entropy(&mut self, value: f64) {
        if self.notes.entropies.len() < 32 {
            let name = self.notes.buffer.map_or("payload", crate::app::buffer::Buffer::name);
            self.notes.entropies.push((name, value));
        }
    }

    fn dce_little_endian(&self) -> bool {
        self.little_endian
    }
}
