//! Request targets: what a server would make of them (RFC 3986 section 6, and what servers do beyond it).

use super::text::{skip_while, split_where};

/// A target's parts, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Uri {
    /// `http.uri`: path, query and fragment.
    pub(super) normalised: Vec<u8>,
    /// The path alone.
    pub(super) path: Vec<u8>,
    /// Of an absolute target, or of CONNECT's.
    pub(super) host: Option<Vec<u8>>,
    /// Likewise.
    pub(super) port: Option<u16>,
    /// Whether the host makes no sense.
    pub(super) invalid_host: bool,
    /// Whether the path, decoded, could be decoded once more.
    pub(super) twice_encoded: bool,
}

/// Reads a target in any of its forms (RFC 9112 section 3.2).
pub(super) fn read(target: &[u8], connect: bool) -> Uri {
    let mut uri = Uri::default();
    if connect {
        let (host, port, valid) = host_and_port(target);
        uri.host = Some(host.to_ascii_lowercase());
        uri.port = port;
        uri.invalid_host = !valid;
        return uri;
    }
    let mut rest = target;
    if !target.starts_with(b"/")
        && let Some(colon) = target.iter().position(|byte| *byte == b':')
    {
        rest = target.get(colon + 1..).unwrap_or_default();
        if let Some(authority) = rest.strip_prefix(b"//").filter(|after| !after.starts_with(b"/")) {
            let (authority, after) = split_where(authority, |byte| matches!(byte, b'/' | b'?' | b'#'));
            let host = authority.rsplit(|byte| *byte == b'@').next().unwrap_or_default();
            let (host, port, valid) = host_and_port(host);
            let mut host = percent_decode(host, false).to_ascii_lowercase();
            while host.last() == Some(&b'.') {
                host.pop();
            }
            uri.host = Some(host);
            uri.port = port;
            uri.invalid_host = !valid;
            rest = after;
        }
    }
    let (path, rest) = split_where(rest, |byte| matches!(byte, b'?' | b'#'));
    let (query, fragment) = split_where(rest, |byte| *byte == b'#');
    let once = percent_decode(path, true);
    uri.twice_encoded = once.contains(&b'%') && percent_decode(&once, true).len() < once.len();
    uri.path = remove_dot_segments(&once);
    uri.normalised.clone_from(&uri.path);
    if let Some(query) = query.strip_prefix(b"?") {
        uri.normalised.push(b'?');
        uri.normalised.extend(percent_decode(query, false));
    }
    if let Some(fragment) = fragment.strip_prefix(b"#") {
        uri.normalised.push(b'#');
        uri.normalised.extend(percent_decode(fragment, false));
    }
    uri
}

/// Splits `host:port`, brackets of IPv6 kept, and says whether both make sense.
pub(super) fn host_and_port(text: &[u8]) -> (&[u8], Option<u16>, bool) {
    let text = super::text::trim(text);
    let host_len = match text.first() {
        Some(b'[') => text.iter().position(|byte| *byte == b']').map_or(text.len(), |at| at + 1),
        _ => text.iter().position(|byte| *byte == b':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(host_len);
    let mut host = host;
    while let Some(shorter) = host.strip_suffix(b".") {
        host = shorter;
    }
    let mut valid = host_is_valid(host);
    let port = match rest.split_first() {
        None => None,
        Some((b':', digits)) => {
            let port = std::str::from_utf8(super::text::trim(digits)).ok().and_then(|text| text.parse().ok());
            let port = port.filter(|port| *port != 0);
            valid &= port.is_some();
            port
        }
        Some(_) => {
            valid = false;
            None
        }
    };
    (host, port, valid)
}

/// RFC 1123 section 2.1, with the underscore that people use.
fn host_is_valid(host: &[u8]) -> bool {
    if host.is_empty() || host.len() > 255 {
        return false;
    }
    if let Some(address) = host.strip_prefix(b"[") {
        let address = address.strip_suffix(b"]").and_then(|text| std::str::from_utf8(text).ok());
        return address.is_some_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
    }
    host.split(|byte| *byte == b'.').all(|label| {
        (1..=63).contains(&label.len())
            && label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || *byte >= 0x80)
    })
}

/// Undoes `%xx` and `%uxxxx`; in a path also makes slashes of backslashes and one of several.
fn percent_decode(text: &[u8], path: bool) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let (mut byte, after) = match byte {
            b'%' => match after {
                [b'u' | b'U', digits @ ..] => match hex(digits, 4) {
                    Some(point) => (best_fit(point), digits.get(4..).unwrap_or_default()),
                    None => (b'%', after),
                },
                _ => match hex(after, 2) {
                    Some(value) => (value as u8, after.get(2..).unwrap_or_default()),
                    None => (b'%', after),
                },
            },
            _ => (byte, after),
        };
        rest = after;
        if path && byte == b'\\' {
            byte = b'/';
        }
        if !(path && byte == b'/' && decoded.last() == Some(&b'/')) {
            decoded.push(byte);
        }
    }
    decoded
}

fn hex(text: &[u8], digits: usize) -> Option<u16> {
    text.get(..digits)?
        .iter()
        .try_fold(0, |value: u16, &byte| Some(value << 4 | u16::try_from(char::from(byte).to_digit(16)?).ok()?))
}

/// The byte that servers take a code point for: itself, the ASCII form of a full-width one, or a question mark.
fn best_fit(point: u16) -> u8 {
    match point {
        0..=0xff => point as u8,
        0xff01..=0xff5e => (point - 0xfee0) as u8,
        0x2215 | 0x2044 => b'/',
        0x2216 => b'\\',
        _ => b'?',
    }
}

/// RFC 3986 section 5.2.4.
fn remove_dot_segments(path: &[u8]) -> Vec<u8> {
    let mut output: Vec<u8> = Vec::with_capacity(path.len());
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(b"../").or_else(|| rest.strip_prefix(b"./")) {
            rest = after;
        } else if rest.starts_with(b"/./") {
            rest = rest.get(2..).unwrap_or_default();
        } else if rest == b"/." {
            rest = b"/";
        } else if rest.starts_with(b"/../") || rest == b"/.." {
            let cut = output.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            output.truncate(cut);
            rest = if rest.len() == 3 { b"/" } else { rest.get(3..).unwrap_or_default() };
        } else if rest == b"." || rest == b".." {
            break;
        } else {
            let slash = usize::from(rest.first() == Some(&b'/'));
            let tail = skip_while(rest.get(slash..).unwrap_or_default(), |byte| byte != b'/');
            output.extend_from_slice(rest.get(..rest.len() - tail.len()).unwrap_or_default());
            rest = tail;
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(target: &str) -> String {
        String::from_utf8_lossy(&read(target.as_bytes(), false).normalised).into_owned()
    }

    #[test]
    fn normalisation() {
        for (target, expected) in [
            ("/a/./b/../c", "/a/c"),
            ("/a//b\\c", "/a/b/c"),
            ("/%41%2e%2E/x?q=%41+b%zz#f%20", "/A../x?q=A+b%zz#f "),
            ("/%u0041%uff21", "/AA"),
            ("/../../x", "/x"),
            ("/x/..", "/"),
            ("http://Host:80/p?q", "/p?q"),
            ("*", "*"),
            ("", ""),
            ("/%", "/%"),
        ] {
            assert_eq!(normalised(target), expected, "{target}");
        }
    }

    #[test]
    fn encoded_twice() {
        assert!(read(b"/a%2527b", false).twice_encoded);
        assert!(!read(b"/a%27b%zz?x=%2527", false).twice_encoded);
    }

    #[test]
    fn authority() {
        let uri = read(b"http://user:pw@Www.Example.ORG.:8080/", false);
        assert_eq!(
            (uri.host.as_deref(), uri.port, uri.invalid_host),
            (Some(&b"www.example.org"[..]), Some(8080), false)
        );
        let uri = read(b"[::1]:443", true);
        assert_eq!((uri.host.as_deref(), uri.port, uri.invalid_host), (Some(&b"[::1]"[..]), Some(443), false));
        for bad in [&b"a..b"[..], b"", b"a:x", b"a:0", b"[::1", b"a b", b"[::1]x"] {
            assert!(!host_and_port(bad).2, "{bad:?}");
        }
    }
}
