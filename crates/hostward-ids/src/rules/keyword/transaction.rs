//! Keywords that ask something of a transaction beside its buffers.

use super::super::number::{self, Comparison};
use super::super::option::quoted;
use super::super::test::{DigestKind, TransactionTest};
use super::super::{Fault, Read, content};
use super::Builder;
use crate::Direction;
use crate::app::Stage;
use crate::app::buffer::Integer;

impl Builder {
    pub(super) fn transaction(&mut self, keyword: &str, value: Option<&str>) -> Read<bool> {
        let text = value.unwrap_or_default().trim();
        let asked = match keyword {
            "app-layer-event" => match text {
                "" => return Err(Fault::new("the event's name is missing")),
                name => TransactionTest::Event(name.to_ascii_lowercase()),
            },
            "dcerpc.iface" | "dce_iface" => interface(text)?,
            "dcerpc.opnum" | "dce_opnum" => TransactionTest::Integer(Integer::DcerpcOpnum, numbers(text)?),
            "ssl_version" => tls_versions(text)?,
            "tls.version" => {
                let (_, text) = quoted(text)?;
                let version = tls_version(text).ok_or_else(|| Fault::new(format!("'{text}' is no version")))?;
                TransactionTest::TlsVersion { negated: false, versions: vec![version] }
            }
            "tls_cert_notbefore" => TransactionTest::Integer(Integer::TlsCertNotBefore, vec![dates(text)?]),
            "tls_cert_notafter" => TransactionTest::Integer(Integer::TlsCertNotAfter, vec![dates(text)?]),
            "tls_cert_expired" => TransactionTest::TlsCertificateExpired(true),
            "tls_cert_valid" => TransactionTest::TlsCertificateExpired(false),
            "http2.settings" => setting(text)?,
            "ssl_state" => tls_handshake(text)?,
            "ftpbounce" => TransactionTest::FtpBounce,
            "filename" => {
                let (negated, inside) = quoted(text)?;
                let content = content::bytes(inside)?.into_boxed_slice();
                TransactionTest::FileName { content, nocase: true, negated }
            }
            "fileext" => {
                let (negated, inside) = quoted(text)?;
                let mut content = content::bytes(inside)?;
                content.make_ascii_lowercase();
                TransactionTest::FileExtension { content: content.into_boxed_slice(), negated }
            }
            "filesize" => TransactionTest::FileSize(sizes(text)?),
            "filemd5" => digest(DigestKind::Md5, text)?,
            "filesha1" => digest(DigestKind::Sha1, text)?,
            "filesha256" => digest(DigestKind::Sha256, text)?,
            "app-layer-state" => TransactionTest::State(Comparison::read_with(text, &tls_state)?),
            _ => match Integer::ALL.iter().find(|integer| integer.name() == keyword) {
                Some(&integer) => {
                    let comparison = Comparison::read_with(text, &|word| {
                        named(integer, word).or_else(|| number::unsigned(word).ok())
                    })?;
                    TransactionTest::Integer(integer, vec![comparison])
                }
                None => return Ok(false),
            },
        };
        if self.rule.transaction_tests.len() >= 64 {
            return Err(Fault::new("more than 64 tests of the transaction"));
        }
        self.rule.transaction_tests.push(asked);
        Ok(true)
    }
}

/// `2015`, `>2015-10-22`, `<2015-10-22T23:59:59`, `1998-05-01<>2008-05-01`.
fn dates(text: &str) -> Read<Comparison> {
    let date = |word: &str| date(word.trim()).ok_or_else(|| Fault::new(format!("'{}' is no date", word.trim())));
    if let Some((low, high)) = text.split_once("<>") {
        return match (date(low)?, date(high)?) {
            (low, high) if low < high => Ok(Comparison::Between(low, high)),
            _ => Err(Fault::new("the range is empty")),
        };
    }
    if let Some(later) = text.strip_prefix('>') {
        Ok(Comparison::Greater(date(later)?))
    } else if let Some(earlier) = text.strip_prefix('<') {
        Ok(Comparison::Less(date(earlier)?))
    } else {
        date(text).map(Comparison::Equal)
    }
}

/// Seconds since 1970 of `YYYY[-MM[-DD[THH[:MM[:SS]]]]]`, in UTC.
fn date(word: &str) -> Option<u64> {
    let mut fields = [1970_u64, 1, 1, 0, 0, 0];
    let mut parts = word.split(['-', 'T', ' ', ':']);
    for field in &mut fields {
        match parts.next() {
            Some(part) => *field = number::unsigned(part).ok()?,
            None => break,
        }
    }
    let [year, month, day, hour, minute, second] = fields;
    let sensible = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !sensible || parts.next().is_some() {
        return None;
    }
    // Years are counted from March, so that the leap day comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    // 1970-01-01, counted likewise from the year 0.
    Some((days.checked_sub(719_468)?) * 86_400 + hour * 3600 + minute * 60 + second)
}

fn digest(kind: DigestKind, text: &str) -> Read<TransactionTest> {
    let (negated, file) = quoted(text)?;
    match file {
        "" => Err(Fault::new("the file's name is missing")),
        file => Ok(TransactionTest::FileDigest { kind, negated, file: file.to_owned() }),
    }
}

/// `10`, `>10KB`, `1<>2MB`.
fn sizes(text: &str) -> Read<Comparison> {
    Comparison::read_with(text, &|word| {
        let word = word.trim();
        let split = word.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(word.len());
        let (digits, unit) = word.split_at(split);
        let number = number::unsigned(digits).ok()?;
        let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" | "kib" | "k" => 1 << 10,
            "mb" | "mib" | "m" => 1 << 20,
            "gb" | "gib" | "g" => 1 << 30,
            _ => return None,
        };
        number.checked_mul(factor)
    })
}

/// `1,3-5,>7`: any of them. Ranges include both ends here.
fn numbers(text: &str) -> Read<Vec<Comparison>> {
    let mut found = Vec::new();
    for word in text.split(',').map(str::trim) {
        found.push(match word.split_once('-') {
            Some((low, high)) => {
                let (low, high) = (number::unsigned(low)?, number::unsigned(high)?);
                if low > high {
                    return Err(Fault::new("the range is empty"));
                }
                match low.checked_sub(1) {
                    Some(below) => Comparison::Between(below, high.saturating_add(1)),
                    None => Comparison::AtMost(high),
                }
            }
            None => Comparison::read(word)?,
        });
        if found.len() > 256 {
            return Err(Fault::new("more than 256 numbers"));
        }
    }
    Ok(found)
}

fn interface(text: &str) -> Read<TransactionTest> {
    let mut words = text.split(',').map(str::trim);
    let bad = || Fault::new("expected a UUID");
    let digits = words.next().unwrap_or_default();
    let parts: Vec<&str> = digits.split('-').collect();
    if parts.iter().map(|part| part.len()).ne([8, 4, 4, 4, 12]) {
        return Err(bad());
    }
    let value = u128::from_str_radix(&parts.concat(), 16).map_err(|_| bad())?;
    let (mut version, mut any_fragment) = (None, false);
    for word in words {
        match word {
            "any_frag" => any_fragment = true,
            _ => version = Some(Comparison::read(word)?),
        }
    }
    Ok(TransactionTest::DcerpcInterface { uuid: value.to_be_bytes(), version, any_fragment })
}

/// `SETTINGS_MAX_CONCURRENT_STREAMS`, or with a comparison behind: `SETTINGS_INITIAL_WINDOW_SIZE >10`.
fn setting(text: &str) -> Read<TransactionTest> {
    const NAMES: [&str; 6] = [
        "SETTINGS_HEADER_TABLE_SIZE",
        "SETTINGS_ENABLE_PUSH",
        "SETTINGS_MAX_CONCURRENT_STREAMS",
        "SETTINGS_INITIAL_WINDOW_SIZE",
        "SETTINGS_MAX_FRAME_SIZE",
        "SETTINGS_MAX_HEADER_LIST_SIZE",
    ];
    let (name, rest) = text.split_at(text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len()));
    let number =
        NAMES.iter().zip(1_u64..).find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, number)| number);
    let number = number.ok_or_else(|| Fault::new(format!("'{name}' is no setting")))?;
    // The number is above the 32 bits of the value, so bounds on the value are bounds on both.
    let base = number << 32;
    let every = Comparison::Between(base - 1, base + (1 << 32));
    if rest.trim().is_empty() {
        return Ok(TransactionTest::Integer(Integer::Http2Settings, vec![every]));
    }
    // Values have 32 bits; with larger ones nothing could be compared.
    let value = |word: &str| number::narrow::<u32>(word).ok().map(u64::from);
    let tests = match Comparison::read_with(rest.trim(), &value) {
        Ok(Comparison::Equal(x)) => vec![Comparison::Equal(base + x)],
        Ok(Comparison::NotEqual(x)) => {
            vec![Comparison::Between(base - 1, base + x), Comparison::Between(base + x, base + (1 << 32))]
        }
        Ok(Comparison::Less(x)) => vec![Comparison::Between(base - 1, base + x)],
        Ok(Comparison::AtMost(x)) => vec![Comparison::Between(base - 1, base + x + 1)],
        Ok(Comparison::Greater(x)) => vec![Comparison::Between(base + x, base + (1 << 32))],
        Ok(Comparison::AtLeast(x)) => vec![Comparison::Between((base + x).saturating_sub(1), base + (1 << 32))],
        Ok(Comparison::Between(low, high)) => vec![Comparison::Between(base + low, base + high)],
        Ok(_) => return Err(Fault::new("a setting is compared by <, >, = or a range")),
        Err(fault) => return Err(fault),
    };
    Ok(TransactionTest::Integer(Integer::Http2Settings, tests))
}

fn tls_version(text: &str) -> Option<u16> {
    Some(match text.trim().to_ascii_lowercase().as_str() {
        "sslv2" | "ssl2" => 0x0002,
        "sslv3" | "ssl3" => 0x0300,
        "tls1.0" | "1.0" => 0x0301,
        "tls1.1" | "1.1" => 0x0302,
        "tls1.2" | "1.2" => 0x0303,
        "tls1.3" | "1.3" => 0x0304,
        other => u16::from_str_radix(other.strip_prefix("0x")?, 16).ok()?,
    })
}

fn tls_versions(text: &str) -> Read<TransactionTest> {
    let (mut refused, mut versions) = (Vec::new(), Vec::new());
    for word in text.split(',').map(str::trim) {
        let (list, name) = match word.strip_prefix('!') {
            Some(rest) => (&mut refused, rest),
            None => (&mut versions, word),
        };
        list.push(tls_version(name).ok_or_else(|| Fault::new(format!("'{name}' is no version")))?);
    }
    if refused.is_empty() {
        return Ok(TransactionTest::TlsVersion { negated: false, versions });
    }
    // Any of the words is enough: beside one with '!', a plain one only takes an exception back.
    refused.retain(|version| !versions.contains(version));
    Ok(TransactionTest::TlsVersion { negated: true, versions: refused })
}

/// `client_hello|server_hello`, `!server_keyx`.
fn tls_handshake(text: &str) -> Read<TransactionTest> {
    let (negated, names) = match text.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut reached = Vec::new();
    for name in names.split(['|', ',']).map(str::trim).take(16) {
        reached.push(match name {
            "client_hello" => (Direction::ToServer, Stage::Headers),
            "server_hello" => (Direction::ToClient, Stage::Headers),
            "client_keyx" => (Direction::ToServer, Stage::Complete),
            "server_keyx" => (Direction::ToClient, Stage::Complete),
            _ => return Err(Fault::new(format!("'{name}' is no state"))),
        });
    }
    Ok(TransactionTest::TlsState { negated, reached })
}

/// How far TLS is, in its own words, in the order in which they are reached.
pub(in super::super) fn tls_state(name: &str) -> Option<u64> {
    Some(match name.trim() {
        "client_in_progress" | "server_in_progress" => 0,
        "client_hello_done" | "server_hello" => 1,
        "client_cert_done" | "server_cert_done" => 2,
        "server_hello_done" => 3,
        "client_handshake_done" | "server_handshake_done" => 4,
        "client_finished" | "server_finished" => 5,
        _ => return None,
    })
}

/// Numbers that have names in rules (IANA's registries of DNS and HTTP/2).
fn named(integer: Integer, word: &str) -> Option<u64> {
    let word = word.trim().to_ascii_lowercase();
    let table: &[(&str, u64)] = match integer {
        Integer::DnsOpcode => &[("query", 0), ("iquery", 1), ("status", 2), ("notify", 4), ("update", 5)],
        Integer::DnsRcode => &[
            ("noerror", 0),
            ("formerr", 1),
            ("servfail", 2),
            ("nxdomain", 3),
            ("notimp", 4),
            ("refused", 5),
            ("yxdomain", 6),
            ("yxrrset", 7),
            ("nxrrset", 8),
            ("notauth", 9),
            ("notzone", 10),
        ],
        Integer::DnsRrtype => &[
            ("a", 1),
            ("ns", 2),
            ("cname", 5),
            ("soa", 6),
            ("null", 10),
            ("ptr", 12),
            ("hinfo", 13),
            ("mx", 15),
            ("txt", 16),
            ("aaaa", 28),
            ("srv", 33),
            ("naptr", 35),
            ("opt", 41),
            ("ds", 43),
            ("rrsig", 46),
            ("nsec", 47),
            ("dnskey", 48),
            ("https", 65),
            ("any", 255),
        ],
        Integer::Http2FrameType => &[
            ("data", 0),
            ("headers", 1),
            ("priority", 2),
            ("rst_stream", 3),
            ("rststream", 3),
            ("settings", 4),
            ("push_promise", 5),
            ("ping", 6),
            ("goaway", 7),
            ("window_update", 8),
            ("windowupdate", 8),
            ("continuation", 9),
        ],
        Integer::Http2ErrorCode => &[
            ("no_error", 0),
            ("protocol_error", 1),
            ("internal_error", 2),
            ("flow_control_error", 3),
            ("settings_timeout", 4),
            ("stream_closed", 5),
            ("frame_size_error", 6),
            ("refused_stream", 7),
            ("cancel", 8),
            ("compression_error", 9),
            ("connect_error", 10),
            ("enhance_your_calm", 11),
            ("inadequate_security", 12),
            ("http_1_1_required", 13),
        ],
        Integer::FtpMode => &[("active", 0), ("passive", 1)],
        Integer::FtpReplyReceived => &[("no", 0), ("false", 0), ("off", 0), ("yes", 1), ("true", 1), ("on", 1)],
        Integer::FtpDataCommand => &[("retr", 1), ("stor", 2)],
        _ => &[],
    };
    table.iter().find(|(name, _)| *name == word).map(|&(_, number)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_certificates() {
        assert_eq!(date("1970"), Some(0));
        assert_eq!(date("2024-02-29T12:30:05"), Some(1_709_209_805));
        assert_eq!(date("2024-13"), None);
        assert_eq!(date("soon"), None);
        assert_eq!(dates(">2015-10-22").unwrap(), Comparison::Greater(1_445_472_000));
        assert_eq!(dates("1998-05-01<>2008-05-01").unwrap(), Comparison::Between(893_980_800, 1_209_600_000));
        assert!(dates("2008<>1998").is_err());
    }
}
