//! Keywords that ask or change something of a flow or of hosts.

use super::super::header::{application, exactly};
use super::super::number::{self, Comparison};
use super::super::test::{
    BitOperation, BitOwner, Effect, Establishment, FlowInteger, FlowIntegerOperation, FlowIntegerValue, FlowTest,
    HostBit, ProtocolName, ProtocolOf, StreamSide,
};
use super::super::{Fault, Read};
use super::Builder;
use crate::Direction;
use crate::app::Protocol;

impl Builder {
    pub(super) fn flow(&mut self, keyword: &str, value: Option<&str>) -> Read<bool> {
        let text = value.unwrap_or_default().trim().trim_matches('"');
        match keyword {
            "flow" => self.flow_state(text)?,
            "flowbits" => self.flow_bits(text)?,
            "flowint" => {
                let integer = flow_integer(text)?;
                match integer.operation {
                    FlowIntegerOperation::Assign | FlowIntegerOperation::Add | FlowIntegerOperation::Subtract => {
                        self.rule.effects.push(Effect::Integer(integer));
                    }
                    _ => self.rule.flow_tests.push(FlowTest::Integer(integer)),
                }
            }
            "hostbits" => self.host_bit(host_bits(text)?),
            "xbits" => {
                if text.trim() == "noalert" {
                    self.rule.no_alert = true;
                } else {
                    self.host_bit(xbits(text)?);
                }
            }
            "flow.age" => self.rule.flow_tests.push(FlowTest::Age(Comparison::read(text)?)),
            "flow.pkts_toserver" => self.counted(true, Some(true), text)?,
            "flow.pkts_toclient" => self.counted(true, Some(false), text)?,
            "flow.bytes_toserver" => self.counted(false, Some(true), text)?,
            "flow.bytes_toclient" => self.counted(false, Some(false), text)?,
            "flow.pkts" | "flow.bytes" => {
                let (way, count) = text.split_once(',').ok_or_else(|| Fault::new("expected direction,number"))?;
                let way = match way.trim() {
                    "toserver" => Some(true),
                    "toclient" => Some(false),
                    "either" => None,
                    _ => return Err(Fault::new(format!("'{way}' is no direction"))),
                };
                self.counted(keyword == "flow.pkts", way, count)?;
            }
            "stream_size" => self.rule.flow_tests.push(stream_size(text)?),
            "app-layer-protocol" => self.rule.flow_tests.push(protocol(text)?),
            _ => return Ok(false),
        }
        if self.rule.flow_tests.len() > 64 || self.rule.effects.len() > 64 {
            return Err(Fault::new("more than 64 tests or effects"));
        }
        Ok(true)
    }

    fn counted(&mut self, packets: bool, to_server: Option<bool>, text: &str) -> Read<()> {
        let count = Comparison::read(text)?;
        self.rule.flow_tests.push(if packets {
            FlowTest::Packets { to_server, count }
        } else {
            FlowTest::Bytes { to_server, count }
        });
        Ok(())
    }

    fn flow_state(&mut self, text: &str) -> Read<()> {
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word.to_ascii_lowercase().as_str() {
                "to_server" | "toserver" | "from_client" => self.way(Direction::ToServer)?,
                "to_client" | "toclient" | "from_server" => self.way(Direction::ToClient)?,
                "established" => self.rule.establishment = Some(Establishment::Established),
                "not_established" => self.rule.establishment = Some(Establishment::NotEstablished),
                "stateless" => self.rule.stateless = true,
                "only_stream" => self.rule.stream_only = Some(true),
                "no_stream" => self.rule.stream_only = Some(false),
                "no_frag" | "only_frag" => {}
                _ => return Err(Fault::new(format!("'{word}' is not understood"))),
            }
        }
        Ok(())
    }

    fn way(&mut self, direction: Direction) -> Read<()> {
        match self.rule.direction.replace(direction) {
            Some(earlier) if earlier != direction => Err(Fault::new("two directions")),
            _ => Ok(()),
        }
    }

    fn flow_bits(&mut self, text: &str) -> Read<()> {
        let (operation, names) = text.split_once(',').unwrap_or((text, ""));
        let names: Vec<String> =
            names.split('|').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
        let operation = match operation.trim() {
            "noalert" => {
                self.rule.no_alert = true;
                return Ok(());
            }
            other => bit_operation(other)?,
        };
        if names.is_empty() || names.len() > 64 {
            return Err(Fault::new("expected a name"));
        }
        match operation {
            BitOperation::IsSet => self.rule.flow_tests.push(FlowTest::Bits { set: true, names }),
            BitOperation::IsNotSet => self.rule.flow_tests.push(FlowTest::Bits { set: false, names }),
            _ => {
                for name in names {
                    self.rule.effects.push(Effect::FlowBit { operation, name });
                }
            }
        }
        Ok(())
    }

    fn host_bit(&mut self, bit: HostBit) {
        if bit.operation.asks() {
            self.rule.flow_tests.push(FlowTest::HostBit(bit));
        } else {
            self.rule.effects.push(Effect::HostBit(bit));
        }
    }
}

fn bit_operation(text: &str) -> Read<BitOperation> {
    Ok(match text {
        "set" => BitOperation::Set,
        "unset" => BitOperation::Unset,
        "toggle" => BitOperation::Toggle,
        "isset" => BitOperation::IsSet,
        "isnotset" => BitOperation::IsNotSet,
        _ => return Err(Fault::new(format!("'{text}' is no operation"))),
    })
}

fn host_bits(text: &str) -> Read<HostBit> {
    let mut words = text.split(',').map(str::trim);
    let operation = bit_operation(words.next().unwrap_or_default())?;
    let name = words.next().filter(|name| !name.is_empty()).ok_or_else(|| Fault::new("the name is missing"))?;
    let owner = match words.next() {
        None | Some("src") => BitOwner::Source,
        Some("dst") => BitOwner::Destination,
        Some("both") => BitOwner::Both,
        Some(other) => return Err(Fault::new(format!("'{other}' is no host"))),
    };
    Ok(HostBit { operation, name: name.to_owned(), owner, expire_s: 300 })
}

fn xbits(text: &str) -> Read<HostBit> {
    let mut words = text.split(',').map(str::trim);
    let operation = bit_operation(words.next().unwrap_or_default())?;
    let name = words.next().filter(|name| !name.is_empty()).ok_or_else(|| Fault::new("the name is missing"))?;
    let mut bit = HostBit { operation, name: name.to_owned(), owner: BitOwner::Source, expire_s: 30 };
    let mut tracked = false;
    for word in words {
        match word.split_once(char::is_whitespace).map(|(key, rest)| (key, rest.trim())) {
            Some(("track", owner)) => {
                tracked = true;
                bit.owner = match owner {
                    "ip_src" => BitOwner::Source,
                    "ip_dst" => BitOwner::Destination,
                    "ip_pair" => BitOwner::Pair,
                    "tx" => BitOwner::Transaction,
                    _ => return Err(Fault::new(format!("cannot track '{owner}'"))),
                };
            }
            Some(("expire", seconds)) => bit.expire_s = number::narrow(seconds)?,
            _ => return Err(Fault::new(format!("'{word}' is not understood"))),
        }
    }
    if tracked { Ok(bit) } else { Err(Fault::new("track is missing")) }
}

fn flow_integer(text: &str) -> Read<FlowInteger> {
    let mut words = text.split(',').map(str::trim);
    let name = words.next().filter(|name| !name.is_empty()).ok_or_else(|| Fault::new("the name is missing"))?;
    let operation = match words.next().unwrap_or_default() {
        "=" => FlowIntegerOperation::Assign,
        "+" => FlowIntegerOperation::Add,
        "-" => FlowIntegerOperation::Subtract,
        "<" => FlowIntegerOperation::Less,
        "<=" => FlowIntegerOperation::AtMost,
        "==" => FlowIntegerOperation::Equal,
        "!=" => FlowIntegerOperation::NotEqual,
        ">=" => FlowIntegerOperation::AtLeast,
        ">" => FlowIntegerOperation::Greater,
        "isset" => FlowIntegerOperation::IsSet,
        "notset" | "isnotset" => FlowIntegerOperation::IsNotSet,
        other => return Err(Fault::new(format!("'{other}' is no operation"))),
    };
    let value = match words.next() {
        Some(text) if !text.is_empty() => match number::narrow(text) {
            Ok(number) => FlowIntegerValue::Number(number),
            Err(_) => FlowIntegerValue::Name(text.to_owned()),
        },
        _ if matches!(operation, FlowIntegerOperation::IsSet | FlowIntegerOperation::IsNotSet) => {
            FlowIntegerValue::Number(0)
        }
        _ => return Err(Fault::new("the value is missing")),
    };
    Ok(FlowInteger { name: name.to_owned(), operation, value })
}

fn stream_size(text: &str) -> Read<FlowTest> {
    let mut words = text.split(',').map(str::trim);
    let side = match words.next().unwrap_or_default() {
        "client" => StreamSide::Client,
        "server" => StreamSide::Server,
        "both" => StreamSide::Both,
        "either" => StreamSide::Either,
        other => return Err(Fault::new(format!("'{other}' is no side"))),
    };
    let operator = words.next().unwrap_or_default();
    let number = words.next().ok_or_else(|| Fault::new("the size is missing"))?;
    Ok(FlowTest::StreamSize { side, size: Comparison::read(&format!("{operator}{number}"))? })
}

/// Protocols that Suricata knows and that are never recognised here: a rule that excludes one is still right.
const UNRECOGNISED: &[&str] = &[
    "bittorrent-dht",
    "dhcp",
    "dnp3",
    "doh2",
    "enip",
    "ike",
    "imap",
    "krb5",
    "ldap",
    "mdns",
    "modbus",
    "mqtt",
    "mysql",
    "nfs",
    "ntp",
    "pgsql",
    "pop3",
    "quic",
    "rdp",
    "rfb",
    "sip",
    "snmp",
    "telnet",
    "template",
    "tftp",
    "websocket",
];

fn protocol(text: &str) -> Read<FlowTest> {
    let (name, mode) = match text.split_once(',') {
        Some((name, mode)) => (name.trim(), mode.trim()),
        None => (text.trim(), ""),
    };
    let (negated, name) = match name.strip_prefix('!') {
        Some(rest) => (true, rest.trim()),
        None => (false, name),
    };
    let of = match mode {
        "" | "direction" | "exact" => ProtocolOf::Direction,
        "to_server" => ProtocolOf::ToServer,
        "to_client" => ProtocolOf::ToClient,
        "either" => ProtocolOf::Either,
        "final" => ProtocolOf::Final,
        "original" => ProtocolOf::Original,
        _ => return Err(Fault::new(format!("'{mode}' is no mode"))),
    };
    let name = match name {
        "failed" => ProtocolName::Failed,
        "unknown" if !negated => ProtocolName::Unknown,
        // Alone, without what carries it or is like it.
        "dns" if mode == "exact" => ProtocolName::Known(&[Protocol::Dns]),
        "http2" if mode == "exact" => ProtocolName::Known(&[Protocol::Http2]),
        "http" if mode == "exact" => ProtocolName::Known(&[Protocol::Http1]),
        "dcerpc" if mode == "exact" => ProtocolName::Known(&[Protocol::Dcerpc]),
        _ => match if mode == "exact" { exactly(name) } else { application(name) } {
            Some(protocols) => ProtocolName::Known(protocols),
            None if UNRECOGNISED.contains(&name) => ProtocolName::Never,
            None => return Err(Fault::new(format!("the protocol '{name}' is not known"))),
        },
    };
    Ok(FlowTest::Protocol { negated, name, of })
}
