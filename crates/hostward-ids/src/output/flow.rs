//! The event `flow`: what a flow was, once it is over.

use super::json::Json;
use super::{Heading, application_name};
use crate::decode::Nanos;
use crate::flow::{Flow, FlowVerdict};

/// Why a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing was heard of it.
    Timeout,
    /// Its place was needed.
    Forced,
    /// The engine ends.
    Shutdown,
    /// Its ends opened another connection.
    TcpReuse,
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Forced => "forced",
            Self::Shutdown => "shutdown",
            Self::TcpReuse => "tcp_reuse",
        }
    }
}

pub(crate) fn write(json: &mut Json, heading: &Heading<'_>, flow: &Flow, reason: Reason) {
    heading.write(json);
    if let Some(application) = flow.application() {
        json.text("app_proto", application_name(application));
    }
    json.open("flow");
    let [to_server, to_client] = flow.packets;
    json.number("pkts_toserver", to_server);
    json.number("pkts_toclient", to_client);
    let [to_server, to_client] = flow.bytes;
    json.number("bytes_toserver", to_server);
    json.number("bytes_toclient", to_client);
    json.time("start", flow.first);
    json.time("end", flow.last);
    json.number("age", age_s(flow.first, flow.last));
    if flow.verdict == FlowVerdict::Bypass {
        json.text("bypass", "local");
    }
    json.text("state", state(flow));
    json.text("reason", reason.name());
    json.truth("alerted", flow.alerts > 0);
    if matches!(flow.verdict, FlowVerdict::Drop | FlowVerdict::Reject) {
        json.text("action", "drop");
    }
    json.close();
    tcp(json, flow);
}

/// In whole seconds, counted as the clock's seconds change.
fn age_s(first: Nanos, last: Nanos) -> u64 {
    (last / 1_000_000_000).saturating_sub(first / 1_000_000_000)
}

fn state(flow: &Flow) -> &'static str {
    use crate::flow::tcp::State;
    if flow.verdict == FlowVerdict::Bypass {
        return "bypassed";
    }
    match flow.stream.as_ref().map(|stream| stream.tracker.state) {
        Some(State::None | State::SynSent | State::SynReceived) => "new",
        Some(State::Closed | State::TimeWait | State::LastAck | State::Closing) => "closed",
        Some(_) => "established",
        None if flow.established => "established",
        None => "new",
    }
}

fn tcp(json: &mut Json, flow: &Flow) {
    let Some(stream) = &flow.stream else { return };
    let [client, server] = &stream.tracker.sides;
    json.open("tcp");
    json.text("tcp_flags", &format!("{:02x}", client.flags | server.flags));
    json.text("tcp_flags_ts", &format!("{:02x}", client.flags));
    json.text("tcp_flags_tc", &format!("{:02x}", server.flags));
    let all = client.flags | server.flags;
    for (bit, name) in
        [(2, "syn"), (1, "fin"), (4, "rst"), (8, "psh"), (16, "ack"), (32, "urg"), (64, "ecn"), (128, "cwr")]
    {
        if all & bit != 0 {
            json.truth(name, true);
        }
    }
    json.text("state", stream.tracker.state.name());
    json.truth("ts_gap", client.gaps);
    json.truth("tc_gap", server.gaps);
    json.close();
}
