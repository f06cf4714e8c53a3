//! Messages (RFC 7011, section 3): a header, and sets of records that share a template.

use hostward_abi as abi;

use crate::ipfix::element::Field;
use crate::ipfix::names::Names;
use crate::ipfix::options;
use crate::ipfix::record::Record;
use crate::ipfix::template::Form;
use crate::ipfix::template::KINDS;
use crate::ipfix::template::Kind;
use crate::ipfix::template::fields;
use crate::ipfix::template::write_template;

/// RFC 7011, section 3.1.
const VERSION: u16 = 10;
/// Octets of the header.
const HEADER: usize = 16;
/// Octets of a set's header.
const SET_HEADER: usize = 4;
/// Set number of templates.
const TEMPLATES: u16 = 2;
/// Set number of templates of options.
const OPTIONS_TEMPLATES: u16 = 3;
/// Octets of a name in a record. Six of them and all other fields fit into a message.
pub const NAME_LIMIT: usize = 180;
/// The least that a message may be bounded by: one full record, and its headers.
pub const MESSAGE_MIN: usize = 1_280;

/// A finished message, and what it tells of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// As it is sent.
    pub octets: Vec<u8>,
    /// Data records of flows and denials in it.
    pub records: u64,
    /// Packets that they tell of.
    pub packets: u64,
    /// The same in octets.
    pub flow_octets: u64,
}

/// What turns a monotonic clock's nanoseconds into milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// Real time at 0 of the monotonic clock, in nanoseconds.
    pub offset_ns: u64,
}

impl Clock {
    /// Milliseconds since 1970.
    #[must_use]
    pub fn milliseconds(self, monotonic_ns: u64) -> u64 {
        monotonic_ns.saturating_add(self.offset_ns) / 1_000_000
    }
}

/// Packs records into messages. Finished ones are taken with [`Messages::finished`].
pub struct Messages {
    form: Form,
    enterprise: u32,
    domain: u32,
    limit: usize,
    by_kind: [Vec<Field>; KINDS.len()],
    current: Message,
    /// Where the open set begins, and its number; none is open at the start of a message.
    set: Option<(usize, u16)>,
    /// Data records in the open message, those of options included.
    data_records: u32,
    sequence: u32,
    scratch: Vec<u8>,
    finished: Vec<Message>,
    seconds: u32,
}

impl Messages {
    /// Messages of at most `limit` octets, not less than [`MESSAGE_MIN`].
    #[must_use]
    pub fn new(form: Form, enterprise: u32, domain: u32, limit: usize) -> Self {
        Self {
            form,
            enterprise,
            domain,
            limit: limit.clamp(MESSAGE_MIN, usize::from(u16::MAX)),
            by_kind: KINDS.map(|kind| fields(kind, form)),
            current: Message::default(),
            set: None,
            data_records: 0,
            sequence: 0,
            scratch: Vec::new(),
            finished: Vec::new(),
            seconds: 0,
        }
    }

    /// Says the time that messages finished from now on carry, in seconds since 1970.
    pub fn set_time(&mut self, seconds: u32) {
        self.seconds = seconds;
    }

    /// Adds every template.
    pub fn add_templates(&mut self) {
        for kind in KINDS {
            let mut template = std::mem::take(&mut self.scratch);
            template.clear();
            write_template(&mut template, kind, self.form, self.enterprise);
            self.append(TEMPLATES, &template);
            self.scratch = template;
        }
        for template in options::templates(self.form, self.enterprise) {
            // Each in a set of its own: pmacct reads only the first of a set.
            self.close_set();
            self.append(OPTIONS_TEMPLATES, &template);
        }
    }

    /// Adds records of options: template number and octets.
    pub fn add_options(&mut self, records: &[(u16, Vec<u8>)]) {
        for (template, record) in records {
            self.append(*template, record);
            self.data_records += 1;
        }
    }

    /// Adds a record: of the standard form a biflow's other direction is one of its own.
    pub fn add(&mut self, record: &Record, names: &Names, clock: Clock) {
        self.add_one(record, names, clock);
        if self.form == Form::Standard
            && let Some(reversed) = record.reversed()
        {
            self.add_one(&reversed, names, clock);
        }
    }

    fn add_one(&mut self, record: &Record, names: &Names, clock: Clock) {
        let kind = Kind::of(record);
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        for field in &self.by_kind[kind as usize] {
            write_field(&mut out, *field, record, names, clock);
        }
        self.append(kind.template(), &out);
        self.scratch = out;
        self.data_records += 1;
        self.current.records += 1;
        let (packets, octets) = match self.form {
            Form::Full => record.volume.sum(),
            Form::Standard => (record.volume.packets[0], record.volume.octets[0]),
        };
        self.current.packets += packets;
        self.current.flow_octets += octets;
    }

    /// Appends one record to the open set, or to a new set, or to a new message.
    fn append(&mut self, set: u16, record: &[u8]) {
        let opens = |open: Option<(usize, u16)>| open.is_none_or(|(_, number)| number != set);
        let header = if opens(self.set) { SET_HEADER } else { 0 };
        if !self.current.octets.is_empty() && self.current.octets.len() + header + record.len() > self.limit {
            self.finish();
        }
        if self.current.octets.is_empty() {
            self.current.octets.reserve(self.limit);
            self.current.octets.resize(HEADER, 0);
        }
        if opens(self.set) {
            self.close_set();
            self.set = Some((self.current.octets.len(), set));
            self.current.octets.extend(set.to_be_bytes());
            self.current.octets.extend([0, 0]);
        }
        self.current.octets.extend(record);
    }

    fn close_set(&mut self) {
        if let Some((start, _)) = self.set.take() {
            let length = (self.current.octets.len() - start) as u16;
            put(&mut self.current.octets, start + 2, &length.to_be_bytes());
        }
    }

    /// Finishes the open message, if there is one.
    pub fn finish(&mut self) {
        if self.current.octets.is_empty() {
            return;
        }
        self.close_set();
        let mut message = std::mem::take(&mut self.current);
        let length = message.octets.len() as u16;
        put(&mut message.octets, 0, &VERSION.to_be_bytes());
        put(&mut message.octets, 2, &length.to_be_bytes());
        put(&mut message.octets, 4, &self.seconds.to_be_bytes());
        put(&mut message.octets, 8, &self.sequence.to_be_bytes());
        put(&mut message.octets, 12, &self.domain.to_be_bytes());
        // What is lost afterwards was counted here: the collector sees it missing.
        self.sequence = self.sequence.wrapping_add(self.data_records);
        self.data_records = 0;
        self.finished.push(message);
    }

    /// Takes the finished messages.
    pub fn finished(&mut self) -> std::vec::Drain<'_, Message> {
        self.finished.drain(..)
    }
}

fn put(octets: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = octets.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

/// Writes a string with its length before it (RFC 7011, section 7); at most [`NAME_LIMIT`] octets, whole characters.
pub fn write_name(out: &mut Vec<u8>, name: &str) {
    let mut end = name.len().min(NAME_LIMIT);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    out.push(end as u8);
    out.extend(&name.as_bytes()[..end]);
}

fn write_field(out: &mut Vec<u8>, field: Field, record: &Record, names: &Names, clock: Clock) {
    use Field as F;
    let tuple = &record.tuple;
    let endpoint = names.endpoint(record.slot);
    let interface = endpoint.map_or(0, |endpoint| endpoint.interface);
    // Out of the workload is into the host.
    let leaves = u32::from(record.direction) == abi::direction::EGRESS;
    match field {
        F::FlowStartMilliseconds => out.extend(clock.milliseconds(record.start_ns).to_be_bytes()),
        F::FlowEndMilliseconds => out.extend(clock.milliseconds(record.end_ns).to_be_bytes()),
        F::SourceIpv4Address => out.extend(&tuple.source[12..]),
        F::DestinationIpv4Address => out.extend(&tuple.destination[12..]),
        F::SourceIpv6Address => out.extend(tuple.source),
        F::DestinationIpv6Address => out.extend(tuple.destination),
        F::SourceMacAddress => out.extend(record.source_mac),
        F::EthernetType => out.extend(record.ethertype.to_be_bytes()),
        F::SourceTransportPort => out.extend(tuple.source_port.to_be_bytes()),
        F::DestinationTransportPort => out.extend(tuple.destination_port.to_be_bytes()),
        // The type, and a code of 0: a request's.
        F::IcmpTypeCodeIpv4 | F::IcmpTypeCodeIpv6 => {
            out.extend([tuple.destination_port.to_le_bytes()[0], 0]);
        }
        F::ProtocolIdentifier => out.push(tuple.protocol),
        F::TcpControlBits => out.push(record.tcp_flags()),
        F::PacketDeltaCount => out.extend(record.volume.packets[0].to_be_bytes()),
        F::OctetDeltaCount => out.extend(record.volume.octets[0].to_be_bytes()),
        F::IngressInterface => out.extend(if leaves { interface } else { 0 }.to_be_bytes()),
        F::EgressInterface => out.extend(if leaves { 0 } else { interface }.to_be_bytes()),
        F::FlowDirection => out.push(u8::from(leaves)),
        F::FlowEndReason => out.push(record.end_reason as u8),
        F::ForwardingStatus => out.push(record.forwarding_status()),
        F::BiflowDirection => out.push(1), // initiator (RFC 5103, section 6.3)
        F::ReversePacketDeltaCount => out.extend(record.volume.packets[1].to_be_bytes()),
        F::ReverseOctetDeltaCount => out.extend(record.volume.octets[1].to_be_bytes()),
        F::ReverseTcpControlBits => out.push(record.reverse_tcp_flags()),
        F::Revision => out.extend(record.revision.to_be_bytes()),
        F::Tenant => write_name(out, endpoint.map_or("", |endpoint| &endpoint.tenant)),
        F::Group => write_name(out, endpoint.map_or("", |endpoint| &endpoint.groups)),
        F::Process => write_name(out, names.executable(record.slot, record.process)),
        F::Rule => write_name(out, names.rules(record.number)),
        F::Endpoint => write_name(out, endpoint.map_or("", |endpoint| &endpoint.endpoint)),
        F::Reason => match u32::from(record.reason) {
            abi::reason::REASON_NONE => out.push(0),
            reason => write_name(out, &abi::reason_word(reason).unwrap_or_default()),
        },
    }
}
