//! What can be set, under the dotted names that Suricata's configuration uses.

use crate::app::Limits;
use crate::decode::TunnelPorts;
use crate::flow::table::TimeOuts;
use crate::flow::tcp::{Midstream, OverlapPolicy, TcpSettings};

/// What happens where the detector cannot do its work on a packet or a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExceptionPolicy {
    /// Goes on as well as it can.
    #[default]
    Ignore,
    /// This packet passes unseen.
    PassPacket,
    /// The flow's packets pass without signatures; its protocol is still parsed and logged.
    PassFlow,
    /// The flow passes unseen.
    Bypass,
    /// This packet is dropped.
    DropPacket,
    /// The flow is dropped.
    DropFlow,
    /// The flow is dropped, and its ends are told.
    Reject,
}

/// How strange a setting is.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingError {
    /// There is none of that name.
    #[error("there is no setting \"{0}\"")]
    Unknown(String),
    /// It cannot have that value.
    #[error("setting \"{0}\" cannot be \"{1}\": it takes {2}")]
    Value(String, String, &'static str),
}

/// All settings of an engine.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)]
pub struct Settings {
    /// TCP.
    pub tcp: TcpSettings,
    /// Whether packets wait for a verdict: signatures that drop do, and alerts say `blocked`.
    pub inline: bool,
    /// Whether flows of which nothing more can be learnt are given up, and their packets need not come any more.
    pub bypass: bool,
    /// Whether checksums are looked at. Off by default: a host sees its own packets before the card fills them in.
    pub checksums: bool,
    /// What happens with flows whose beginning was not seen.
    pub midstream_policy: Option<ExceptionPolicy>,
    /// What happens with flows whose parser gives up.
    pub app_error_policy: Option<ExceptionPolicy>,
    /// What happens where memory for reassembly is used up.
    pub reassembly_memory_policy: Option<ExceptionPolicy>,
    /// What happens where memory for fragments is used up.
    pub defrag_memory_policy: Option<ExceptionPolicy>,
    /// What stands for all policies that are not set themselves.
    pub exception_policy: Option<ExceptionPolicy>,
    /// How many alerts one packet may have.
    pub packet_alerts_max: usize,
    /// Which UDP ports carry tunnels.
    pub tunnel_ports: TunnelPorts,
    /// What parsers are held to.
    pub limits: Limits,
    /// When flows end.
    pub timeouts: TimeOuts,
    /// How many flows there may be.
    pub flows_max: usize,
    /// How many bytes may wait for reassembly.
    pub reassembly_bytes_max: usize,
    /// How many fragments may wait.
    pub fragments_max: usize,
    /// Whether every event has `community_id`.
    pub community_id: bool,
    /// The seed of `community_id`.
    pub community_id_seed: u16,
    /// Whether alerts show the payload and the packet.
    pub alert_payload: bool,
    /// Whether alerts list what a signature refers to.
    pub alert_references: bool,
    /// Which events are written beside alerts.
    pub events: EventSet,
    /// Protocols that are not looked for.
    pub disabled: Vec<crate::app::Protocol>,
    /// Whether stages of a failing parser are tried: at this byte of a direction it fails.
    pub fail_parser_at: [Option<u64>; 2],
    /// Whether reassembly memory is used up from this packet on.
    pub fail_reassembly_at: Option<u64>,
}

/// Which events are written beside alerts.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, clippy::struct_excessive_bools)]
pub struct EventSet {
    pub flow: bool,
    pub transactions: bool,
    pub files: bool,
    /// Of application protocols; those of decoding and of streams are many on any real network.
    pub application_anomalies: bool,
    pub decode_anomalies: bool,
    pub stream_anomalies: bool,
    pub stats: bool,
}

impl Default for EventSet {
    fn default() -> Self {
        Self {
            flow: true,
            transactions: true,
            files: true,
            application_anomalies: true,
            decode_anomalies: true,
            stream_anomalies: false,
            stats: true,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tcp: TcpSettings::default(),
            inline: false,
            bypass: false,
            checksums: false,
            midstream_policy: None,
            app_error_policy: None,
            reassembly_memory_policy: None,
            defrag_memory_policy: None,
            exception_policy: None,
            packet_alerts_max: 64,
            tunnel_ports: TunnelPorts::default(),
            limits: Limits::default(),
            timeouts: TimeOuts::default(),
            flows_max: 1 << 20,
            reassembly_bytes_max: 256 << 20,
            fragments_max: 65_536,
            community_id: false,
            community_id_seed: 0,
            alert_payload: true,
            alert_references: false,
            events: EventSet::default(),
            disabled: Vec::new(),
            fail_parser_at: [None; 2],
            fail_reassembly_at: None,
        }
    }
}

impl Settings {
    /// Sets one.
    ///
    /// # Errors
    /// [`SettingError`] names the setting that is unknown, or whose value it cannot have.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), SettingError> {
        let read = Reader { key, value };
        match key {
            "simulate-ips" => {
                self.inline = read.truth()?;
                self.tcp.inline = self.inline;
            }
            "stream.inline" => self.tcp.inline = value == "auto" && self.inline || value != "auto" && read.truth()?,
            "stream.midstream" if value == "answered" => self.tcp.midstream = Midstream::Answered,
            "stream.midstream" => self.tcp.midstream = if read.truth()? { Midstream::On } else { Midstream::Off },
            "stream.async-oneside" => self.tcp.async_oneside = read.truth()?,
            "stream.bypass" => self.bypass = read.truth()?,
            "stream.checksum-validation" => self.checksums = read.truth()?,
            "k" => self.checksums = !matches!(value, "none"),
            "stream.midstream-policy" => self.midstream_policy = Some(read.policy()?),
            "stream.memcap-policy" | "stream.reassembly.memcap-policy" => {
                self.reassembly_memory_policy = Some(read.policy()?);
            }
            "defrag.memcap-policy" => self.defrag_memory_policy = Some(read.policy()?),
            "app-layer.error-policy" => self.app_error_policy = Some(read.policy()?),
            "exception-policy" => {
                self.exception_policy = Some(if value == "auto" { self.automatic() } else { read.policy()? });
            }
            "packet-alert-max" => self.packet_alerts_max = read.number()? as usize,
            "stream.reassembly.depth" => self.tcp.depth = read.size()?,
            "stream.reassembly.memcap" => self.reassembly_bytes_max = read.size()? as usize,
            "stream.policy" => {
                self.tcp.policy = OverlapPolicy::named(value).ok_or_else(|| read.wrong("the name of a system"))?;
            }
            "decoder.vxlan.enabled" => self.tunnel_ports.vxlan = if read.truth()? { 4789 } else { 0 },
            "decoder.vxlan.ports" => self.tunnel_ports.vxlan = read.number()? as u16,
            "outputs.community-id-seed" => self.community_id_seed = read.number()? as u16,
            "outputs.community-id" => self.community_id = read.truth()?,
            "simulate-packet-tcp-reassembly-memcap" => self.fail_reassembly_at = Some(read.number()?),
            "simulate-applayer-error-at-offset-ts" => self.fail_parser_at[0] = Some(read.number()?),
            "simulate-applayer-error-at-offset-tc" => self.fail_parser_at[1] = Some(read.number()?),
            "outputs.flow" => self.events.flow = read.truth()?,
            "outputs.transactions" => self.events.transactions = read.truth()?,
            "outputs.fileinfo" => self.events.files = read.truth()?,
            "outputs.stats" => self.events.stats = read.truth()?,
            "outputs.alert.payload" => self.alert_payload = read.truth()?,
            "outputs.alert.references" => self.alert_references = read.truth()?,
            "outputs.anomaly.types.decode" => self.events.decode_anomalies = read.truth()?,
            "outputs.anomaly.types.stream" => self.events.stream_anomalies = read.truth()?,
            "outputs.anomaly.types.applayer" => self.events.application_anomalies = read.truth()?,
            // What changes nothing here: one thread, data sets always on, statistics always whole.
            "runmode" | "no-random" | "data-dir" | "datasets.enabled" | "stats.decoder-events" => {}
            _ => self.set_protocol(read)?,
        }
        Ok(())
    }

    /// `app-layer.protocols.NAME.…`
    fn set_protocol(&mut self, read: Reader<'_>) -> Result<(), SettingError> {
        use crate::app::Protocol as P;
        let unknown = || SettingError::Unknown(read.key.to_owned());
        let rest = read.key.strip_prefix("app-layer.protocols.").ok_or_else(unknown)?;
        let (name, setting) = rest.split_once('.').ok_or_else(unknown)?;
        let protocol = match name {
            "http" | "http1" => P::Http1,
            "http2" => P::Http2,
            "dns" => P::Dns,
            "tls" => P::Tls,
            "smtp" => P::Smtp,
            "ftp" => P::Ftp,
            "ssh" => P::Ssh,
            "dcerpc" => P::Dcerpc,
            "smb" => P::Smb,
            _ => return Err(unknown()),
        };
        match setting {
            "enabled" => {
                self.disabled.retain(|other| *other != protocol);
                if !read.truth()? {
                    self.disabled.push(protocol);
                }
                Ok(())
            }
            // Protocols are recognised on every port, so that ports to look at add nothing.
            _ if setting.starts_with("detection-ports") => Ok(()),
            _ if protocol == P::Http1 && setting.starts_with("libhtp.default-config.") => {
                match setting.trim_start_matches("libhtp.default-config.") {
                    "response-body-decompress-layer-limit" => {
                        self.limits.decompression_layers = read.number()? as u32;
                        Ok(())
                    }
                    // One limit serves both directions; LZMA is always read, within its memory limit.
                    _ => Err(unknown()),
                }
            }
            _ => Err(unknown()),
        }
    }

    /// What Suricata calls `auto`: who waits for a verdict does not get what could not be inspected.
    fn automatic(&self) -> ExceptionPolicy {
        if self.inline { ExceptionPolicy::DropFlow } else { ExceptionPolicy::Ignore }
    }

    /// The policy of one kind: its own, or the one for all, or to go on.
    #[must_use]
    pub fn policy(&self, own: Option<ExceptionPolicy>) -> ExceptionPolicy {
        own.or(self.exception_policy).unwrap_or_default()
    }

    /// The policy for flows whose beginning was not seen. The one for all counts only where they are not picked up.
    #[must_use]
    pub fn midstream_policy(&self) -> ExceptionPolicy {
        let all = self.exception_policy.filter(|_| self.tcp.midstream != Midstream::On);
        self.midstream_policy.or(all).unwrap_or_default()
    }
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    key: &'a str,
    value: &'a str,
}

impl Reader<'_> {
    fn wrong(self, takes: &'static str) -> SettingError {
        SettingError::Value(self.key.to_owned(), self.value.to_owned(), takes)
    }

    fn truth(self) -> Result<bool, SettingError> {
        match self.value {
            "true" | "yes" | "on" | "1" => Ok(true),
            "false" | "no" | "off" | "0" => Ok(false),
            _ => Err(self.wrong("true or false")),
        }
    }

    fn number(self) -> Result<u64, SettingError> {
        self.value.parse().map_err(|_| self.wrong("a number"))
    }

    /// Bytes, with `kb`, `mb` or `gb` behind them.
    fn size(self) -> Result<u64, SettingError> {
        let lower = self.value.to_ascii_lowercase();
        let (digits, factor) = [("kb", 1 << 10), ("mb", 1 << 20), ("gb", 1 << 30)]
            .into_iter()
            .find_map(|(unit, factor)| lower.strip_suffix(unit).map(|digits| (digits.trim(), factor)))
            .unwrap_or((&lower, 1));
        let number: u64 = digits.parse().map_err(|_| self.wrong("a size such as 64mb"))?;
        number.checked_mul(factor).ok_or_else(|| self.wrong("a size such as 64mb"))
    }

    fn policy(self) -> Result<ExceptionPolicy, SettingError> {
        Ok(match self.value {
            "ignore" => ExceptionPolicy::Ignore,
            "pass-packet" => ExceptionPolicy::PassPacket,
            "pass-flow" => ExceptionPolicy::PassFlow,
            "bypass" => ExceptionPolicy::Bypass,
            "drop-packet" => ExceptionPolicy::DropPacket,
            "drop-flow" => ExceptionPolicy::DropFlow,
            "reject" => ExceptionPolicy::Reject,
            _ => return Err(self.wrong("ignore, pass-packet, pass-flow, bypass, drop-packet, drop-flow or reject")),
        })
    }
}
