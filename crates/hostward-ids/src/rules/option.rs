//! The text of a rule cut into options, and the escapes inside them.

use super::{Fault, RULE_OPTIONS, Read};

/// One option: a keyword, and its value where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleOption<'a> {
    /// As written.
    pub keyword: &'a str,
    /// What follows the colon, without surrounding blanks.
    pub value: Option<&'a str>,
}

/// Cuts what stands between a rule's parentheses at every `;` that no backslash escapes.
///
/// # Errors
/// An option that no `;` ends, one without a name, or too many of them.
pub fn split(body: &str) -> Read<Vec<RuleOption<'_>>> {
    let mut options = Vec::new();
    let bytes = body.as_bytes();
    let (mut start, mut at) = (0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b';' => {
                let text = body.get(start..at).unwrap_or_default().trim();
                start = at + 1;
                if !text.is_empty() {
                    let (keyword, value) = match text.split_once(':') {
                        Some((keyword, value)) => (keyword.trim(), Some(value.trim())),
                        None => (text, None),
                    };
                    if keyword.is_empty() {
                        return Err(Fault::new("an option has no name"));
                    }
                    options.push(RuleOption { keyword, value });
                    if options.len() > RULE_OPTIONS {
                        return Err(Fault::new(format!("more than {RULE_OPTIONS} options")));
                    }
                }
            }
            _ => {}
        }
        at += 1;
    }
    let rest = body.get(start..).unwrap_or_default().trim();
    if rest.is_empty() { Ok(options) } else { Err(Fault::new(format!("no ';' after '{rest}'"))) }
}

/// A value that may be negated and quoted: (negated, inside).
///
/// # Errors
/// A quote that is not closed.
pub fn quoted(value: &str) -> Read<(bool, &str)> {
    let value = value.trim();
    let (negated, value) = match value.strip_prefix('!') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, value),
    };
    match value.strip_prefix('"') {
        Some(rest) => {
            rest.strip_suffix('"').map(|inside| (negated, inside)).ok_or_else(|| Fault::new("the quote is not closed"))
        }
        None => Ok((negated, value)),
    }
}

/// Undoes the backslashes of a text value (`msg`, `metadata`).
#[must_use]
pub fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut escaped = false;
    for character in text.chars() {
        if character == '\\' && !escaped {
            escaped = true;
            continue;
        }
        if escaped && !matches!(character, '"' | ';' | ':' | '\\') {
            plain.push('\\');
        }
        escaped = false;
        plain.push(character);
    }
    if escaped {
        plain.push('\\');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_cut() {
        let options = split(r#"msg:"a\; b"; nocase ; content: !"x|3b|";"#).unwrap();
        assert_eq!(options.len(), 3);
        assert_eq!(options[0].value, Some(r#""a\; b""#));
        assert_eq!(options[1], RuleOption { keyword: "nocase", value: None });
        assert_eq!(quoted(options[2].value.unwrap()).unwrap(), (true, "x|3b|"));
        assert!(split("sid:1").is_err());
        assert!(split("sid:1\\").is_err());
        assert_eq!(unescape(r"a\;b\.c\"), r"a;b\.c\");
    }
}
