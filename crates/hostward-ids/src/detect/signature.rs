//! A rule compiled: what is asked, in the order that costs least.

use std::collections::HashMap;

use super::step::{self, Ready};
use super::transform::ReadyTransform;
use super::{Action, datasets};
use crate::Direction;
use crate::app::buffer::Buffer;
use crate::app::{Protocol, Stage};
use crate::rules::content::{Content, Operand};
use crate::rules::header::{Arrow, Layer, RuleAction};
use crate::rules::rule::{Absent, PacketBuffer};
use crate::rules::test::{Effect, Establishment, FlowTest, PacketTest, Threshold, TransactionTest};
use crate::rules::{Fault, Inspection, Read, Rule, Step, Target};

/// When a signature is looked at, as Suricata's documentation classes rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Once for each direction of a flow: it asks for addresses and the like only.
    IpOnly,
    /// For each packet.
    Packet,
    /// Once for each direction, when the protocol is known.
    ProtocolOnly,
    /// For each packet of a flow whose protocol is known.
    Application,
    /// For new bytes of the stream, and packets that are in none.
    Stream,
    /// Once for each transaction.
    Transaction,
}

/// Where a payload is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// In packets, even if they belong to a stream.
    pub packets: bool,
    /// In streams, and in packets that belong to none.
    pub streams: bool,
}

/// What is asked of one buffer.
#[derive(Debug)]
pub struct ReadyInspection<T> {
    /// Which one.
    pub target: T,
    /// What is done with it first.
    pub transforms: Box<[ReadyTransform]>,
    /// What has to hold.
    pub steps: Box<[Ready]>,
    /// See [`Absent`].
    pub absent: Option<Absent>,
    /// Whether it can only be judged when nothing is added any more.
    pub need_complete: bool,
}

/// A compiled rule.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Compiled {
    pub rule: Rule,
    pub kind: Kind,
    pub action: Action,
    /// Which rule profiles have it: a bit each.
    pub profiles: u64,
    /// In which directions of a flow it is looked at.
    pub directions: [bool; 2],
    pub places: Places,
    /// Whether a content of the payload has a place of its own, so that only the beginning of a stream can match.
    pub positioned: bool,
    pub payload: Box<[ReadyInspection<()>]>,
    pub packet_buffers: Box<[ReadyInspection<PacketBuffer>]>,
    pub buffers: Box<[ReadyInspection<Buffer>]>,
    /// The point at which it is looked at, if it names one.
    pub hook: Option<(Direction, Stage)>,
    /// What the multi-pattern matcher looks for: which buffer (`None`: the payload), and the content.
    pub fast: Option<Fast>,
    /// A content of the payload that can only be at the beginning, where only beginnings are looked at.
    pub near: Option<Fast>,
    /// Names of bits and the like, as numbers.
    pub flow_bits: Box<[FlowBitTest]>,
    pub effects: Box<[ReadyEffect]>,
    /// Files of digests, by their number among the sets: for each [`TransactionTest::FileDigest`] in order.
    pub digests: Box<[u16]>,
}

/// See [`FlowTest::Bits`].
#[derive(Debug)]
#[allow(missing_docs)]
pub struct FlowBitTest {
    pub set: bool,
    pub bits: Box<[u32]>,
}

/// See [`Effect`].
#[derive(Debug)]
#[allow(missing_docs)]
pub enum ReadyEffect {
    FlowBit(crate::rules::test::BitOperation, u32),
    Other(Effect),
}

/// See [`Compiled::fast`].
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Fast {
    pub target: FastTarget,
    pub bytes: Box<[u8]>,
    pub nocase: bool,
    /// Where it ends at the latest, if that is written.
    pub end: Option<usize>,
}

/// See [`Fast`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum FastTarget {
    Payload,
    Buffer { buffer: Buffer, inspection: usize },
}

/// Numbers for names, shared by all rules.
#[derive(Debug, Default)]
pub struct Names {
    numbers: HashMap<String, u32>,
    names: Vec<String>,
}

impl Names {
    /// A name's number, new or known.
    pub fn number(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = self.names.len() as u32;
        self.numbers.insert(name.to_owned(), number);
        self.names.push(name.to_owned());
        number
    }

    /// A number's name.
    pub fn name(&self, number: u32) -> Option<&str> {
        self.names.get(number as usize).map(String::as_str)
    }
}

/// What compiling shares between rules.
#[derive(Default)]
pub struct Shared<'r> {
    /// Flow bits.
    pub flow_bits: Names,
    /// Datasets and files of digests.
    pub sets: datasets::Builder<'r>,
    /// Whether patterns are known to compile.
    pub checked: bool,
}

impl Compiled {
    /// Compiles one rule.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn new(rule: Rule, shared: &mut Shared<'_>) -> Read<Self> {
        let mut payload = Vec::new();
        let mut packet_buffers = Vec::new();
        let mut buffers = Vec::new();
        for inspection in &rule.inspections {
            match inspection.target {
                Target::Payload => payload.push(ready((), inspection, shared)?),
                Target::Packet(buffer) => packet_buffers.push(ready(buffer, inspection, shared)?),
                Target::Buffer(buffer) => buffers.push(ready(buffer, inspection, shared)?),
            }
        }
        let digests = rule
            .transaction_tests
            .iter()
            .filter_map(|test| match test {
                TransactionTest::FileDigest { kind, file, .. } => Some(shared.sets.digests(*kind, file)),
                _ => None,
            })
            .collect::<Read<Vec<u16>>>()?;
        let flow_bits = rule
            .flow_tests
            .iter()
            .filter_map(|test| match test {
                FlowTest::Bits { set, names } => Some(FlowBitTest {
                    set: *set,
                    bits: names.iter().map(|name| shared.flow_bits.number(name)).collect(),
                }),
                _ => None,
            })
            .collect();
        let effects = rule
            .effects
            .iter()
            .map(|effect| match effect {
                Effect::FlowBit { operation, name } => ReadyEffect::FlowBit(*operation, shared.flow_bits.number(name)),
                other => ReadyEffect::Other(other.clone()),
            })
            .collect();
        let hook = match &rule.header.hook {
            Some(hook) => {
                Some(hook_stage(&hook.name).ok_or_else(|| Fault::new(format!("'{}' is no hook", hook.name)))?)
            }
            None => None,
        };
        let directions = directions(&rule, &buffers, hook)?;
        let kind = kind(&rule, hook.is_some(), &buffers, &payload, &packet_buffers);
        let fast = fast_pattern(&rule);
        Ok(Self {
            action: match rule.header.action {
                RuleAction::Alert => Action::Alert,
                RuleAction::Pass => Action::Pass,
                RuleAction::Drop => Action::Drop,
                RuleAction::Reject | RuleAction::RejectDst | RuleAction::RejectBoth => Action::Reject,
            },
            places: places(&rule),
            positioned: positioned(&rule),
            kind,
            profiles: u64::MAX,
            directions,
            payload: payload.into(),
            packet_buffers: packet_buffers.into(),
            buffers: buffers.into(),
            hook,
            near: near(&rule),
            fast,
            flow_bits,
            effects,
            digests: digests.into(),
            rule,
        })
    }

    /// Whether it covers a whole transaction, both directions.
    pub fn whole(&self) -> bool {
        self.rule.header.arrow == Arrow::Transaction
    }

    /// Which application protocols it is for, if it says.
    pub fn protocols(&self) -> Option<&'static [Protocol]> {
        match self.rule.header.layer {
            Layer::Application(protocols) => Some(protocols),
            _ => None,
        }
    }

    /// Whether it asks for more of the payload than one literal.
    pub fn several_steps(&self) -> bool {
        self.payload.first().is_some_and(|inspection| inspection.steps.len() > 1)
    }

    /// How its matches are counted.
    pub fn threshold(&self) -> Option<&Threshold> {
        self.rule.threshold.as_ref()
    }
}

fn ready<T>(target: T, inspection: &Inspection, shared: &mut Shared<'_>) -> Read<ReadyInspection<T>> {
    let transforms = inspection.transforms.iter().map(ReadyTransform::new).collect::<Read<Vec<_>>>()?;
    let need_complete = step::need_complete(&inspection.steps) || !transforms.is_empty();
    let sets = &mut shared.sets;
    let steps = step::ready(&inspection.steps, shared.checked, &mut |set| sets.number(set))?;
    Ok(ReadyInspection { target, transforms: transforms.into(), steps, absent: inspection.absent, need_complete })
}

/// In which directions a rule is looked at, from what it says and from its buffers.
fn directions(rule: &Rule, buffers: &[ReadyInspection<Buffer>], hook: Option<(Direction, Stage)>) -> Read<[bool; 2]> {
    if rule.header.arrow == Arrow::Transaction {
        return Ok([true; 2]);
    }
    let mut allowed = match rule.direction {
        Some(Direction::ToServer) => [true, false],
        Some(Direction::ToClient) => [false, true],
        None => [true; 2],
    };
    let named = buffers.iter().filter_map(|inspection| inspection.target.direction());
    let hooked = hook.map(|(direction, _)| direction);
    let stated = rule.direction.is_some();
    for direction in named.chain(hooked) {
        allowed[direction.reversed() as usize] = false;
    }
    if allowed == [false; 2] {
        return Err(Fault::new(if stated {
            "a buffer lies in the other direction than the flow option says"
        } else {
            "buffers of both directions are asked for; '=>' instead of '->' allows that"
        }));
    }
    Ok(allowed)
}

/// Points of protocols' lives by their names in rules.
fn hook_stage(name: &str) -> Option<(Direction, Stage)> {
    use Direction::{ToClient, ToServer};
    Some(match name {
        "request_started" | "client_in_progress" => (ToServer, Stage::Started),
        "request_line" => (ToServer, Stage::Line),
        "request_headers" | "client_hello_done" => (ToServer, Stage::Headers),
        "request_body" => (ToServer, Stage::Body),
        "request_trailer" | "request_complete" | "client_cert_done" | "client_handshake_done" | "client_finished" => {
            (ToServer, Stage::Complete)
        }
        "response_started" | "server_in_progress" => (ToClient, Stage::Started),
        "response_line" => (ToClient, Stage::Line),
        "response_headers" | "server_hello" | "server_cert_done" | "server_hello_done" => (ToClient, Stage::Headers),
        "response_body" => (ToClient, Stage::Body),
        "response_trailer" | "response_complete" | "server_handshake_done" | "server_finished" => {
            (ToClient, Stage::Complete)
        }
        _ => return None,
    })
}

fn kind(
    rule: &Rule,
    hooked: bool,
    buffers: &[ReadyInspection<Buffer>],
    payload: &[ReadyInspection<()>],
    packet_buffers: &[ReadyInspection<PacketBuffer>],
) -> Kind {
    if hooked || !buffers.is_empty() || !rule.transaction_tests.is_empty() {
        return Kind::Transaction;
    }
    if !payload.is_empty() {
        return if places(rule).streams { Kind::Stream } else { Kind::Packet };
    }
    let of_flow_only = rule.packet_tests.is_empty() && packet_buffers.is_empty();
    let plain = of_flow_only && rule.direction.is_none() && rule.establishment.is_none() && rule.stream_only.is_none();
    if matches!(rule.header.layer, Layer::Application(_)) {
        return Kind::Application;
    }
    let asks_protocol = |test: &FlowTest| matches!(test, FlowTest::Protocol { .. });
    if of_flow_only && !rule.flow_tests.is_empty() && rule.flow_tests.iter().all(asks_protocol) {
        return Kind::ProtocolOnly;
    }
    let ip_only = plain
        && !negated_addresses(rule)
        && rule.header.layer != Layer::PacketHeader
        && rule.header.source_ports == crate::rules::address::Ports::Any
        && rule.header.destination_ports == crate::rules::address::Ports::Any
        && rule.flow_tests.iter().all(|test| matches!(test, FlowTest::Bits { .. } | FlowTest::HostBit(_)));
    if ip_only { Kind::IpOnly } else { Kind::Packet }
}

/// Whether its addresses are given by what they are not: then it is looked at for each packet.
fn negated_addresses(_rule: &Rule) -> bool {
    false
}

fn places(rule: &Rule) -> Places {
    let layer = rule.header.layer;
    let positioned = positioned(rule);
    let of_packet = rule.packet_tests.iter().any(|test| !matches!(test, PacketTest::StreamEvent(_)))
        || rule.inspections.iter().any(|inspection| matches!(inspection.target, Target::Packet(_)));
    let streams = Places { packets: false, streams: true };
    let packets = Places { packets: true, streams: false };
    match layer {
        Layer::TcpStream => streams,
        Layer::TcpPacket => packets,
        // Packets as well as streams: a packet with these bytes in this place, or the beginning of a stream.
        Layer::Tcp | Layer::Ip | Layer::Ipv4 | Layer::Ipv6
            if positioned && !of_packet && rule.stream_only.is_none() =>
        {
            Places { packets: true, streams: true }
        }
        _ if rule.stream_only.is_some() => {
            if rule.stream_only == Some(true) {
                streams
            } else {
                packets
            }
        }
        Layer::Application(_) => streams,
        Layer::Tcp | Layer::Ip | Layer::Ipv4 | Layer::Ipv6 if !of_packet => streams,
        _ => packets,
    }
}

/// Whether a content of the payload has a place of its own.
fn positioned(rule: &Rule) -> bool {
    let has_place = |step: &Step| match step {
        Step::Content(content) => content.offset.is_some() || content.depth.is_some() || content.startswith,
        _ => false,
    };
    rule.inspections
        .iter()
        .any(|inspection| inspection.target == Target::Payload && inspection.steps.iter().any(has_place))
}

/// How well a content serves to find candidates: its length first, then how varied its bytes are.
fn strength(content: &Content) -> (usize, usize) {
    let mut seen = [false; 256];
    for &byte in &content.bytes {
        seen[usize::from(byte)] = true;
    }
    let varied = seen.iter().filter(|seen| **seen).count();
    (content.bytes.len().min(24) + varied.min(12), content.bytes.len())
}

/// The strongest content of the payload that can only be within the first bytes.
fn near(rule: &Rule) -> Option<Fast> {
    let payload = rule.inspections.iter().find(|inspection| inspection.target == Target::Payload)?;
    let contents =
        payload.steps.iter().take_while(|step| !matches!(step, Step::Base64Data)).filter_map(|step| match step {
            Step::Content(content) if !content.negated && content.bytes.len() >= 3 => Some(content),
            _ => None,
        });
    let near = contents.filter(|content| end(content).is_some_and(|end| end <= super::index::NEAR));
    let best = near.max_by_key(|content| strength(content))?;
    Some(Fast { target: FastTarget::Payload, bytes: best.bytes.clone(), nocase: best.nocase, end: end(best) })
}

/// Where a content ends at the latest, if that is written.
fn end(content: &Content) -> Option<usize> {
    if content.startswith {
        return Some(content.bytes.len());
    }
    match (content.offset, content.depth) {
        (None, Some(Operand::Value(depth))) => usize::try_from(depth).ok(),
        (Some(Operand::Value(offset)), Some(Operand::Value(depth))) => usize::try_from(offset.checked_add(depth)?).ok(),
        _ => None,
    }
}

/// Chooses what the multi-pattern matcher looks for: what the rule says, else the strongest positive content, one
/// in a buffer of a transaction before one in the payload, which is far more often looked at.
fn fast_pattern(rule: &Rule) -> Option<Fast> {
    /// Asked for, in a buffer, how strong.
    type Fitness = (bool, bool, (usize, usize));
    let mut best: Option<(Fitness, Fast)> = None;
    let mut at = 0;
    for inspection in &rule.inspections {
        let target = match inspection.target {
            Target::Payload => FastTarget::Payload,
            Target::Buffer(buffer) => {
                at += 1;
                FastTarget::Buffer { buffer, inspection: at - 1 }
            }
            Target::Packet(_) => continue,
        };
        if inspection.absent.is_some() {
            continue;
        }
        for step in &inspection.steps {
            let content = match step {
                Step::Content(content) if !content.negated => content,
                // What follows is looked for in what is decoded.
                Step::Base64Data => break,
                _ => continue,
            };
            let chopped = content.fast_pattern.and_then(|fast| fast.chop).and_then(|(offset, len)| {
                content.bytes.get(usize::from(offset)..usize::from(offset) + usize::from(len))
            });
            let bytes = chopped.filter(|part| !part.is_empty()).unwrap_or(&content.bytes);
            let key = (
                content.fast_pattern.is_some(),
                content.bytes.len() >= 4 && target != FastTarget::Payload,
                strength(content),
            );
            if best.as_ref().is_none_or(|(known, _)| key > *known) {
                let fast =
                    Fast { target: target.clone(), bytes: bytes.into(), nocase: content.nocase, end: end(content) };
                best = Some((key, fast));
            }
        }
    }
    best.map(|(_, fast)| fast)
}

/// The key by which signatures are looked at and reported: passes first, then drops, rejects and alerts; who sets a
/// flow bit before who asks for it; the more severe first; then as they were loaded.
pub fn order(rule: &Rule) -> (u8, u8, u8, u8) {
    let action = match rule.header.action {
        RuleAction::Pass => 0,
        RuleAction::Drop => 1,
        RuleAction::Reject | RuleAction::RejectDst | RuleAction::RejectBoth => 2,
        RuleAction::Alert => 3,
    };
    let class = |sets: bool, asks: bool| match (sets, asks) {
        (true, false) => 0_u8,
        (true, true) => 1,
        (false, true) => 2,
        (false, false) => 3,
    };
    let bits = class(
        rule.effects.iter().any(|effect| matches!(effect, Effect::FlowBit { .. })),
        rule.flow_tests.iter().any(|test| matches!(test, FlowTest::Bits { .. })),
    );
    let others = class(
        rule.effects.iter().any(|effect| matches!(effect, Effect::Integer(_) | Effect::HostBit(_))),
        rule.flow_tests.iter().any(|test| matches!(test, FlowTest::Integer(_) | FlowTest::HostBit(_))),
    );
    (action, bits, others, rule.priority)
}

/// Whether a rule wants an established flow, or one that is not.
pub fn establishment_holds(wanted: Option<Establishment>, established: Option<bool>) -> bool {
    match (wanted, established) {
        (None, _) => true,
        (Some(Establishment::Established), established) => established == Some(true),
        (Some(Establishment::NotEstablished), established) => established == Some(false),
    }
}
