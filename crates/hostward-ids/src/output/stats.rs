//! The event `stats`: what the engine has counted.

use super::json::Json;
use crate::decode::Nanos;
use crate::engine::Stats;

pub(crate) fn write(json: &mut Json, time: Nanos, stats: &Stats) {
    json.time("timestamp", time);
    json.text("event_type", "stats");
    json.open("stats");
    json.open("decoder");
    json.number("pkts", stats.frames);
    json.number("bytes", stats.bytes);
    json.number("invalid", stats.invalid);
    json.close();
    json.open("flow");
    json.number("total", stats.flows);
    json.open("wrk");
    json.number("flows_evicted", stats.flows_evicted);
    json.close();
    json.close();
    json.open("tcp");
    json.number("reassembly_gap", stats.gaps);
    json.number("insert_data_normal_fail", stats.reassembly_no_memory);
    json.close();
    json.open("detect");
    json.number("alert", stats.alerts);
    json.number("alerts_suppressed", stats.alerts_suppressed);
    json.close();
    json.open("ips");
    json.number("blocked", stats.dropped);
    json.close();
    json.close();
}
