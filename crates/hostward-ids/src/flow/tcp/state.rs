//! The states of a connection (RFC 9293, section 3.3.2), followed from the middle, and what is odd about its packets.

use smallvec::SmallVec;

use super::{Midstream, Options, Side, TcpSettings, Tracker, flag};
use crate::decode::{Nanos, Tcp};
use crate::{Direction, EventName};

/// How far a connection has come. Names as in the standard; who closes first goes through `FinWait…`, whoever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum State {
    #[default]
    None,
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
    Closed,
}

impl State {
    /// As EVE names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SynSent => "syn_sent",
            Self::SynReceived => "syn_recv",
            Self::Established => "established",
            Self::FinWait1 => "fin_wait1",
            Self::FinWait2 => "fin_wait2",
            Self::CloseWait => "close_wait",
            Self::Closing => "closing",
            Self::LastAck => "last_ack",
            Self::TimeWait => "time_wait",
            Self::Closed => "closed",
        }
    }
}

/// What a packet means for the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
pub struct Accepted {
    /// The sender turned out to be the server: the flow's ends are to be exchanged.
    pub exchanged: bool,
    /// The flow was picked up without its handshake just now.
    pub midstream: bool,
    /// There is no connection and none was begun.
    pub no_session: bool,
    /// Its bytes belong into the stream.
    pub bytes: bool,
}

/// A packet as the state machine sees it.
struct Seen<'a> {
    tcp: &'a Tcp<'a>,
    options: Options,
    len: u64,
    direction: Direction,
    time: Nanos,
    settings: &'a TcpSettings,
}

impl Seen<'_> {
    fn has(&self, flags: u8) -> bool {
        self.tcp.flags & flags == flags
    }
}

type Events = SmallVec<[EventName; 2]>;

/// What the window of a flow picked up midway is taken for: its scale was never seen.
const UNKNOWN_SCALE: u8 = 14;

impl Tracker {
    /// Follows one packet of `len` bytes of payload.
    #[allow(clippy::too_many_arguments)]
    pub fn packet(
        &mut self,
        tcp: &Tcp<'_>,
        len: usize,
        direction: Direction,
        time: Nanos,
        settings: &TcpSettings,
        events: &mut Events,
    ) -> Accepted {
        let seen = Seen { tcp, options: Options::of(tcp), len: len as u64, direction, time, settings };
        let accepted = match self.state {
            State::None => self.open(&seen, events),
            State::SynSent => self.syn_sent(&seen, events),
            State::SynReceived => self.syn_received(&seen, events),
            State::Closed => self.closed(&seen, events),
            _ => self.synchronised(&seen, events),
        };
        let direction = if accepted.exchanged { direction.reversed() } else { direction };
        if accepted.midstream {
            self.unanswered = settings.midstream == Midstream::Answered && !self.one_sided;
            self.opener = Some(direction);
        } else if self.opener != Some(direction) && seen.has(flag::ACK) && !seen.has(flag::RST) {
            self.unanswered = false;
        }
        self.pair(direction).0.flags |= tcp.flags;
        accepted
    }

    fn open(&mut self, seen: &Seen<'_>, events: &mut Events) -> Accepted {
        let nothing = Accepted { no_session: true, ..Accepted::default() };
        if seen.has(flag::RST) {
            events.push("stream.rst_but_no_session");
            return nothing;
        }
        if seen.has(flag::SYN | flag::ACK) {
            if seen.settings.midstream == Midstream::Off && !seen.settings.async_oneside {
                return nothing;
            }
            // The sender is the server.
            let (server, client) = self.pair(Direction::ToClient);
            server.begin(seen.tcp.sequence);
            client.begin(seen.tcp.acknowledgement.wrapping_sub(1));
            greet(server, seen);
            client.window = u32::from(u16::MAX) << UNKNOWN_SCALE;
            client.scale = UNKNOWN_SCALE;
            client.scaling = true;
            self.state = State::SynReceived;
            self.one_sided = seen.settings.async_oneside;
            let exchanged = seen.direction == Direction::ToServer;
            return Accepted { exchanged, midstream: true, bytes: seen.len > 0, ..Accepted::default() };
        }
        if seen.has(flag::SYN) {
            let (client, _) = self.pair(seen.direction);
            client.begin(seen.tcp.sequence);
            greet(client, seen);
            self.fast_open = seen.options.fast_open;
            self.state = State::SynSent;
            return Accepted { bytes: seen.len > 0, ..Accepted::default() };
        }
        if seen.has(flag::FIN) && seen.settings.midstream == Midstream::Off {
            events.push("stream.fin_but_no_session");
            return nothing;
        }
        if seen.settings.midstream == Midstream::Off || !seen.has(flag::ACK) {
            return nothing;
        }
        let (sender, receiver) = self.pair(seen.direction);
        sender.begin(seen.tcp.sequence.wrapping_sub(1));
        receiver.begin(seen.tcp.acknowledgement.wrapping_sub(1));
        for side in [sender, receiver] {
            side.scale = UNKNOWN_SCALE;
            side.window = u32::from(u16::MAX) << UNKNOWN_SCALE;
            side.scaling = true;
        }
        self.state = State::Established;
        self.one_sided = seen.settings.async_oneside;
        Accepted { midstream: true, ..self.synchronised(seen, events) }
    }

    fn syn_sent(&mut self, seen: &Seen<'_>, events: &mut Events) -> Accepted {
        let (sender, receiver) = self.pair(seen.direction);
        if seen.direction == Direction::ToClient && echoes_nothing(receiver, seen) {
            events.push("stream.pkt_invalid_timestamp");
            return Accepted::default();
        }
        if seen.has(flag::RST) {
            // The client's own may answer a forged packet, which did not hinder the handshake.
            if seen.direction == Direction::ToServer {
                return Accepted::default();
            }
            let answered = receiver.offset(seen.tcp.acknowledgement);
            if seen.has(flag::ACK) && (answered < 0 || answered > receiver.next.cast_signed()) {
                return Accepted::default();
            }
            return self.end(seen);
        }
        if seen.has(flag::SYN | flag::ACK) {
            if seen.direction == Direction::ToServer {
                events.push("stream.3whs_synack_in_wrong_direction");
                return Accepted::default();
            }
            let answered = receiver.offset(seen.tcp.acknowledgement);
            if answered < 0 || answered > receiver.next.cast_signed() {
                events.push("stream.3whs_synack_with_wrong_ack");
                return Accepted::default();
            }
            receiver.acknowledged = answered.cast_unsigned();
            sender.begin(seen.tcp.sequence);
            greet(sender, seen);
            if !(sender.scaling && receiver.scaling) {
                (sender.scale, receiver.scale) = (0, 0);
            }
            self.state = State::SynReceived;
            return Accepted { bytes: seen.len > 0, ..Accepted::default() };
        }
        if seen.has(flag::SYN) {
            if seen.direction == Direction::ToServer {
                // Sent again, perhaps by somebody who wants to begin elsewhere: the last one is what the server answers.
                let repeated = sender.initial == seen.tcp.sequence;
                if !repeated {
                    sender.next = 0;
                    sender.begin(seen.tcp.sequence);
                }
                greet(sender, seen);
                return Accepted { bytes: seen.len > 0, ..Accepted::default() };
            }
            // Both opened at once.
            sender.begin(seen.tcp.sequence);
            greet(sender, seen);
            return Accepted::default();
        }
        if !seen.has(flag::ACK) {
            return Accepted::default();
        }
        if seen.direction == Direction::ToServer && sender.offset(seen.tcp.sequence) == sender.next.cast_signed() {
            if receiver.known {
                // The end of a handshake that both began.
                self.state = State::Established;
                return self.synchronised(seen, events);
            }
            if seen.settings.async_oneside || seen.settings.midstream == Midstream::On {
                receiver.begin(seen.tcp.acknowledgement.wrapping_sub(1));
                receiver.window = u32::from(u16::MAX) << UNKNOWN_SCALE;
                receiver.scale = UNKNOWN_SCALE;
                receiver.scaling = true;
                self.one_sided = seen.settings.async_oneside;
                self.state = State::Established;
                return Accepted { midstream: true, ..self.synchronised(seen, events) };
            }
        }
        if seen.direction == Direction::ToServer {
            events.push("stream.3whs_async_wrong_seq");
        } else {
            events.push("stream.3whs_ack_in_wrong_dir");
        }
        Accepted::default()
    }

    fn syn_received(&mut self, seen: &Seen<'_>, events: &mut Events) -> Accepted {
        let one_sided = self.one_sided;
        let fast_open = self.fast_open;
        let (sender, receiver) = self.pair(seen.direction);
        if seen.has(flag::RST) {
            return self.reset(seen, events);
        }
        if seen.has(flag::SYN | flag::ACK) {
            if seen.direction == Direction::ToServer {
                events.push("stream.3whs_synack_toserver_on_syn_recv");
            } else if seen.tcp.sequence != sender.initial {
                events.push("stream.3whs_synack_resend_with_diff_seq");
            } else if receiver.offset(seen.tcp.acknowledgement) != receiver.acknowledged.cast_signed() {
                events.push("stream.3whs_synack_resend_with_diff_ack");
            }
            return Accepted::default();
        }
        if seen.has(flag::SYN) {
            if seen.direction == Direction::ToClient {
                events.push("stream.3whs_syn_toclient_on_syn_recv");
            } else if seen.tcp.sequence != sender.initial {
                events.push("stream.3whs_syn_resend_diff_seq_on_syn_recv");
            }
            return Accepted::default();
        }
        if !seen.has(flag::ACK) {
            return Accepted::default();
        }
        if seen.direction == Direction::ToServer {
            let offset = sender.offset(seen.tcp.sequence);
            let answered = receiver.offset(seen.tcp.acknowledgement);
            // Later bytes may come first, but nobody acknowledges what the server has not sent.
            let right_answer = answered >= 0 && answered <= receiver.next.cast_signed();
            let near = offset >= 0 && offset <= sender.next.cast_signed() + i64::from(receiver.window.max(0xffff));
            if !right_answer {
                events.push(if near {
                    "stream.3whs_right_seq_wrong_ack_evasion"
                } else {
                    "stream.3whs_wrong_seq_wrong_ack"
                });
                return Accepted::default();
            }
            if !near {
                events.push("stream.3whs_wrong_seq_wrong_ack");
                return Accepted::default();
            }
        } else if seen.len == 0 && !seen.has(flag::FIN) && !one_sided && !fast_open {
            events.push("stream.3whs_ack_in_wrong_dir");
            return Accepted::default();
        } else if !one_sided && !fast_open && sender.offset(seen.tcp.sequence) < 0 {
            events.push("stream.3whs_ack_data_inject");
            return Accepted::default();
        }
        self.state = State::Established;
        self.synchronised(seen, events)
    }

    /// Any state from `Established` on.
    fn synchronised(&mut self, seen: &Seen<'_>, events: &mut Events) -> Accepted {
        if seen.has(flag::SYN) {
            self.late_syn(seen, events);
            return Accepted::default();
        }
        let one_sided = self.one_sided;
        let (sender, receiver) = self.pair(seen.direction);
        if stale(sender, seen) {
            events.push("stream.pkt_invalid_timestamp");
            return Accepted::default();
        }
        if seen.has(flag::RST) {
            return self.reset(seen, events);
        }
        if !seen.has(flag::ACK) && seen.len == 0 && !seen.has(flag::FIN) {
            return Accepted::default();
        }
        let offset = sender.offset(seen.tcp.sequence);
        let end = offset + seen.len.cast_signed();
        let answered = receiver.offset(seen.tcp.acknowledgement);
        if seen.has(flag::ACK) && receiver.known && !one_sided {
            let sent_at_most = receiver.next.max(receiver.acknowledged + u64::from(sender.window)).cast_signed() + 1;
            if answered > sent_at_most {
                events.push("stream.pkt_invalid_ack");
                return Accepted::default();
            }
        } else if !seen.has(flag::ACK) && seen.tcp.acknowledgement != 0 {
            events.push("stream.pkt_broken_ack");
        }
        let allowed = sender.acknowledged.max(sender.next) + u64::from(receiver.window.max(1));
        let strict = sender.acknowledged + u64::from(receiver.window.max(1));
        let ahead = seen.len > 0 && end > strict.cast_signed() && offset > sender.next.cast_signed();
        if !one_sided && ahead && end > allowed.cast_signed() {
            events.push("stream.est_packet_out_of_window");
            return Accepted::default();
        }
        if seen.len > 0 && end <= sender.acknowledged.cast_signed() {
            events.push("stream.pkt_retransmission");
        }
        if let Some((value, _)) = seen.options.timestamp {
            sender.timestamp = Some((value, seen.time));
        }
        sender.window = u32::from(seen.tcp.window) << sender.scale;
        sender.next = sender.next.max(end.max(0).cast_unsigned());
        if seen.has(flag::ACK) && answered > 0 {
            receiver.acknowledged = receiver.acknowledged.max(answered.cast_unsigned());
        }
        if one_sided {
            // Nobody is seen to acknowledge; what comes is believed to arrive.
            sender.acknowledged = sender.acknowledged.max(sender.next);
        }
        if seen.has(flag::FIN) && sender.fin.is_none() && end >= 0 {
            sender.fin = Some(end.cast_unsigned());
        }
        self.closing(seen.direction);
        Accepted { bytes: seen.len > 0, ..Accepted::default() }
    }

    /// Moves through the states in which the ends say good-bye.
    fn closing(&mut self, direction: Direction) {
        let [client, server] = &self.sides;
        let finished = |side: &Side| side.fin.is_some();
        let answered = |side: &Side| side.fin.is_some_and(|fin| side.acknowledged > fin);
        self.state = match (finished(client), finished(server)) {
            (false, false) => self.state,
            (true, true) => match (answered(client), answered(server)) {
                (true, true) => State::Closed,
                (false, false) if self.state == State::FinWait1 || self.state == State::Closing => State::Closing,
                (true, false) | (false, true) => match self.state {
                    State::CloseWait | State::LastAck => State::LastAck,
                    _ => State::TimeWait,
                },
                (false, false) => State::LastAck,
            },
            (true, false) | (false, true) => {
                let side = if finished(client) { client } else { server };
                match (answered(side), self.state) {
                    (true, _) if direction == Direction::ToServer || self.state == State::CloseWait => State::CloseWait,
                    (true, _) => State::FinWait2,
                    (false, _) => State::FinWait1,
                }
            }
        };
    }

    fn late_syn(&mut self, seen: &Seen<'_>, events: &mut Events) {
        let (sender, receiver) = self.pair(seen.direction);
        let event = match (seen.has(flag::ACK), seen.direction) {
            (true, Direction::ToServer) => "stream.est_synack_toserver",
            (true, Direction::ToClient) if receiver.offset(seen.tcp.acknowledgement) != 0 => {
                "stream.est_synack_resend_with_different_ack"
            }
            (true, Direction::ToClient) if seen.tcp.sequence != sender.initial => {
                "stream.est_synack_resend_with_diff_seq"
            }
            (true, Direction::ToClient) => "stream.est_synack_resend",
            (false, Direction::ToClient) => "stream.est_syn_toclient",
            (false, Direction::ToServer) if seen.tcp.sequence != sender.initial => "stream.est_syn_resend_diff_seq",
            (false, Direction::ToServer) => "stream.est_syn_resend",
        };
        events.push(event);
    }

    fn reset(&mut self, seen: &Seen<'_>, events: &mut Events) -> Accepted {
        let one_sided = self.one_sided;
        let (sender, receiver) = self.pair(seen.direction);
        let offset = sender.offset(seen.tcp.sequence);
        let window = i64::from(receiver.window.max(1));
        let first = sender.acknowledged.min(sender.next).cast_signed() - 1;
        let last = sender.next.max(sender.acknowledged).cast_signed() + window;
        if !one_sided && sender.known && !(first..=last).contains(&offset) {
            events.push("stream.pkt_invalid_rst");
            return Accepted::default();
        }
        if seen.has(flag::ACK) && receiver.known {
            let answered = receiver.offset(seen.tcp.acknowledgement);
            if answered > receiver.next.cast_signed() + 1 + i64::from(sender.window) {
                events.push("stream.rst_invalid_ack");
                return Accepted::default();
            }
            if answered > 0 {
                receiver.acknowledged = receiver.acknowledged.max(answered.cast_unsigned());
            }
        }
        self.end(seen)
    }

    fn end(&mut self, seen: &Seen<'_>) -> Accepted {
        self.state = State::Closed;
        if let Some(reset) = self.reset.get_mut(seen.direction as usize) {
            *reset = true;
        }
        Accepted { bytes: seen.len > 0, ..Accepted::default() }
    }

    fn closed(&mut self, seen: &Seen<'_>, events: &mut Events) -> Accepted {
        if seen.has(flag::RST) || seen.has(flag::SYN) {
            return Accepted::default();
        }
        let was_reset = self.reset.get(seen.direction as usize).copied().unwrap_or_default();
        let (sender, receiver) = self.pair(seen.direction);
        if was_reset && seen.len > 0 {
            // Whoever says good-bye by RST has nothing more to say: somebody else said it.
            events.push("stream.suspected_rst_inject");
        }
        // Last acknowledgements still hand over what was waiting.
        if seen.has(flag::ACK) && receiver.known {
            let answered = receiver.offset(seen.tcp.acknowledgement);
            if answered > 0 && answered <= receiver.next.cast_signed() + 1 {
                receiver.acknowledged = receiver.acknowledged.max(answered.cast_unsigned());
            }
        }
        // Bytes still count: the RST may have been forged, and never have reached whom it names.
        Accepted { bytes: seen.len > 0 && sender.known, ..Accepted::default() }
    }
}

/// Takes what a SYN tells.
fn greet(side: &mut Side, seen: &Seen<'_>) {
    side.scaling = seen.options.scale.is_some();
    side.scale = seen.options.scale.unwrap_or_default();
    side.window = u32::from(seen.tcp.window);
    side.timestamp = seen.options.timestamp.map(|(value, _)| (value, seen.time));
    side.next = side.next.max(seen.len);
}

/// Whether an answer to a SYN echoes a time stamp that the SYN did not have: the client will not believe it.
fn echoes_nothing(client: &Side, seen: &Seen<'_>) -> bool {
    let sent = client.timestamp.map(|(value, _)| value);
    // Some answer with zero, and a SYN sent again may have a later stamp than the one that is answered.
    let near = |echo: u32| sent.is_some_and(|sent| sent.wrapping_sub(echo) < 1 << 20);
    seen.options.timestamp.is_some_and(|(_, echo)| echo != 0 && !near(echo))
}

/// Whether a time stamp is older than the last one (RFC 7323, section 5: protection against wrapped sequence numbers).
fn stale(sender: &Side, seen: &Seen<'_>) -> bool {
    /// After so long the clock of the time stamps may have wrapped.
    const OUTDATED: Nanos = 24 * 24 * 3600 * 1_000_000_000;
    let (Some((last, when)), Some((value, _))) = (sender.timestamp, seen.options.timestamp) else {
        return false;
    };
    let older = value.wrapping_sub(last).cast_signed() < 0;
    older && last != 0 && seen.time.saturating_sub(when) < OUTDATED
}
