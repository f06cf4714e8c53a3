//! Options become parts of a rule, one by one in the order they are written.

mod buffer;
mod entropy;
mod flow;
mod meta;
mod packet;
mod transaction;

use super::byte::{self, Names};
use super::content::{self, Content};
use super::option::RuleOption;
use super::rule::{Absent, Inspection, Rule, Step, Target};
use super::transform::{self, Transform};
use super::{Fault, RULE_STEPS, Read, dataset, number, pattern};
use crate::app::buffer::Buffer;

/// A rule in the making.
#[allow(clippy::struct_excessive_bools)] // Each is a fact of its own.
pub(super) struct Builder {
    pub rule: Rule,
    names: Names,
    /// The sticky buffer, and what was transformed since it was named.
    target: Target,
    transforms: Vec<Transform>,
    /// Whether an option already looked into the sticky buffer as it is transformed now.
    used: bool,
    /// Whether the next option begins a further instance of a buffer that can be there several times.
    fresh: bool,
    /// The last content: which inspection, which step.
    last: Option<(usize, usize)>,
    /// Where an option with no relation was put last, for those that follow a relative `pcre` or `byte_jump`.
    steps: usize,
    requires_failed: Option<String>,
    has_sid: bool,
    priority_written: bool,
}

impl Builder {
    pub fn new(rule: Rule) -> Self {
        Self {
            rule,
            names: Names::default(),
            target: Target::Payload,
            transforms: Vec::new(),
            used: false,
            fresh: false,
            last: None,
            steps: 0,
            requires_failed: None,
            has_sid: false,
            priority_written: false,
        }
    }

    /// Takes one option.
    pub fn add(&mut self, option: RuleOption<'_>) -> Read<()> {
        let keyword = option.keyword.to_ascii_lowercase();
        self.dispatch(&keyword, option.value).map_err(|fault| fault.at(option.keyword))
    }

    fn dispatch(&mut self, keyword: &str, value: Option<&str>) -> Read<()> {
        if self.content_option(keyword, value)?
            || self.modifier(keyword, value)?
            || self.sticky(keyword, value)?
            || self.meta(keyword, value)?
            || self.flow(keyword, value)?
            || self.packet(keyword, value)?
            || self.transaction(keyword, value)?
        {
            return Ok(());
        }
        if let Some(transform) = transform::read(keyword, value)? {
            return self.transform(transform);
        }
        Err(Fault::new(match keyword {
            "lua" | "luajit" => "scripts are not run",
            _ => "this keyword is not known",
        }))
    }

    /// What names a buffer's contents.
    fn content_option(&mut self, keyword: &str, value: Option<&str>) -> Read<bool> {
        let text = value.unwrap_or_default();
        match keyword {
            "content" | "uricontent" => {
                let content = content::read(text)?;
                if keyword == "uricontent" {
                    let at = self.inspection(Target::Buffer(Buffer::HttpUri), &[], false)?;
                    self.push_at(at, Step::Content(content))?;
                } else {
                    self.push(Step::Content(content))?;
                }
            }
            "rawbytes" | "prefilter" => {}
            "pcre" => {
                let (pattern, buffer) = pattern::read(text)?;
                match buffer {
                    Some(buffer) => {
                        let at = self.inspection(Target::Buffer(buffer), &[], false)?;
                        self.push_at(at, Step::Pattern(pattern))?;
                    }
                    None => self.push_related(pattern.relative, Step::Pattern(pattern))?,
                }
            }
            "byte_test" => {
                let wanted = byte::test(text, &self.names)?;
                self.push_related(wanted.field.relative, Step::ByteTest(wanted))?;
            }
            "byte_jump" => {
                let jump = byte::jump(text, &self.names)?;
                self.push_related(jump.field.relative, Step::ByteJump(jump))?;
            }
            "byte_extract" => {
                let extract = byte::extract(text, &mut self.names)?;
                self.push_related(extract.field.relative, Step::ByteExtract(extract))?;
            }
            "byte_math" => {
                let math = byte::math(text, &mut self.names)?;
                self.push_related(math.field.relative, Step::ByteMath(math))?;
            }
            "isdataat" => {
                let at = byte::data_at(text, &self.names)?;
                self.push_related(at.relative, Step::DataAt(at))?;
            }
            "bsize" => self.push(Step::Size(number::Comparison::read(text)?))?,
            "urilen" => self.uri_len(text)?,
            "dataset" => self.push(Step::DataSet(dataset::read(text)?))?,
            "entropy" => self.push(Step::Entropy(entropy::read(text)?))?,
            "base64_decode" => {
                let decode = transform::base64_decode(value, &self.names)?;
                self.push_related(true, Step::Base64Decode(decode))?;
            }
            "base64_data" => {
                let at =
                    self.rule.inspections.iter().rposition(|inspection| {
                        inspection.steps.iter().any(|step| matches!(step, Step::Base64Decode(_)))
                    });
                let at = at.ok_or_else(|| Fault::new("no base64_decode before it"))?;
                self.target = self.rule.inspections[at].target;
                self.transforms.clone_from(&self.rule.inspections[at].transforms);
                self.used = true;
                self.fresh = false;
                self.push_at(at, Step::Base64Data)?;
            }
            "absent" => {
                let absent = match value {
                    None => Absent::Only,
                    Some("or_else") => Absent::OrElse,
                    Some(other) => return Err(Fault::new(format!("'{other}' is not understood"))),
                };
                if !matches!(self.target, Target::Buffer(_)) {
                    return Err(Fault::new("no buffer of a transaction before it"));
                }
                let at = self.current()?;
                self.rule.inspections[at].absent = Some(absent);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What says where the last content has to be, and how it is compared.
    fn modifier(&mut self, keyword: &str, value: Option<&str>) -> Read<bool> {
        let text = value.unwrap_or_default();
        match keyword {
            "nocase" => self.modify(|content| {
                content.nocase = true;
                content.bytes.make_ascii_lowercase();
                Ok(())
            })?,
            "offset" => {
                let operand = self.names.operand(text)?;
                self.modify(|content| once(&mut content.offset, operand))?;
            }
            "depth" => {
                let operand = self.names.operand(text)?;
                self.modify(|content| once(&mut content.depth, operand))?;
            }
            "distance" => {
                let operand = self.names.operand(text)?;
                self.modify(|content| once(&mut content.distance, operand))?;
            }
            "within" => {
                let operand = self.names.operand(text)?;
                self.modify(|content| once(&mut content.within, operand))?;
            }
            "startswith" => self.modify(|content| {
                content.startswith = true;
                Ok(())
            })?,
            "endswith" => self.modify(|content| {
                content.endswith = true;
                Ok(())
            })?,
            "fast_pattern" => {
                let fast = content::fast_pattern(value)?;
                self.modify(|content| {
                    if let Some((offset, len)) = fast.chop
                        && usize::from(offset) + usize::from(len) > content.bytes.len()
                    {
                        return Err(Fault::new("that part lies outside of the content"));
                    }
                    content.fast_pattern = Some(fast);
                    Ok(())
                })?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn uri_len(&mut self, text: &str) -> Read<()> {
        let (comparison, form) = text.rsplit_once(',').unwrap_or((text, "norm"));
        let buffer = match form.trim() {
            "norm" => Buffer::HttpUri,
            "raw" => Buffer::HttpRawUri,
            other => return Err(Fault::new(format!("'{other}' is not understood"))),
        };
        let at = self.inspection(Target::Buffer(buffer), &[], false)?;
        let last = self.last;
        self.push_at(at, Step::Size(number::Comparison::read(comparison)?))?;
        self.last = last;
        Ok(())
    }

    /// Puts a step into the sticky buffer.
    fn push(&mut self, step: Step) -> Read<()> {
        let at = self.current()?;
        self.push_at(at, step)
    }

    /// Puts a step that is relative where the last one stands if no sticky buffer is named: `isdataat:…,relative` after
    /// a content that a modifier of old moved to its buffer belongs to that buffer.
    fn push_related(&mut self, relative: bool, step: Step) -> Read<()> {
        match self.last {
            Some((at, _)) if relative && self.target == Target::Payload => self.push_at(at, step),
            _ => self.push(step),
        }
    }

    fn push_at(&mut self, at: usize, step: Step) -> Read<()> {
        self.steps += 1;
        if self.steps > RULE_STEPS {
            return Err(Fault::new(format!("more than {RULE_STEPS} of them in one rule")));
        }
        let steps = &mut self.rule.inspections[at].steps;
        steps.push(step);
        self.last = Some((at, steps.len() - 1));
        Ok(())
    }

    /// The inspection of the sticky buffer as it is transformed now.
    fn current(&mut self) -> Read<usize> {
        let (target, fresh) = (self.target, self.fresh);
        let transforms = self.transforms.clone();
        self.used = true;
        self.fresh = false;
        self.inspection(target, &transforms, fresh)
    }

    /// The inspection of a buffer, a new one if there is none yet.
    fn inspection(&mut self, target: Target, transforms: &[Transform], fresh: bool) -> Read<usize> {
        let inspections = &mut self.rule.inspections;
        if !fresh
            && let Some(at) = inspections
                .iter()
                .rposition(|inspection| inspection.target == target && inspection.transforms == transforms)
        {
            return Ok(at);
        }
        if inspections.len() >= 64 {
            return Err(Fault::new("more than 64 buffers in one rule"));
        }
        inspections.push(Inspection { target, transforms: transforms.to_vec(), steps: Vec::new(), absent: None });
        Ok(inspections.len() - 1)
    }

    fn transform(&mut self, transform: Transform) -> Read<()> {
        if self.target == Target::Payload {
            return Err(Fault::new("no buffer is named before it"));
        }
        if self.used {
            self.transforms.clear();
            self.used = false;
        }
        if self.transforms.len() >= 16 {
            return Err(Fault::new("more than 16 transforms"));
        }
        self.transforms.push(transform);
        Ok(())
    }

    /// Changes the last content.
    fn modify(&mut self, change: impl FnOnce(&mut Content) -> Read<()>) -> Read<()> {
        let content = self.last.and_then(|(at, step)| self.rule.inspections.get_mut(at)?.steps.get_mut(step));
        // Anything else may stand between a content and its modifiers (isdataat, byte_test): look further back.
        let content = match content {
            Some(Step::Content(content)) => Some(content),
            _ => self.last.and_then(|(at, _)| {
                self.rule.inspections.get_mut(at)?.steps.iter_mut().rev().find_map(|step| match step {
                    Step::Content(content) => Some(content),
                    _ => None,
                })
            }),
        };
        change(content.ok_or_else(|| Fault::new("no content before it"))?)
    }

    /// What has to hold of the whole.
    pub fn finish(mut self) -> Read<Rule> {
        if let Some(why) = self.requires_failed {
            return Err(Fault::new(why).at("requires"));
        }
        if !self.has_sid {
            return Err(Fault::new("it has no sid"));
        }
        if let Some(keyword) = self.rule.inspections.iter().find_map(|inspection| {
            (inspection.steps.is_empty() && inspection.absent.is_none()).then_some(inspection.target)
        }) {
            return Err(Fault::new(format!("{keyword:?}: nothing is asked of this buffer")));
        }
        for inspection in &self.rule.inspections {
            for step in &inspection.steps {
                if let Step::Content(content) = step {
                    check(content)?;
                }
            }
        }
        self.rule.variables = self.names.0.len() as u8;
        Ok(self.rule)
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Read<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Fault::new("it is there twice for one content")),
    }
}

/// Checks that a content's modifiers agree.
fn check(content: &Content) -> Read<()> {
    use super::content::Operand::Value;
    let fault = |text: &str| Err(Fault::new(text).at("content"));
    if content.relative() && (content.offset.is_some() || content.depth.is_some() || content.startswith) {
        return fault("distance or within with offset, depth or startswith");
    }
    if content.startswith && (content.offset.is_some() || content.depth.is_some()) {
        return fault("startswith with offset or depth");
    }
    let len = i64::try_from(content.bytes.len()).unwrap_or(i64::MAX);
    if let Some(Value(depth)) = content.depth
        && depth < len
    {
        return fault("depth is smaller than the content");
    }
    if let Some(Value(within)) = content.within
        && within < len
    {
        return fault("within is smaller than the content");
    }
    if let Some(Value(offset)) = content.offset
        && !(0..=65_535).contains(&offset)
    {
        return fault("offset is not within 0 and 65535");
    }
    Ok(())
}
