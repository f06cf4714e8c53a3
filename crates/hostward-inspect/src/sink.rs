//! Takes what the detector says: adds whose it is, writes the log, tells the agent of alerts and of flows to treat.

use std::fmt::Write as _;

use ahash::AHashMap;
use hostward_ids::engine::Sink;
use hostward_ids::flow::Flow;
use hostward_ids::flow::FlowVerdict;
use hostward_ids::flow::Owner;
use serde_json::Value;

use crate::control::Report;
use crate::log::Log;
use crate::owners::Owners;

/// `enum hw_flow_mark`.
const BYPASSED: u32 = 4;
const STOPPED: u32 = 8;
const REJECTED: u32 = 16;

/// Alerts told to the agent in one second; the log has all.
const ALERTS_PER_S: u32 = 1_000;

/// See the module.
pub struct Outlet<'a, W> {
    /// Where every event goes.
    pub log: &'a mut Log<W>,
    /// Whose flows are whose.
    pub owners: &'a Owners,
    /// Messages for the agent, in order.
    pub reports: &'a mut Vec<u8>,
    /// Which signature spoke of a flow last.
    pub last_signature: &'a mut AHashMap<u64, u32>,
    /// What may still be told in this second.
    pub budget: &'a mut u32,
    /// Alerts that are in the log only.
    pub untold: &'a mut u64,
    /// The event with what is added, reused.
    pub line: &'a mut Vec<u8>,
}

/// Once a second.
pub fn fresh_budget() -> u32 {
    ALERTS_PER_S
}

/// Adds one message for the agent.
pub fn report(reports: &mut Vec<u8>, report: &Report<'_>) {
    if serde_json::to_writer(&mut *reports, report).is_ok() {
        reports.push(b'\n');
    }
}

impl<W: std::io::Write> Outlet<'_, W> {
    fn tell(&mut self, owner: Owner) {
        let Ok(event) = serde_json::from_slice::<Value>(self.line) else { return };
        let signature = event.pointer("/alert/signature_id").and_then(Value::as_u64).unwrap_or_default();
        self.last_signature.insert(owner.reference, signature as u32);
        if *self.budget == 0 {
            *self.untold += 1;
            return;
        }
        *self.budget -= 1;
        report(self.reports, &Report::Alert { event: &event });
    }
}

impl<W: std::io::Write> Sink for Outlet<'_, W> {
    fn event(&mut self, owner: Owner, event: &[u8]) {
        self.line.clear();
        // An object ends with a brace: what is added goes before it.
        let Some((_, body)) = event.split_last() else { return };
        self.line.extend_from_slice(body);
        if let Some((object, tenant)) = self.owners.describe(owner.reference) {
            self.line.extend_from_slice(format!(r#","tenant_id":{tenant},"hostward":"#).as_bytes());
            if serde_json::to_writer(&mut *self.line, &object).is_err() {
                return;
            }
        }
        self.line.push(b'}');
        self.log.push(self.line);
        if is_alert(event) {
            self.tell(owner);
        }
    }

    fn verdict(&mut self, flow: &Flow, verdict: FlowVerdict) {
        let marks = match verdict {
            FlowVerdict::Inspect => return,
            FlowVerdict::Bypass => BYPASSED,
            FlowVerdict::Drop => STOPPED,
            FlowVerdict::Reject => STOPPED | REJECTED,
        };
        let Some(origin) = self.owners.origin(flow.owner.reference) else { return };
        if origin.tag == 0 {
            return;
        }
        let mut key = String::with_capacity(96);
        for byte in origin.key {
            let _ = write!(key, "{byte:02x}");
        }
        let signature = match verdict {
            FlowVerdict::Bypass => 0,
            _ => self.last_signature.get(&flow.owner.reference).copied().unwrap_or_default(),
        };
        report(self.reports, &Report::Judged { slot: origin.slot, key, tag: origin.tag, marks, signature });
    }
}

/// Whether an event is an alert: its type is among the first members, in whatever order and spacing.
fn is_alert(event: &[u8]) -> bool {
    let head = &event[..event.len().min(512)];
    let name = br#""event_type""#;
    let Some(at) = head.windows(name.len()).position(|window| window == name) else { return false };
    let rest = &head[at + name.len()..];
    let value = rest.iter().position(|byte| *byte == b'"').map_or(&[][..], |start| &rest[start..]);
    value.starts_with(br#""alert""#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_told_from_other_events() {
        assert!(is_alert(br#"{"timestamp":"x","event_type":"alert","src_ip":"1.2.3.4"}"#));
        assert!(is_alert(br#"{"event_type": "alert"}"#));
        assert!(!is_alert(br#"{"event_type":"flow","alerted":true}"#));
        assert!(!is_alert(b"{}"));
        assert!(!is_alert(br#"{"event_type""#));
    }
}
