//! The matcher against a reference that tries everything.

use std::fmt::Write as _;

use super::*;
use crate::detect::step;
use crate::rules::rule::Step;
use crate::rules::{Variables, read_text};

struct Nothing;

impl Surroundings for Nothing {
    fn data_set(&mut self, _: u16, _: &[u8]) -> bool {
        false
    }
    fn capture(&mut self, _: &Capture, _: &[u8]) {}
    fn entropy(&mut self, _: f64) {}
    fn dce_little_endian(&self) -> bool {
        false
    }
}

fn steps(options: &str) -> Vec<Step> {
    let mut loaded = crate::rules::Loaded::default();
    let text = format!("alert tcp any any -> any any ({options} sid:1;)");
    read_text("t", &text, &Variables::default(), &mut loaded);
    assert!(loaded.problems.is_empty(), "{options}: {:?}", loaded.problems);
    loaded.rules.remove(0).inspections.remove(0).steps
}

fn matches(options: &str, data: &[u8]) -> bool {
    let ready = step::ready(&steps(options), false, &mut |_| Ok(0)).unwrap();
    let mut nothing = Nothing;
    Run::new(data, [0; 32], &mut nothing).matches(&ready)
}

#[test]
fn places_are_as_documented() {
    for (options, data, wanted) in [
        (r#"content:"abc"; depth:3;"#, "abcd", true),
        (r#"content:"abc"; depth:3;"#, "xabc", false),
        (r#"content:"abc"; offset:1; depth:3;"#, "xabc", true),
        (r#"content:"a"; content:"b"; distance:1; within:1;"#, "axb", true),
        (r#"content:"a"; content:"b"; distance:1; within:1;"#, "axxb", false),
        (r#"content:"a"; content:"b"; within:1;"#, "axab", true),
        (r#"content:"B"; nocase; endswith;"#, "ab", true),
        (r#"content:"b"; endswith;"#, "ba", false),
        (r#"content:!"x"; content:"a";"#, "a", true),
        (r#"content:"a"; content:!"b"; within:1;"#, "abac", true),
        (r#"content:"a"; isdataat:2,relative;"#, "abc", true),
        (r#"content:"a"; isdataat:3,relative;"#, "abc", false),
        (r#"content:"a"; isdataat:!1,relative;"#, "ba", true),
        (r"bsize:3;", "abc", true),
        (r#"pcre:"/b+/"; content:"c"; distance:0; within:1;"#, "bxbc", true),
        (r#"content:"a"; pcre:"/^b/R";"#, "ab", true),
        (r#"content:"a"; byte_test:1,=,2,0,relative,string,dec;"#, "a2", true),
        (r#"content:"a"; byte_jump:1,0,relative,string,dec; content:"z"; within:1;"#, "a2xxz", true),
        (r#"byte_extract:1,0,n,string,dec; content:"z"; offset:n; depth:1;"#, "2xz", true),
        (r#"base64_decode; base64_data; content:"foo"; startswith;"#, "Zm9v", true),
    ] {
        assert_eq!(matches(options, data.as_bytes()), wanted, "{options} on {data}");
    }
}

/// Tries every place for every content.
fn reference(steps: &[Step], data: &[u8], position: usize) -> bool {
    let Some((Step::Content(content), rest)) = steps.split_first() else { return true };
    let value = |operand: Option<Operand>, default: i64| match operand {
        Some(Operand::Value(value)) => value,
        _ => default,
    };
    let size = place(data.len());
    let (low, high) = if content.relative() {
        let low = place(position) + value(content.distance, 0);
        (low, if content.within.is_some() { low + value(content.within, 0) } else { size })
    } else if content.startswith {
        (0, place(content.bytes.len()))
    } else {
        let low = value(content.offset, 0);
        (low, if content.depth.is_some() { low + value(content.depth, 0) } else { size })
    };
    let mut places = (0..=data.len()).filter(|&at| {
        let end = at + content.bytes.len();
        data.get(at..end).is_some_and(|part| {
            let same = if content.nocase { part.eq_ignore_ascii_case(&content.bytes) } else { *part == *content.bytes };
            same && place(at) >= low && place(end) <= high && (!content.endswith || end == data.len())
        })
    });
    if content.negated {
        return places.next().is_none() && reference(rest, data, position);
    }
    places.any(|at| reference(rest, data, at + content.bytes.len()))
}

#[test]
fn random_contents_agree_with_the_reference() {
    let mut seed = 42_u32;
    let mut next = |below: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 12) % below
    };
    let mut hits = 0;
    for round in 0..30_000 {
        let data: Vec<u8> = (0..next(14)).map(|_| b"aAbB"[next(4) as usize]).collect();
        let mut options = String::new();
        for at in 0..=next(4) {
            let len = 1 + next(2);
            let text: String = (0..len).map(|_| char::from(b"aAbB"[next(4) as usize])).collect();
            let negated = if next(5) == 0 { "!" } else { "" };
            let _ = write!(options, "content:{negated}\"{text}\";");
            let place = match next(6) {
                0 if at > 0 => format!("distance:{};", i64::from(next(5)) - 2),
                1 if at > 0 => format!("within:{};", len + next(4)),
                2 if at > 0 => format!("distance:{}; within:{};", i64::from(next(5)) - 2, len + next(4)),
                3 => format!("offset:{}; depth:{};", next(5), len + next(5)),
                4 => "startswith;".to_owned(),
                _ => String::new(),
            };
            options.push_str(&place);
            if next(3) == 0 {
                options.push_str("nocase;");
            }
            if next(8) == 0 {
                options.push_str("endswith;");
            }
        }
        let steps = steps(&options);
        let wanted = reference(&steps, &data, 0);
        hits += u32::from(wanted);
        assert_eq!(
            matches(&options, &data),
            wanted,
            "round {round}: {options} on {:?}",
            String::from_utf8_lossy(&data)
        );
    }
    assert!(hits > 1000, "{hits} matches are too few to tell anything");
}

#[test]
fn work_is_bounded() {
    let data = vec![b'a'; 100_000];
    let options: String = (0..20).map(|_| "content:\"a\"; distance:0;").chain(["content:\"b\"; distance:0;"]).collect();
    let ready = step::ready(&steps(&options), false, &mut |_| Ok(0)).unwrap();
    let mut nothing = Nothing;
    let mut run = Run::new(&data, [0; 32], &mut nothing);
    assert!(!run.matches(&ready));
    assert!(run.cut);
}
