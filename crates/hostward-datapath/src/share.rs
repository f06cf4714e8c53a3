//! What is told on of the events that a reader of the ring has had: each endpoint's share, as its quota says.
//!
//! The same as in the kernel (`bpf/report.h`), whose bucket is larger while there is a reader: what guards recognise is always
//! told, and denials for which there is no token are told by rule, one event a second, which counts for all of them.

use std::collections::HashMap;
use std::collections::VecDeque;

use hostward_abi as abi;
use hostward_abi::Event;

/// Events that wait.
const WAITING_LIMIT: usize = 16_384;
/// Rules of all endpoints whose denials wait to be told.
const RULES_LIMIT: usize = 4_096;
/// `HW_DENIAL_INTERVAL_NS`.
const INTERVAL_NS: u64 = 1_000_000_000;
/// A rule that denied nothing for so long is forgotten.
const FORGET_NS: u64 = 10 * INTERVAL_NS;

/// Of one endpoint (GCRA, ITU-T I.371).
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// Of one event.
    cost_ns: u64,
    /// Of what may come at once.
    burst_ns: u64,
    arrival: u64,
}

/// Slot, decision, reason, direction.
type Rule = (u32, u32, u8, u8);

/// Denials of one rule.
struct Denials {
    /// What is not told yet; of no packets: nothing.
    event: Event,
    told_ns: u64,
}

/// Events on their way to whoever drains.
#[derive(Default)]
pub(crate) struct Queue {
    pub waiting: VecDeque<Event>,
    buckets: HashMap<u32, Bucket>,
    denials: HashMap<Rule, Denials>,
    /// Whether a reader empties the ring.
    pub read: bool,
    /// Events that a reader had, and that neither the queue nor another event tells of.
    pub dropped: u64,
}

impl Queue {
    /// Events a second, and at once, by slot. Slots that are not named have no bound.
    pub fn share(&mut self, shares: &[(u32, u32, u32)]) {
        self.buckets = shares
            .iter()
            .map(|&(slot, per_s, burst)| {
                let cost_ns = 1_000_000_000 / u64::from(per_s.max(1));
                let arrival = self.buckets.get(&slot).map_or(0, |bucket| bucket.arrival);
                (slot, Bucket { cost_ns, burst_ns: cost_ns * u64::from(burst.max(1)), arrival })
            })
            .collect();
    }

    /// Takes an event in if its endpoint's share and the room allow it.
    pub fn offer(&mut self, event: &Event) {
        let kind = u32::from(event.kind);
        let full = self.waiting.len() >= WAITING_LIMIT;
        if kind == abi::event_kind::EVENT_GUARD || (!full && self.takes_token(event)) {
            self.waiting.push_back(*event);
        } else if kind == abi::event_kind::EVENT_DENIED {
            self.hold(event);
        } else {
            self.dropped += 1;
        }
    }

    fn takes_token(&mut self, event: &Event) -> bool {
        self.buckets.get_mut(&event.slot).is_none_or(|bucket| bucket.take(event.time_ns))
    }

    fn hold(&mut self, event: &Event) {
        let rule = (event.slot, event.number, event.reason, event.direction);
        let room = self.denials.len() < RULES_LIMIT;
        if let Some(held) = self.denials.get_mut(&rule) {
            let (packets, bytes) = (held.event.packets, held.event.bytes);
            if packets == 0 {
                held.event = *event;
            } else {
                (held.event.packets, held.event.bytes) = (packets + event.packets, bytes + event.bytes);
                (held.event.revision, held.event.time_ns) = (event.revision, event.time_ns);
            }
            held.event.others = 1;
        } else if room {
            self.denials.insert(rule, Denials { event: Event { others: 1, ..*event }, told_ns: 0 });
        } else {
            self.dropped += 1;
        }
    }

    /// Tells the denials that are due.
    pub fn tell_denials(&mut self, now_ns: u64) {
        if self.denials.is_empty() {
            return;
        }
        let waiting = &mut self.waiting;
        self.denials.retain(|_, held| {
            let due = now_ns.saturating_sub(held.told_ns) >= INTERVAL_NS;
            if held.event.packets > 0 && due && waiting.len() < WAITING_LIMIT {
                waiting.push_back(held.event);
                (held.event.packets, held.event.bytes, held.told_ns) = (0, 0, now_ns);
            }
            held.event.packets > 0 || now_ns.saturating_sub(held.told_ns) < FORGET_NS
        });
    }
}

impl Bucket {
    fn take(&mut self, now_ns: u64) -> bool {
        let next = self.arrival.max(now_ns) + self.cost_ns;
        let takes = next <= now_ns + self.burst_ns;
        if takes {
            self.arrival = next;
        }
        takes
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros as _;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn event(slot: u32, kind: u32, time_ns: u64) -> Event {
        Event { slot, kind: kind as u8, time_ns, packets: 1, bytes: 60, ..Event::new_zeroed() }
    }

    #[test]
    fn an_endpoint_has_its_share_and_guards_are_always_told() {
        let mut queue = Queue::default();
        queue.share(&[(1, 1, 2)]);
        for _ in 0..5 {
            queue.offer(&event(1, abi::event_kind::EVENT_NEW, 10 * SECOND));
            queue.offer(&event(2, abi::event_kind::EVENT_NEW, 10 * SECOND));
            queue.offer(&event(1, abi::event_kind::EVENT_GUARD, 10 * SECOND));
        }
        queue.offer(&event(1, abi::event_kind::EVENT_END, 12 * SECOND));
        assert_eq!((queue.waiting.len(), queue.dropped), (2 + 5 + 5 + 1, 3));
    }

    #[test]
    fn a_scan_hides_no_other_rules_denials_and_no_packet_of_any() {
        let mut queue = Queue::default();
        queue.share(&[(1, 1, 2)]);
        let denied = |number| Event { number, ..event(1, abi::event_kind::EVENT_DENIED, 10 * SECOND) };
        for port in 0..1_000 {
            queue.offer(&Event { destination_port: port, ..denied(7) });
        }
        queue.offer(&denied(8));
        queue.tell_denials(10 * SECOND);
        queue.offer(&denied(7));
        queue.tell_denials(10 * SECOND + SECOND / 2);
        let told: Vec<Event> = queue.waiting.drain(..).collect();
        assert_eq!(told.len(), 2 + 2, "two by the bucket, one of each rule");
        let of =
            |number| told.iter().filter(move |event| event.number == number).map(|event| event.packets).sum::<u64>();
        assert_eq!((of(7), of(8), queue.dropped), (1_000, 1, 0));
        queue.tell_denials(11 * SECOND);
        assert_eq!(queue.waiting.iter().map(|event| event.packets).sum::<u64>(), 1);
        queue.tell_denials(30 * SECOND);
        assert!(queue.denials.is_empty());
    }
}
