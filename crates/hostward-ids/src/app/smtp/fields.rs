//! Header fields of messages (RFC 5322) and their parameters (RFC 2045, RFC 2231).

/// How many parameters of one field are read.
const MAX_PARAMETERS: usize = 32;

/// Name and value.
pub type Parameter = (Vec<u8>, Vec<u8>);

/// A field's value before its parameters, and the parameters with names in lower case.
#[must_use]
pub fn parameters(value: &[u8]) -> (Vec<u8>, Vec<Parameter>) {
    let mut pieces = split(value, b';').into_iter();
    let main = pieces.next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    let parameters = pieces
        .filter_map(|piece| {
            let at = piece.iter().position(|&byte| byte == b'=')?;
            let (name, value) = piece.split_at(at);
            Some((name.trim_ascii().to_ascii_lowercase(), unquoted(value.get(1..).unwrap_or_default().trim_ascii())))
        })
        .take(MAX_PARAMETERS)
        .collect();
    (main, parameters)
}

/// A parameter, put together from its continuations (`name*0=`, `name*1*=`) where it has some.
#[must_use]
pub fn parameter(parameters: &[Parameter], name: &str) -> Option<Vec<u8>> {
    let find = |key: &str| parameters.iter().find(|(found, _)| found == key.as_bytes()).map(|(_, value)| value);
    if let Some(value) = find(&format!("{name}*")) {
        return Some(without_charset(value));
    }
    let mut joined = None::<Vec<u8>>;
    for number in 0..MAX_PARAMETERS {
        let piece = if let Some(plain) = find(&format!("{name}*{number}")) {
            plain.clone()
        } else if let Some(coded) = find(&format!("{name}*{number}*")) {
            if number == 0 { without_charset(coded) } else { percent_decoded(coded) }
        } else {
            break;
        };
        joined.get_or_insert_default().extend_from_slice(&piece);
    }
    joined.or_else(|| find(name).cloned())
}

/// The addresses of a field: what lies between commas outside of quotes and angle brackets.
#[must_use]
pub fn addresses(value: &[u8]) -> Vec<String> {
    split(value, b',')
        .into_iter()
        .map(<[u8]>::trim_ascii)
        .filter(|address| !address.is_empty())
        .map(|address| String::from_utf8_lossy(address).into_owned())
        .collect()
}

fn split(value: &[u8], separator: u8) -> Vec<&[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value
        .split(|&byte| {
            let here = byte == separator && !quoted;
            if escaped {
                escaped = false;
            } else if byte == b'\\' && quoted {
                escaped = true;
            } else if byte == b'"' {
                quoted = !quoted;
            }
            here
        })
        .collect()
}

fn unquoted(value: &[u8]) -> Vec<u8> {
    let Some(inside) = value.strip_prefix(b"\"") else { return value.to_vec() };
    let mut out = Vec::with_capacity(inside.len());
    let mut bytes = inside.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'"' => break,
            b'\\' => match bytes.next() {
                Some(&escaped @ (b'"' | b'\\')) => out.push(escaped),
                // Windows paths come unescaped.
                Some(&other) => out.extend_from_slice(&[b'\\', other]),
                None => out.push(b'\\'),
            },
            _ => out.push(byte),
        }
    }
    out
}

/// `utf-8'en'na%6De`.
fn without_charset(value: &[u8]) -> Vec<u8> {
    let mut pieces = value.splitn(3, |&byte| byte == b'\'');
    match (pieces.next(), pieces.next(), pieces.next()) {
        (Some(_), Some(_), Some(text)) => percent_decoded(text),
        _ => percent_decoded(value),
    }
}

fn percent_decoded(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%'
            && let [high, low, after @ ..] = rest
            && let (Some(high), Some(low)) = ((*high as char).to_digit(16), (*low as char).to_digit(16))
        {
            out.push((high << 4 | low) as u8);
            rest = after;
        } else {
            out.push(byte);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files() {
        let (main, found) = parameters(br#"Attachment; filename="a;\"b.txt"; x=y"#);
        assert_eq!(main, b"attachment");
        assert_eq!(parameter(&found, "filename").unwrap(), b"a;\"b.txt");
        let (_, found) = parameters(b"attachment; filename*0*=utf-8''m%61l; filename*1=\"ware.exe\"");
        assert_eq!(parameter(&found, "filename").unwrap(), b"malware.exe");
        let (_, found) = parameters(b"attachment; filename*=utf-8'en'%2e.exe");
        assert_eq!(parameter(&found, "filename").unwrap(), b"..exe");
    }

    #[test]
    fn lists_of_addresses() {
        assert_eq!(addresses(b"\"A, B\" <a@b>, c@d ,"), ["\"A, B\" <a@b>", "c@d"]);
    }
}
