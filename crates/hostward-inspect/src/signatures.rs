//! Signatures as the agent sends them, compiled, each with the sets of profiles that it belongs to.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use hostward_ids::detect::BuildOptions;
use hostward_ids::detect::Detector;
use hostward_ids::engine::Settings;
use hostward_ids::rules;
use hostward_ids::rules::Rule;
use hostward_ids::rules::Variables;
use hostward_ids::rules::classification;

use crate::control::Profile;
use crate::control::Rules;

/// What became of an order to load.
pub struct Loaded {
    /// The signatures.
    pub detector: Arc<Detector>,
    /// How the engine works.
    pub settings: Settings,
    /// Those that were left out: file, line, keyword, why.
    pub problems: Vec<String>,
    /// How long it took.
    pub milliseconds: u64,
}

/// Reads and compiles. Compiled databases are kept in the working folder.
///
/// # Errors
/// A setting that there is not, or the matcher refuses the whole.
pub fn load(order: &Rules) -> Result<Loaded, String> {
    let began = Instant::now();
    let mut settings = Settings::default();
    // Whoever is inspected from now on may have talked before; and what a signature drops is dropped.
    for (key, value) in [
        ("stream.midstream", "answered"),
        ("simulate-ips", "true"),
        ("stream.bypass", "true"),
        // What the engine has no memory for is a tenant's choice in the datapath, not here.
        ("exception-policy", "ignore"),
    ] {
        settings.set(key, value).map_err(|error| error.to_string())?;
    }
    for (key, value) in &order.settings {
        settings.set(key, value).map_err(|error| error.to_string())?;
    }
    let variables = variables(order);
    let mut loaded = rules::Loaded::default();
    for file in &order.files {
        rules::read_text(&file.name, &file.text, &variables, &mut loaded);
    }
    let masks: HashMap<(u32, u32), u64> =
        loaded.rules.iter().map(|rule| ((rule.gid, rule.sid), mask_of(rule, order))).collect();
    let read = |name: &str| {
        order.data.get(name).map(|text| text.clone().into_bytes()).ok_or_else(|| io::ErrorKind::NotFound.into())
    };
    let options = BuildOptions { variables, cache_folder: Some(PathBuf::from(".")), read: &read };
    let (mut detector, problems) = Detector::build(loaded.rules, &options).map_err(|error| error.to_string())?;
    for index in 0..u32::try_from(detector.len()).unwrap_or(u32::MAX) {
        let Some(signature) = detector.signature(index) else { break };
        let mask = masks.get(&(signature.gid, signature.id)).copied().unwrap_or_default();
        detector.set_profiles(index, mask);
    }
    Ok(Loaded {
        detector: Arc::new(detector),
        settings,
        problems: loaded.problems.iter().chain(&problems).map(ToString::to_string).collect(),
        milliseconds: began.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
    })
}

fn variables(order: &Rules) -> Variables {
    let mut variables = Variables::default();
    for (name, value) in &order.variables {
        if name.ends_with("_PORTS") || name.ends_with("_PORT") {
            variables.set_ports(name, value);
        } else {
            variables.set_addresses(name, value);
        }
    }
    variables
}

/// The sets that a rule belongs to, a bit each.
fn mask_of(rule: &Rule, order: &Rules) -> u64 {
    let mut mask = 0;
    for (number, names) in &order.sets {
        // A profile that nobody described has every signature.
        let within = |name: &String| order.profiles.get(name).is_none_or(|profile| has(profile, rule));
        if (1..64).contains(number) && names.iter().any(within) {
            mask |= 1 << number;
        }
    }
    mask
}

fn has(profile: &Profile, rule: &Rule) -> bool {
    if profile.except.contains(&rule.sid) {
        return false;
    }
    if profile.signatures.contains(&rule.sid) {
        return true;
    }
    if profile.files.is_empty() && profile.classtypes.is_empty() {
        return profile.signatures.is_empty();
    }
    let file = profile.files.is_empty() || profile.files.iter().any(|pattern| fits(pattern, &rule.place.0));
    let class = profile.classtypes.is_empty()
        || profile
            .classtypes
            .iter()
            .any(|name| classification::find(name).is_some_and(|(category, _)| category == rule.category));
    file && class
}

/// Whether a name is as a pattern says, in which `*` stands for any characters. Takes time by the product of lengths.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(first) = parts.next() else { return name.is_empty() };
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::RuleText;

    fn order(profiles: &[(&str, Profile)], sets: &[(u8, &[&str])]) -> Rules {
        let text = "alert tcp any any -> any any (msg:\"a\"; content:\"attack\"; classtype:web-application-attack; sid:1;)\n\
                    alert tcp any any -> any any (msg:\"b\"; content:\"other\"; classtype:trojan-activity; sid:2;)\n";
        Rules {
            files: vec![RuleText { name: "web.rules".into(), text: text.into() }],
            profiles: profiles.iter().map(|(name, profile)| ((*name).into(), profile.clone())).collect(),
            sets: sets.iter().map(|(n, names)| (*n, names.iter().map(ToString::to_string).collect())).collect(),
            ..Rules::default()
        }
    }

    fn masks(order: &Rules) -> Vec<u64> {
        let mut loaded = rules::Loaded::default();
        rules::read_text(&order.files[0].name, &order.files[0].text, &variables(order), &mut loaded);
        loaded.rules.iter().map(|rule| mask_of(rule, order)).collect()
    }

    #[test]
    fn a_profile_that_nobody_described_has_every_signature() {
        assert_eq!(masks(&order(&[], &[(1, &["all"])])), [2, 2]);
    }

    #[test]
    fn class_types_files_numbers_and_exceptions() {
        let web = Profile { classtypes: vec!["web-application-attack".into()], ..Profile::default() };
        let file = Profile { files: vec!["w*.rules".into()], except: vec![1], ..Profile::default() };
        let none = Profile { files: vec!["x*".into()], signatures: vec![2], ..Profile::default() };
        let order =
            order(&[("web", web), ("file", file), ("none", none)], &[(1, &["web"]), (2, &["file"]), (3, &["none"])]);
        assert_eq!(masks(&order), [2, 4 | 8]);
    }

    #[test]
    fn a_set_of_profiles_has_what_any_of_them_has() {
        let one = Profile { signatures: vec![1], ..Profile::default() };
        let two = Profile { signatures: vec![2], ..Profile::default() };
        assert_eq!(masks(&order(&[("one", one), ("two", two)], &[(1, &["one"]), (5, &["one", "two"])])), [2 | 32, 32]);
    }

    #[test]
    fn patterns() {
        for (pattern, name, fit) in [
            ("*", "", true),
            ("web.rules", "web.rules", true),
            ("web*", "web.rules", true),
            ("*.rules", "web.rules", true),
            ("w*b*s", "web.rules", true),
            ("web", "web.rules", false),
            ("*x*", "web.rules", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(fits(pattern, name), fit, "{pattern} {name}");
        }
    }
}
