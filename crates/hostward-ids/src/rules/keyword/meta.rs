//! Keywords that say what a rule is rather than what it looks for.

use super::super::option::{quoted, unescape};
use super::super::test::{Effect, Tag, TagUnit, Threshold, ThresholdKind, Track};
use super::super::{Fault, Read, classification, number};
use super::Builder;

/// Keywords that `requires` may ask for; the version of Suricata whose language is spoken.
const VERSION: (u32, u32, u32) = (8, 0, 0);

impl Builder {
    pub(super) fn meta(&mut self, keyword: &str, value: Option<&str>) -> Read<bool> {
        let text = value.unwrap_or_default();
        match keyword {
            "msg" => self.rule.message = unescape(quoted(text)?.1),
            "sid" => {
                self.rule.sid = number::narrow(unquoted(text))?;
                if self.rule.sid == 0 {
                    return Err(Fault::new("0 is no number of a rule"));
                }
                self.has_sid = true;
            }
            "gid" => self.rule.gid = number::narrow(unquoted(text))?,
            "rev" => self.rule.rev = number::narrow(unquoted(text))?,
            "priority" => {
                let priority: u8 = number::narrow(unquoted(text))?;
                if priority == 0 {
                    return Err(Fault::new("priorities begin at 1"));
                }
                self.rule.priority = priority;
                self.priority_written = true;
            }
            "classtype" => {
                let (about, priority) = classification::find(text)
                    .map_or_else(|| (text.to_owned(), classification::DEFAULT_PRIORITY), |(a, p)| (a.to_owned(), p));
                self.rule.category = about;
                if !self.priority_written {
                    self.rule.priority = u8::try_from(priority).unwrap_or(u8::MAX);
                }
            }
            "reference" => {
                let (scheme, content) = text.split_once(',').ok_or_else(|| Fault::new("expected scheme,reference"))?;
                if self.rule.references.len() < 64 {
                    let scheme = scheme.trim().to_ascii_lowercase();
                    self.rule.references.push((scheme, unescape(content.trim())));
                }
            }
            "metadata" => {
                for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
                    let (key, value) = pair.split_once(char::is_whitespace).unwrap_or((pair, ""));
                    if self.rule.metadata.len() < 256 {
                        self.rule.metadata.push((unescape(key), unescape(value.trim())));
                    }
                }
            }
            "target" => {
                self.rule.target_is_source = Some(match text {
                    "src_ip" => true,
                    "dest_ip" => false,
                    _ => return Err(Fault::new("expected src_ip or dest_ip")),
                });
            }
            "noalert" => self.rule.no_alert = true,
            "alert" => self.rule.alert_anyway = true,
            "requires" => self.requires_failed = requires(text),
            "threshold" | "detection_filter" => {
                let threshold = threshold(text, keyword == "detection_filter")?;
                if self.rule.threshold.replace(threshold).is_some() {
                    return Err(Fault::new("the rule has one already"));
                }
            }
            "tag" => self.rule.effects.push(Effect::Tag(tag(text)?)),
            "bypass" => self.rule.effects.push(Effect::Bypass),
            "filestore" => self.rule.effects.push(Effect::StoreFile),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn unquoted(text: &str) -> &str {
    text.trim().trim_matches('"')
}

/// Why a rule is not for this engine, if it is not.
fn requires(text: &str) -> Option<String> {
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let (key, rest) = word.split_once(char::is_whitespace).unwrap_or((word, ""));
        let rest = rest.trim();
        match key {
            "version" => {
                let met = rest.split('|').any(|alternative| version_met(alternative) == Some(true));
                if !met {
                    return Some(format!("version {rest} is asked for"));
                }
            }
            "keyword" => {
                if !known(rest) {
                    return Some(format!("the keyword {rest} is asked for"));
                }
            }
            "feature" => return Some(format!("the feature {rest} is asked for")),
            _ => return Some(format!("'{key}' is asked for")),
        }
    }
    None
}

fn version_met(alternative: &str) -> Option<bool> {
    let mut all = true;
    // An operator may stand apart from its version.
    let joined = [">= ", "<= ", "> ", "< ", "= "]
        .iter()
        .fold(alternative.to_owned(), |text, operator| text.replace(operator, operator.trim_end()));
    for part in joined.split_whitespace() {
        let (operator, version) = part.split_at(part.find(|c: char| c.is_ascii_digit())?);
        let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
        let wanted =
            (numbers.next().flatten()?, numbers.next().unwrap_or(Some(0))?, numbers.next().unwrap_or(Some(0))?);
        all &= match operator.trim() {
            ">=" => VERSION >= wanted,
            ">" => VERSION > wanted,
            "<=" => VERSION <= wanted,
            "<" => VERSION < wanted,
            "" | "=" | "==" => VERSION == wanted,
            _ => return None,
        };
    }
    Some(all)
}

/// Whether a keyword is understood: it is, unless reading it says that it is not known.
fn known(keyword: &str) -> bool {
    let mut builder = Builder::new(super::super::reader::blank());
    !matches!(builder.dispatch(keyword, None), Err(fault) if fault.reason.ends_with("is not known")
        || fault.reason.starts_with("scripts"))
}

fn threshold(text: &str, filter: bool) -> Read<Threshold> {
    let (mut kind, mut track, mut count, mut seconds, mut multiplier) = (None, None, None, None, None);
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let (key, rest) = word.split_once(char::is_whitespace).unwrap_or((word, ""));
        let rest = rest.trim();
        match key {
            "type" => kind = Some(rest),
            "track" => {
                track = Some(match rest {
                    "by_src" => Track::Source,
                    "by_dst" => Track::Destination,
                    "by_both" => Track::Both,
                    "by_rule" => Track::Rule,
                    "by_flow" => Track::Flow,
                    _ => return Err(Fault::new(format!("cannot track '{rest}'"))),
                });
            }
            "count" => count = Some(number::narrow::<u32>(rest)?),
            "seconds" => seconds = Some(number::narrow::<u32>(rest)?),
            "multiplier" => multiplier = Some(number::narrow::<u32>(rest)?),
            _ => return Err(Fault::new(format!("'{word}' is not understood"))),
        }
    }
    let missing = |what: &str| Fault::new(format!("{what} is missing"));
    let kind = match (kind, filter) {
        (None, true) => ThresholdKind::Filter,
        (Some("limit"), false) => ThresholdKind::Limit,
        (Some("threshold"), false) => ThresholdKind::Threshold,
        (Some("both"), false) => ThresholdKind::Both,
        (Some("backoff"), false) => {
            let multiplier = multiplier.filter(|&number| number > 1).ok_or_else(|| missing("multiplier"))?;
            ThresholdKind::Backoff { multiplier }
        }
        (kind, _) => return Err(Fault::new(format!("'{}' is no type", kind.unwrap_or_default()))),
    };
    let seconds = match kind {
        ThresholdKind::Backoff { .. } => seconds.unwrap_or(0),
        _ => seconds.ok_or_else(|| missing("seconds"))?,
    };
    Ok(Threshold {
        kind,
        track: track.ok_or_else(|| missing("track"))?,
        count: count.filter(|&count| count > 0).ok_or_else(|| missing("count"))?,
        seconds,
    })
}

fn tag(text: &str) -> Read<Tag> {
    let mut words = text.split(',').map(str::trim);
    let host = match words.next() {
        Some("session" | "") => false,
        Some("host") => true,
        other => return Err(Fault::new(format!("'{}' is not understood", other.unwrap_or_default()))),
    };
    let mut tag = Tag { host, destination: false, count: 0, unit: TagUnit::Packets };
    if let Some(count) = words.next() {
        tag.count = number::narrow(count)?;
    }
    if let Some(unit) = words.next() {
        tag.unit = match unit {
            "packets" => TagUnit::Packets,
            "bytes" => TagUnit::Bytes,
            "seconds" => TagUnit::Seconds,
            _ => return Err(Fault::new(format!("'{unit}' is no unit"))),
        };
    }
    match words.next() {
        None | Some("src") => {}
        Some("dst") => tag.destination = true,
        Some(other) => return Err(Fault::new(format!("'{other}' is not understood"))),
    }
    Ok(tag)
}
