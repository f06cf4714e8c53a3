//! Events of what was found.

use std::borrow::Cow;

use super::{Engine, PacketVerdict, Reason, Sink};
use crate::app::{Stage, Transaction};
use crate::decode::{Nanos, Packet};
use crate::detect::{Action, Alert};
use crate::flow::{Flow, Owner};
use crate::output::alert::Outcome;
use crate::output::anomaly::Kind;
use crate::output::{self, Heading};
use crate::{Direction, EventName};

impl Engine {
    /// Alerts of a packet that belongs to no flow.
    pub(super) fn report_alone(&mut self, packet: &Packet<'_>, owner: Owner, sink: &mut dyn Sink) -> PacketVerdict {
        let alerts = std::mem::take(&mut self.alerts);
        let verdict = match alerts.iter().map(|alert| alert.action).find(|action| *action != Action::Alert) {
            Some(Action::Drop) if self.settings.inline => PacketVerdict::Drop,
            Some(Action::Reject) => PacketVerdict::Reject,
            _ => PacketVerdict::Pass,
        };
        for alert in self.told(&alerts) {
            self.write_alert(alert, Some(packet), None, None, Direction::ToServer, verdict_name(&alerts, verdict));
            sink.event(owner, self.json.finish());
        }
        verdict
    }

    /// Alerts of one inspection.
    pub(super) fn report_alerts(
        &mut self,
        packet: Option<&Packet<'_>>,
        flow: &mut Flow,
        direction: Direction,
        verdict: PacketVerdict,
        sink: &mut dyn Sink,
    ) {
        let alerts = std::mem::take(&mut self.alerts);
        for alert in self.told(&alerts) {
            flow.alerts += 1;
            let mut app = flow.app.take();
            let transaction = app.as_mut().and_then(|app| {
                let id = alert.transaction?;
                app.transactions().iter().find(|transaction| transaction.id == id)
            });
            self.write_alert(alert, packet, Some(flow), transaction, direction, verdict_name(&alerts, verdict));
            flow.app = app;
            sink.event(flow.owner, self.json.finish());
        }
        self.alerts = alerts;
    }

    /// Those of a packet's alerts that are told: as many as one packet may have.
    fn told<'a>(&mut self, alerts: &'a [Alert]) -> impl Iterator<Item = &'a Alert> + use<'a> {
        let loud = alerts.iter().filter(|alert| !alert.silent).count();
        let most = self.settings.packet_alerts_max;
        self.stats.alerts += loud.min(most) as u64;
        self.stats.alerts_suppressed += loud.saturating_sub(most) as u64;
        alerts.iter().filter(|alert| !alert.silent).take(most)
    }

    /// What was odd about a packet and its stream.
    pub(super) fn report_anomalies(
        &mut self,
        packet: &Packet<'_>,
        flow: Option<&Flow>,
        direction: Direction,
        sink: &mut dyn Sink,
        owner: Owner,
    ) {
        let heading = Heading {
            time: packet.time,
            number: packet.number,
            event_type: "anomaly",
            flow,
            packet: Some(packet),
            direction,
            interface: self.interface.as_deref(),
        };
        if self.settings.events.decode_anomalies {
            for name in &packet.events {
                self.json.begin();
                output::anomaly::write(&mut self.json, &heading, Kind::Decode, name);
                sink.event(owner, self.json.finish());
            }
        }
        let stream = flow.and_then(|flow| flow.stream.as_ref()).filter(|_| self.settings.events.stream_anomalies);
        for name in stream.iter().flat_map(|stream| &stream.events) {
            self.json.begin();
            output::anomaly::write(&mut self.json, &heading, Kind::Stream, name);
            sink.event(owner, self.json.finish());
        }
    }

    /// Says that a capture ends within a frame, the last of whose whole ones was this.
    pub(crate) fn capture_cut_off(&mut self, time: Nanos, number: u64, sink: &mut dyn Sink) {
        let heading = Heading {
            time,
            number,
            event_type: "anomaly",
            flow: None,
            packet: None,
            direction: Direction::ToServer,
            interface: self.interface.as_deref(),
        };
        self.json.begin();
        output::anomaly::write(&mut self.json, &heading, Kind::Decode, "capture.truncated");
        sink.event(Owner::default(), self.json.finish());
    }

    /// What was odd about an application protocol, before the signatures' events are let go.
    pub(super) fn report_application_anomalies(&mut self, flow: &Flow, direction: Direction, sink: &mut dyn Sink) {
        if !self.settings.events.application_anomalies {
            return;
        }
        for (way, name) in &flow.app_events {
            if *way == direction {
                self.write_application_anomaly(flow, *way, None, name, sink);
            }
        }
    }

    fn write_application_anomaly(
        &mut self,
        flow: &Flow,
        direction: Direction,
        transaction: Option<u64>,
        name: EventName,
        sink: &mut dyn Sink,
    ) {
        let heading = Heading {
            time: flow.last,
            number: flow.numbers[direction as usize],
            event_type: "anomaly",
            flow: Some(flow),
            packet: None,
            direction,
            interface: self.interface.as_deref(),
        };
        self.json.begin();
        output::anomaly::write(&mut self.json, &heading, Kind::Application { transaction }, name);
        sink.event(flow.owner, self.json.finish());
    }

    fn outcome(&self, action: Action) -> Outcome {
        match action {
            Action::Reject => Outcome::Blocked,
            Action::Drop if self.settings.inline => Outcome::Blocked,
            _ => Outcome::Allowed,
        }
    }

    fn write_alert(
        &mut self,
        alert: &Alert,
        packet: Option<&Packet<'_>>,
        flow: Option<&Flow>,
        transaction: Option<&Transaction>,
        direction: Direction,
        verdict: &str,
    ) {
        self.json.begin();
        let Some(signature) = self.detector.signature(alert.signature) else { return };
        let way = direction as usize;
        // What is told at a flow's end is told of the packet that brought it.
        let brought = transaction.map(|transaction| transaction.moved[way].0).filter(|number| *number > 0);
        let number = match (packet, flow) {
            (Some(packet), _) => packet.number,
            (None, Some(_)) if brought.is_some() => brought.unwrap_or_default(),
            (None, Some(flow)) => flow.numbers[direction as usize],
            (None, None) => 0,
        };
        // What matched in reassembled bytes is shown in them, not in the packet that happened to complete them.
        let stream = flow.and_then(|flow| flow.stream.as_ref());
        let from_stream = stream.is_some() && (alert.from_stream || alert.transaction.is_some());
        let payload = match stream.and_then(|stream| stream.sides.get(direction as usize)).filter(|_| from_stream) {
            Some(side) => Some(side.shown()),
            None => packet.map(|packet| Cow::Borrowed(packet.payload)),
        };
        let time = packet.map(|packet| packet.time).or(flow.map(|flow| flow.last)).unwrap_or_default();
        output::alert::Alert {
            heading: Heading {
                time,
                number,
                event_type: "alert",
                flow,
                packet,
                direction,
                interface: self.interface.as_deref(),
            },
            signature,
            outcome: self.outcome(alert.action),
            transaction,
            verdict: Some(verdict),
            payload: payload.filter(|_| self.settings.alert_payload),
            from_stream,
            beside: alert.beside.as_deref(),
            context: alert.context.as_deref(),
            with_packet: self.settings.alert_payload,
            with_references: self.settings.alert_references,
        }
        .write(&mut self.json);
    }

    /// Tells transactions that are complete, and lets go of those that were inspected as well. Without a direction the flow
    /// is over: everything is told and let go.
    pub(super) fn clean_transactions(&mut self, flow: &mut Flow, direction: Option<Direction>, sink: &mut dyn Sink) {
        let Some(mut app) = flow.app.take() else { return };
        let transactions = app.transactions();
        let mut removable = 0;
        let mut in_front = true;
        for transaction in transactions.iter_mut() {
            for way in [Direction::ToServer, Direction::ToClient] {
                let here = direction.is_none() || direction == Some(way);
                let way = way as usize;
                if here && (transaction.progress[way] == Stage::Complete || !transaction.directions[way]) {
                    transaction.inspected[way] = true;
                }
                transaction.inspected[way] |= !transaction.directions[way];
            }
            let complete = direction.is_none() || transaction.complete();
            if complete && !transaction.logged {
                transaction.logged = true;
                self.stats.transactions += 1;
                self.tell_transaction(flow, transaction, sink);
            }
            in_front &= complete && transaction.inspected == [true; 2];
            removable += usize::from(in_front);
        }
        transactions.drain(..removable);
        flow.app = Some(app);
    }

    fn tell_transaction(&mut self, flow: &Flow, transaction: &Transaction, sink: &mut dyn Sink) {
        let Some(protocol) = flow.application() else { return };
        let heading = Heading {
            time: flow.last,
            number: flow.numbers[0].max(flow.numbers[1]),
            event_type: output::transaction::event_type(protocol),
            flow: Some(flow),
            packet: None,
            direction: Direction::ToServer,
            interface: self.interface.as_deref(),
        };
        if self.settings.events.transactions && !transaction.log.is_empty() {
            self.json.begin();
            output::transaction::write(&mut self.json, &heading, transaction);
            sink.event(flow.owner, self.json.finish());
        }
        if self.settings.events.application_anomalies {
            for (way, name) in &transaction.events {
                self.write_application_anomaly(flow, *way, Some(transaction.id), name, sink);
            }
        }
        let mut heading = Heading {
            time: flow.last,
            number: flow.numbers[0].max(flow.numbers[1]),
            event_type: "fileinfo",
            flow: Some(flow),
            packet: None,
            direction: Direction::ToServer,
            interface: self.interface.as_deref(),
        };
        if !self.settings.events.files {
            return;
        }
        for file in &transaction.files {
            heading.direction = file.direction.unwrap_or(Direction::ToServer);
            self.json.begin();
            output::transaction::write_file(&mut self.json, &heading, transaction, file);
            sink.event(flow.owner, self.json.finish());
        }
    }

    /// What was counted, at the end.
    pub(super) fn report_stats(&mut self, sink: &mut dyn Sink) {
        if self.settings.events.stats {
            self.json.begin();
            output::stats::write(&mut self.json, self.now, &self.stats);
            sink.event(Owner::default(), self.json.finish());
        }
    }

    pub(super) fn report_flow(&mut self, flow: &Flow, reason: Reason, sink: &mut dyn Sink) {
        if !self.settings.events.flow {
            return;
        }
        let heading = Heading {
            time: flow.last,
            number: 0,
            event_type: "flow",
            flow: Some(flow),
            packet: None,
            direction: Direction::ToServer,
            interface: self.interface.as_deref(),
        };
        self.json.begin();
        output::flow::write(&mut self.json, &heading, flow, reason);
        sink.event(flow.owner, self.json.finish());
    }
}

/// What became of a packet, as EVE says it.
fn verdict_name(alerts: &[Alert], verdict: PacketVerdict) -> &'static str {
    match verdict {
        PacketVerdict::Drop | PacketVerdict::Reject => "drop",
        PacketVerdict::Pass if alerts.iter().any(|alert| alert.action == Action::Pass) => "pass",
        PacketVerdict::Pass => "alert",
    }
}
