//! Files of rules, line by line.

use std::collections::HashMap;
use std::sync::Arc;

use super::address::{Addresses, Ports};
use super::header::{self, Arrow, Header, Layer, RuleAction};
use super::keyword::Builder;
use super::rule::Rule;
use super::variables::Variables;
use super::{Fault, Problem, RULE_LEN, Read, classification, option};

/// What came of reading.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Those that were understood, in the order they were read.
    pub rules: Vec<Rule>,
    /// What was not.
    pub problems: Vec<Problem>,
    known: HashMap<(u32, u32), usize>,
}

impl Loaded {
    /// Adds a rule. Of two with the same number the one with the higher revision stays, the later of equals is refused.
    fn add(&mut self, rule: Rule, at: (&str, usize)) {
        let key = (rule.gid, rule.sid);
        match self.known.get(&key) {
            Some(&earlier) if self.rules[earlier].rev >= rule.rev => self.problems.push(Problem {
                file: at.0.to_owned(),
                line: at.1,
                sid: Some(rule.sid),
                keyword: Some("sid".into()),
                reason: "another rule with this number is already loaded".into(),
            }),
            Some(&earlier) => self.rules[earlier] = rule,
            None => {
                self.known.insert(key, self.rules.len());
                self.rules.push(rule);
            }
        }
    }
}

/// A rule that says nothing yet.
pub(super) fn blank() -> Rule {
    Rule {
        header: Header {
            action: RuleAction::Alert,
            layer: Layer::Ip,
            hook: None,
            source: Addresses::Any,
            source_ports: Ports::Any,
            arrow: Arrow::Right,
            destination: Addresses::Any,
            destination_ports: Ports::Any,
        },
        gid: 1,
        sid: 0,
        rev: 0,
        message: String::new(),
        category: String::new(),
        priority: classification::DEFAULT_PRIORITY as u8,
        references: Vec::new(),
        metadata: Vec::new(),
        target_is_source: None,
        direction: None,
        establishment: None,
        stream_only: None,
        stateless: false,
        inspections: Vec::new(),
        packet_tests: Vec::new(),
        flow_tests: Vec::new(),
        transaction_tests: Vec::new(),
        effects: Vec::new(),
        threshold: None,
        no_alert: false,
        alert_anyway: false,
        variables: 0,
        place: (Arc::from(""), 0),
    }
}

/// Reads one rule.
///
/// # Errors
/// What is wrong with it.
pub fn read_rule(text: &str, variables: &Variables) -> Read<Rule> {
    let text = text.trim();
    if text.len() > RULE_LEN {
        return Err(Fault::new(format!("longer than {RULE_LEN} bytes")));
    }
    let (head, body) = text.split_once('(').ok_or_else(|| Fault::new("'(' is missing"))?;
    let body = body.strip_suffix(')').ok_or_else(|| Fault::new("')' at the end is missing"))?;
    let mut builder = Builder::new(Rule { header: header::read(head, variables)?, ..blank() });
    for option in option::split(body)? {
        builder.add(option)?;
    }
    builder.finish()
}

/// The number of a rule that could not be read, for the message.
fn guess_sid(text: &str) -> Option<u32> {
    let (_, rest) = text.rsplit_once("sid:")?;
    rest.trim_start().split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Reads the rules of a text into `loaded`. A line that ends in a backslash goes on in the next one; `#` begins a comment.
pub fn read_text(file: &str, text: &str, variables: &Variables, loaded: &mut Loaded) {
    let name: Arc<str> = Arc::from(file);
    let mut joined = String::new();
    let mut first = 0;
    for (number, line) in text.lines().enumerate() {
        if joined.is_empty() {
            first = number + 1;
        }
        let trimmed = line.trim();
        if joined.is_empty() && (trimmed.is_empty() || trimmed.starts_with('#')) {
            continue;
        }
        if let Some(part) = trimmed.strip_suffix('\\')
            && joined.len() <= RULE_LEN
        {
            joined.push_str(part);
            joined.push(' ');
            continue;
        }
        let whole = if joined.is_empty() {
            std::borrow::Cow::Borrowed(trimmed)
        } else {
            joined.push_str(trimmed);
            std::borrow::Cow::Owned(std::mem::take(&mut joined))
        };
        take(&name, first, &whole, variables, loaded);
    }
    if !joined.is_empty() {
        take(&name, first, &joined, variables, loaded);
    }
}

fn take(name: &Arc<str>, line: usize, text: &str, variables: &Variables, loaded: &mut Loaded) {
    match read_rule(text, variables) {
        Ok(mut rule) => {
            rule.place = (name.clone(), line);
            loaded.add(rule, (name, line));
        }
        Err(fault) => loaded.problems.push(Problem {
            file: name.to_string(),
            line,
            sid: guess_sid(text),
            keyword: fault.keyword,
            reason: fault.reason,
        }),
    }
}

/// Reads the rules of a file into `loaded`. Bytes that are no UTF-8 are replaced: nothing but messages may hold them.
///
/// # Errors
/// The file cannot be read.
pub fn read_file(path: &std::path::Path, variables: &Variables, loaded: &mut Loaded) -> std::io::Result<()> {
    let bytes = std::fs::read(path)?;
    read_text(&path.display().to_string(), &String::from_utf8_lossy(&bytes), variables, loaded);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::buffer::Buffer;
    use crate::rules::{Step, Target};

    fn rule(text: &str) -> Rule {
        read_rule(text, &Variables::default()).unwrap_or_else(|fault| panic!("{text}: {fault:?}"))
    }

    #[test]
    fn modifiers_of_old_move_their_content() {
        let old = rule(
            r#"alert http any any -> any any (content:"GET"; http_method; content:"/x"; nocase; http_uri; sid:1;)"#,
        );
        let new = rule(
            r#"alert http any any -> any any (http.method; content:"GET"; http.uri; content:"/x"; nocase; sid:1;)"#,
        );
        assert_eq!(old.inspections, new.inspections);
    }

    #[test]
    fn transforms_after_content_begin_anew() {
        let rule = rule(
            r#"alert http any any -> any any (http.uri; content:"a"; http.uri; pcrexform:"x"; xor:"0d"; content:"b"; sid:1;)"#,
        );
        assert_eq!(rule.inspections.len(), 2);
        assert_eq!(rule.inspections[1].transforms.len(), 2);
        assert!(rule.inspections.iter().all(|i| i.target == Target::Buffer(Buffer::HttpUri)));
        assert!(matches!(rule.inspections[1].steps[..], [Step::Content(_)]));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let mut loaded = Loaded::default();
        let text = "# no rule\nalert tcp any any -> any any (msg:\"x\"; \\\n nope:1; sid:7;)\n\
            alert tcp any any -> any any (sid:8; rev:2;)\nalert tcp any any -> any any (sid:8; rev:2;)\n";
        read_text("f.rules", text, &Variables::default(), &mut loaded);
        assert_eq!(loaded.rules.len(), 1);
        assert_eq!(loaded.problems[0].to_string(), "f.rules:2: sid 7: nope: this keyword is not known");
        assert_eq!((loaded.problems[1].line, loaded.problems[1].sid), (5, Some(8)));
    }

    #[test]
    fn every_kind_of_option_is_read() {
        for options in [
            "flow:to_server,established;",
            "flowbits:isset,a|b; flowbits:set,c; flowint:n,+,1; flowint:n,>,2; hostbits:set,x,dst;",
            "xbits:isset,y,track ip_pair,expire 10;",
            "threshold:type backoff, track by_flow, count 1, multiplier 10;",
            "detection_filter:track by_src, count 5, seconds 60;",
            "itype:7<>20; icode:!0; ttl:<10; dsize:>5; flags:S,12; fragbits:M; ip_proto:!tcp; ipopts:rr;",
            "dcerpc.iface:367abb81-9844-35f1-ad32-98f038001003,>1,any_frag; dcerpc.opnum:1,3-5;",
            "ssl_state:client_hello|server_hello; ssh.softwareversion:\"x\";",
            "http.uri; pcrexform:\"a=(.*)\"; xor:\"0d\"; from_base64:offset 6, mode strict; content:\"b\";",
            "file.data; entropy:value > 4; filemd5:list; filename:\"a.exe\"; fileext:\"exe\"; filesize:>1KB;",
            "http.host; dataset:isset,bad,type string,load host.lst,format json,value_key host,array_key a.b;",
            "byte_extract:1,0,n,relative; byte_math:bytes 1, offset 0, oper +, rvalue n, result m; byte_test:1,!&,m,0;",
            "app-layer-protocol:!http,final; app-layer-event:http.gzip_bomb; stream_size:server,<,6; tag:session,5,packets;",
            "requires: version >= 7.0 < 9, keyword bsize; reference:cve,2014-0160; metadata:a b, c d; target:src_ip;",
        ] {
            rule(&format!("alert tcp any any -> any any ({options} sid:1;)"));
        }
    }

    #[test]
    fn broken_text_is_refused_without_a_panic() {
        let whole = r#"alert http [1.1.1.1,!$HOME_NET] any -> any ![80,443] (msg:"a\;b"; content:"|41|x"; depth:9; http_uri; pcre:"/a/Ui"; byte_test:2,>,5,0,relative; flowbits:set,x; threshold:type limit,track by_src,count 1,seconds 2; sid:1; rev:2;)"#;
        let mut seed = 1_u32;
        for _ in 0..20_000 {
            let mut bytes = whole.as_bytes().to_vec();
            for _ in 0..3 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (seed >> 8) as usize % bytes.len();
                match seed & 3 {
                    0 => bytes[at] = (seed >> 24) as u8,
                    1 => drop(bytes.remove(at)),
                    2 => bytes.insert(at, b"\\;:\"|!,[]()$ "[(seed >> 16) as usize % 13]),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            let _ = read_rule(&String::from_utf8_lossy(&bytes), &Variables::default());
        }
    }
}
