//! A record as one line of JSON. Names are those of information elements, and values as RFC 7373 writes them, but that
//! numbers are JSON's own, and strings JSON's.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use hostward_abi as abi;

use crate::ipfix::message::Clock;
use crate::ipfix::names::Names;
use crate::ipfix::record::Record;
use crate::ipfix::template::Kind;

const TCP: u8 = 6;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// Writes a record without the line's end.
pub fn write_line(out: &mut Vec<u8>, record: &Record, names: &Names, clock: Clock) {
    let mut line = Line { out, first: true };
    line.out.push(b'{');
    line.time("flowStartMilliseconds", clock.milliseconds(record.start_ns));
    line.time("flowEndMilliseconds", clock.milliseconds(record.end_ns));
    write_tuple(&mut line, record);
    let volume = &record.volume;
    line.number("packetDeltaCount", volume.packets[0]);
    line.number("octetDeltaCount", volume.octets[0]);
    line.number("reversePacketDeltaCount", volume.packets[1]);
    line.number("reverseOctetDeltaCount", volume.octets[1]);
    line.number("flowDirection", u64::from(u32::from(record.direction) == abi::direction::EGRESS));
    line.number("flowEndReason", record.end_reason as u64);
    line.number("forwardingStatus", record.forwarding_status().into());
    if let Some(endpoint) = names.endpoint(record.slot) {
        if endpoint.interface != 0 {
            line.text("interfaceName", &endpoint.device);
        }
        line.text("hostwardTenant", &endpoint.tenant);
        line.text("hostwardEndpoint", &endpoint.endpoint);
        line.text("hostwardGroup", &endpoint.groups);
    }
    line.text("hostwardProcess", names.executable(record.slot, record.process));
    line.text("hostwardRule", names.rules(record.number));
    line.number("hostwardRevision", record.revision);
    line.text("hostwardVerdict", &abi::verdict_word(record.verdict.into()).unwrap_or_default());
    if u32::from(record.reason) != abi::reason::REASON_NONE {
        line.text("hostwardReason", &abi::reason_word(record.reason.into()).unwrap_or_default());
    }
    line.out.push(b'}');
}

fn write_tuple(line: &mut Line<'_>, record: &Record) {
    let tuple = &record.tuple;
    match Kind::of(record) {
        Kind::Link => {
            let mac = record.source_mac.map(|octet| format!("{octet:02x}")).join(":");
            line.text("sourceMacAddress", &mac);
            line.number("ethernetType", record.ethertype.into());
            return;
        }
        Kind::Ipv4 | Kind::Icmp => {
            let address = |octets: [u8; 16]| {
                let [.., a, b, c, d] = octets;
                Ipv4Addr::new(a, b, c, d).to_string()
            };
            line.text("sourceIPv4Address", &address(tuple.source));
            line.text("destinationIPv4Address", &address(tuple.destination));
        }
        Kind::Ipv6 | Kind::Icmpv6 => {
            line.text("sourceIPv6Address", &Ipv6Addr::from(tuple.source).to_string());
            line.text("destinationIPv6Address", &Ipv6Addr::from(tuple.destination).to_string());
        }
    }
    line.number("protocolIdentifier", tuple.protocol.into());
    match tuple.protocol {
        ICMP => line.number("icmpTypeCodeIPv4", u64::from(tuple.destination_port) << 8),
        ICMPV6 => line.number("icmpTypeCodeIPv6", u64::from(tuple.destination_port) << 8),
        _ => {
            line.number("sourceTransportPort", tuple.source_port.into());
            line.number("destinationTransportPort", tuple.destination_port.into());
        }
    }
    if tuple.protocol == TCP {
        line.number("tcpControlBits", record.tcp_flags().into());
        line.number("reverseTcpControlBits", record.reverse_tcp_flags().into());
    }
}

struct Line<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl Line<'_> {
    fn name(&mut self, name: &str) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend(name.as_bytes());
        self.out.extend(b"\":");
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        // A vector takes everything.
        let _ = write!(self.out, "{value}");
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.out.push(b'"');
        for octet in value.bytes() {
            match octet {
                b'"' | b'\\' => self.out.extend([b'\\', octet]),
                0..0x20 => {
                    let _ = write!(self.out, "\\u{octet:04x}");
                }
                _ => self.out.push(octet),
            }
        }
        self.out.push(b'"');
    }

    /// dateTimeMilliseconds (RFC 7373, section 4.8; RFC 3339), in UTC.
    fn time(&mut self, name: &str, milliseconds: u64) {
        self.name(name);
        let (year, month, day) = date_of(milliseconds / 86_400_000);
        let in_day = milliseconds % 86_400_000;
        let (hour, minute, second) = (in_day / 3_600_000, in_day / 60_000 % 60, in_day / 1_000 % 60);
        let rest = in_day % 1_000;
        let _ = write!(self.out, "\"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{rest:03}Z\"");
    }
}

/// Year, month and day of so many days after 1970-01-01, in the Gregorian calendar. Eras of 400 years begin in March, so
/// that the leap day is a year's last.
fn date_of(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // 0000-03-01
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year + 400 * era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(date_of(0), (1970, 1, 1));
        assert_eq!(date_of(11_016), (2000, 2, 29));
        assert_eq!(date_of(20_785), (2026, 11, 28));
        assert_eq!(date_of(47_540), (2100, 2, 28));
        assert_eq!(date_of(47_541), (2100, 3, 1));
    }

    #[test]
    fn strings_cannot_break_out() {
        let mut out = Vec::new();
        Line { out: &mut out, first: true }.text("a", "x\"\\\n\u{1f}é");
        assert_eq!(String::from_utf8(out).unwrap(), "\"a\":\"x\\\"\\\\\\u000a\\u001fé\"");
    }
}
