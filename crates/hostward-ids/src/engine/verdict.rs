//! What signatures and policies decide about packets and flows.

use super::{Engine, ExceptionPolicy, PacketVerdict, Sink, control, streams};
use crate::Direction;
use crate::decode::Packet;
use crate::detect::Action;
use crate::flow::{Flow, FlowVerdict, Owner};

/// What an exception policy said of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ThisPacket {
    Inspect,
    Pass,
    Drop,
}

impl Engine {
    /// Does what a policy wants where the engine could not do its work.
    pub(super) fn except(&mut self, policy: ExceptionPolicy, flow: &mut Flow, sink: &mut dyn Sink) {
        let verdict = match policy {
            ExceptionPolicy::Ignore => return,
            ExceptionPolicy::PassPacket => {
                self.this_packet = ThisPacket::Pass;
                return;
            }
            ExceptionPolicy::DropPacket => {
                self.this_packet = ThisPacket::Drop;
                return;
            }
            ExceptionPolicy::PassFlow => {
                flow.passed = true;
                return;
            }
            ExceptionPolicy::Bypass => FlowVerdict::Bypass,
            ExceptionPolicy::DropFlow => FlowVerdict::Drop,
            ExceptionPolicy::Reject => FlowVerdict::Reject,
        };
        Self::decide(flow, verdict, sink);
    }

    /// Gives a flow its verdict, once.
    fn decide(flow: &mut Flow, verdict: FlowVerdict, sink: &mut dyn Sink) {
        if flow.verdict == FlowVerdict::Inspect {
            flow.verdict = verdict;
            sink.verdict(flow, verdict);
        }
    }

    /// Lets the signatures look at a packet and its flow, says what they found, and tidies up.
    pub(super) fn inspect(
        &mut self,
        packet: Option<&Packet<'_>>,
        flow: &mut Flow,
        direction: Direction,
        sink: &mut dyn Sink,
    ) -> PacketVerdict {
        let mut verdict = PacketVerdict::Pass;
        if flow.verdict == FlowVerdict::Inspect && !flow.passed && self.this_packet == ThisPacket::Inspect {
            self.alerts.clear();
            self.refresh(flow);
            self.detector.inspect(&mut self.worker, packet, Some(flow), direction, &mut self.alerts);
            verdict = self.act(packet, flow, direction, sink);
            self.inspect_behind_gaps(flow, direction, sink);
        }
        // Also where no signature looks at streams.
        streams::skip_streams(flow, direction);
        let dropped = matches!(flow.verdict, FlowVerdict::Drop | FlowVerdict::Reject);
        if verdict == PacketVerdict::Pass && (dropped || self.this_packet == ThisPacket::Drop) {
            verdict = PacketVerdict::Drop;
        }
        if let Some(packet) = packet {
            self.report_anomalies(packet, Some(flow), direction, sink, flow.owner);
        }
        self.report_application_anomalies(flow, direction, sink);
        flow.app_events.retain(|(way, _)| *way != direction);
        if let Some(stream) = &mut flow.stream {
            streams::trim(stream);
        }
        self.clean_transactions(flow, Some(direction), sink);
        control::release(flow);
        if self.settings.bypass && control::nothing_more(flow) {
            flow.verdict = FlowVerdict::Bypass;
            sink.verdict(flow, FlowVerdict::Bypass);
        }
        verdict
    }

    /// The matcher looks at a stream up to the next gap; the pieces behind follow one by one.
    fn inspect_behind_gaps(&mut self, flow: &mut Flow, direction: Direction, sink: &mut dyn Sink) {
        let waiting = |flow: &Flow| {
            let side = flow.stream.as_ref().and_then(|stream| stream.sides.get(direction as usize));
            side.filter(|side| !side.gaps.is_empty() && side.inspected < side.in_order).map(|side| side.inspected)
        };
        let mut before = None;
        while let Some(inspected) = waiting(flow) {
            // It always gets on; should it not, nothing is gained by asking again.
            if before.replace(inspected).is_some_and(|earlier| earlier >= inspected) {
                break;
            }
            self.alerts.clear();
            self.detector.inspect(&mut self.worker, None, Some(flow), direction, &mut self.alerts);
            self.act(None, flow, direction, sink);
        }
    }

    pub(super) fn inspect_alone(&mut self, packet: &Packet<'_>, owner: Owner, sink: &mut dyn Sink) -> PacketVerdict {
        self.alerts.clear();
        self.detector.inspect(&mut self.worker, Some(packet), None, Direction::ToServer, &mut self.alerts);
        let verdict = self.report_alone(packet, owner, sink);
        self.report_anomalies(packet, None, Direction::ToServer, sink, owner);
        verdict
    }

    /// Does what the alerts of one inspection ask for.
    fn act(
        &mut self,
        packet: Option<&Packet<'_>>,
        flow: &mut Flow,
        direction: Direction,
        sink: &mut dyn Sink,
    ) -> PacketVerdict {
        if self.alerts.is_empty() {
            return PacketVerdict::Pass;
        }
        let mut verdict = PacketVerdict::Pass;
        let mut for_flow = None;
        for alert in &self.alerts {
            match alert.action {
                Action::Alert => {}
                Action::Pass => flow.passed |= alert.whole_flow,
                Action::Drop if !self.settings.inline => {}
                Action::Drop | Action::Reject => {
                    let (of_packet, of_flow) = if alert.action == Action::Drop {
                        (PacketVerdict::Drop, FlowVerdict::Drop)
                    } else {
                        (PacketVerdict::Reject, FlowVerdict::Reject)
                    };
                    if verdict == PacketVerdict::Pass {
                        verdict = of_packet;
                    }
                    if alert.whole_flow {
                        for_flow.get_or_insert(of_flow);
                    }
                }
            }
        }
        self.report_alerts(packet, flow, direction, verdict, sink);
        if let Some(verdict) = for_flow {
            Self::decide(flow, verdict, sink);
        }
        verdict
    }
}
