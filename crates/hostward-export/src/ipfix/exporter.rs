//! From events and walks to messages and lines: the parts put together, with no clock and no thread of their own.

use std::collections::HashMap;

use hostward_abi as abi;

use crate::ipfix::cache::Cache;
use crate::ipfix::cache::Timeouts;
use crate::ipfix::counts::Counts;
use crate::ipfix::counts::DatapathLosses;
use crate::ipfix::denial::Denial;
use crate::ipfix::element::DEFAULT_ENTERPRISE;
use crate::ipfix::json;
use crate::ipfix::lines::Lines;
use crate::ipfix::message::Clock;
use crate::ipfix::message::Messages;
use crate::ipfix::names::EndpointName;
use crate::ipfix::names::Names;
use crate::ipfix::options;
use crate::ipfix::record::Record;
use crate::ipfix::sender::Sender;
use crate::ipfix::sighting::Sighting;
use crate::ipfix::template::Form;

/// What may be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// What a collector can read.
    pub form: Form,
    /// Whose number own elements have.
    pub enterprise: u32,
    /// observationDomainId.
    pub domain: u32,
    /// Octets of a message.
    pub message_limit: usize,
    /// Flows of the table.
    pub flows: usize,
    /// When what goes on is told of.
    pub timeouts: Timeouts,
    /// How often templates and options are sent again.
    pub template_period_ns: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            form: Form::Full,
            enterprise: DEFAULT_ENTERPRISE,
            domain: 1,
            message_limit: 1_400,
            flows: 1 << 18,
            timeouts: Timeouts { active_ns: 60_000_000_000, inactive_ns: 15_000_000_000 },
            template_period_ns: 60_000_000_000,
        }
    }
}

/// An open message is sent when it is full, or after this time.
const FLUSH_NS: u64 = 500_000_000;

/// See the module's text. Call from one thread, and [`Exporter::tick`] first: templates go before records.
pub struct Exporter {
    settings: Settings,
    cache: Cache,
    messages: Messages,
    sender: Option<Sender>,
    lines: Option<Lines>,
    names: Names,
    counts: Counts,
    losses: DatapathLosses,
    clock: Clock,
    ticks_offset_ns: u64,
    due: Vec<Record>,
    templates_ns: Option<u64>,
    flushed_ns: u64,
}

impl Exporter {
    /// An exporter to a collector, or to a file, or to both.
    #[must_use]
    pub fn new(settings: Settings, sender: Option<Sender>, lines: Option<Lines>) -> Self {
        Self {
            settings,
            cache: Cache::new(settings.flows, settings.timeouts),
            messages: Messages::new(settings.form, settings.enterprise, settings.domain, settings.message_limit),
            sender,
            lines,
            names: Names::default(),
            counts: Counts::default(),
            losses: DatapathLosses::default(),
            clock: Clock::default(),
            ticks_offset_ns: 0,
            due: Vec::new(),
            templates_ns: None,
            flushed_ns: 0,
        }
    }

    /// Takes the endpoints by slot. Flows of a slot that is another endpoint's now are told of under the old one's name.
    pub fn set_endpoints(&mut self, endpoints: HashMap<u32, EndpointName>) {
        let before = &self.names.endpoints;
        let gone: Vec<u32> = before
            .iter()
            .filter(|(slot, name)| endpoints.get(slot).is_none_or(|now| now.endpoint != name.endpoint))
            .map(|(slot, _)| *slot)
            .collect();
        for slot in gone {
            self.cache.finish_all(Some(slot), &mut self.due);
        }
        self.write_due();
        if self.names.endpoints != endpoints {
            self.templates_ns = None;
        }
        self.names.endpoints = endpoints;
    }

    /// Takes more rules, by the decision's number; `anew` forgets those before.
    pub fn add_rules(&mut self, rules: impl IntoIterator<Item = (u32, String)>, anew: bool) {
        if anew {
            self.names.rules.clear();
        }
        self.names.rules.extend(rules);
    }

    /// Takes the executables, by slot and number.
    pub fn set_executables(&mut self, executables: HashMap<(u32, u8), String>) {
        self.names.executables = executables;
    }

    /// What the datapath could not tell, for the statistics.
    pub fn set_losses(&mut self, losses: DatapathLosses) {
        self.losses = losses;
    }

    /// The same, as it was said last.
    #[must_use]
    pub fn losses(&self) -> DatapathLosses {
        self.losses
    }

    /// Says what the kernel's ticks are behind the monotonic clock, in wrapping arithmetic, until an event tells it exactly.
    pub fn set_ticks_offset(&mut self, offset_ns: u64) {
        self.ticks_offset_ns = offset_ns;
    }

    /// An event of the ring.
    pub fn event(&mut self, event: &abi::Event) {
        self.counts.events += 1;
        self.ticks_offset_ns = event.time_ns.wrapping_sub(event.ticks_ns);
        if let Some(sighting) = Sighting::of_event(event) {
            self.cache.see(&sighting, &mut self.due);
        } else if let Some(denial) = Denial::of_event(event) {
            self.due.push(Record::of_denial(&denial));
        }
        self.write_due();
    }

    /// A batch of a walk is read now; events that come meanwhile have to be given before its flows.
    pub fn begin_batch(&mut self, now_ns: u64) {
        self.cache.begin_batch(now_ns);
    }

    /// Flows of the batch, which was read at `now_ns`.
    pub fn end_batch(&mut self, flows: &[(abi::FlowKey, abi::Flow)], now_ns: u64) {
        for (key, flow) in flows {
            self.cache.see(&Sighting::of_flow(key, flow, now_ns, self.ticks_offset_ns), &mut self.due);
        }
        self.cache.end_batch();
        self.write_due();
    }

    /// The walk that follows is the last before [`Exporter::close`].
    pub fn begin_last_walk(&mut self) {
        self.cache.begin_last_walk();
    }

    /// The walk that began at `started_ns` is over.
    pub fn end_walk(&mut self, started_ns: u64) {
        self.cache.end_walk(started_ns, &mut self.due);
        self.write_due();
    }

    /// Sends what is due. Call it often: nothing here waits.
    pub fn tick(&mut self, monotonic_ns: u64, real_ns: u64) {
        self.clock = Clock { offset_ns: real_ns.saturating_sub(monotonic_ns) };
        self.messages.set_time((real_ns / 1_000_000_000) as u32);
        let due = |then: u64, period: u64| monotonic_ns.saturating_sub(then) >= period;
        if self.sender.is_some() && self.templates_ns.is_none_or(|then| due(then, self.settings.template_period_ns)) {
            self.templates_ns = Some(monotonic_ns);
            self.describe();
        }
        if due(self.flushed_ns, FLUSH_NS) {
            self.flushed_ns = monotonic_ns;
            self.messages.finish();
            if let Some(lines) = &mut self.lines {
                lines.flush(&mut self.counts);
            }
        }
        self.send();
    }

    /// Templates, and what is told of the exporter.
    fn describe(&mut self) {
        let Settings { form, enterprise, domain, .. } = self.settings;
        self.messages.finish();
        self.messages.add_templates();
        self.messages.add_options(&options::descriptions(form, enterprise, &self.names));
        self.messages.add_options(&options::statistics(form, domain, &self.counts(), self.losses));
        self.messages.finish();
    }

    /// Tells the rest of every flow, and the last statistics. What the socket does not take now is lost.
    pub fn close(&mut self) {
        self.cache.finish_all(None, &mut self.due);
        self.write_due();
        self.messages.finish();
        self.send();
        if self.sender.is_some() {
            self.describe();
        }
        self.send();
        if let Some(lines) = &mut self.lines {
            lines.flush(&mut self.counts);
        }
        if let Some(sender) = &mut self.sender {
            sender.abandon(&mut self.counts);
        }
    }

    /// What was done and lost until now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            flows: self.cache.len() as u64,
            untabled: self.cache.untabled,
            unseen_ends: self.cache.unseen_ends,
            resumed: self.cache.resumed,
            estimated: self.cache.estimated,
            ..self.counts
        }
    }

    fn write_due(&mut self) {
        for record in self.due.drain(..) {
            let (packets, octets) = record.volume.sum();
            self.counts.records += 1;
            self.counts.packets += packets;
            self.counts.octets += octets;
            if self.sender.is_some() {
                self.messages.add(&record, &self.names, self.clock);
            }
            if let Some(lines) = &mut self.lines {
                let (names, clock) = (&self.names, self.clock);
                lines.add(&mut self.counts, |out| json::write_line(out, &record, names, clock));
            }
        }
        self.send();
    }

    fn send(&mut self) {
        let Some(sender) = &mut self.sender else { return };
        for message in self.messages.finished() {
            sender.send(message, &mut self.counts);
        }
        sender.pump(&mut self.counts);
    }
}
