//! Where a data connection goes, as PORT, PASV (RFC 959), EPRT and EPSV (RFC 2428) say it.

use std::net::{IpAddr, Ipv4Addr};

/// `10,0,0,1,200,100`, anywhere in the text.
#[must_use]
pub fn comma_separated(text: &[u8]) -> Option<(IpAddr, u16)> {
    let start = text.iter().position(u8::is_ascii_digit)?;
    let mut numbers = text.get(start..)?.split(|&byte| byte == b',').take(6).map(|part| {
        let digits = part.iter().take_while(|byte| byte.is_ascii_digit()).count();
        std::str::from_utf8(part.get(..digits)?).ok()?.parse::<u8>().ok()
    });
    let mut next = || numbers.next().flatten();
    let address = Ipv4Addr::new(next()?, next()?, next()?, next()?);
    Some((address.into(), u16::from_be_bytes([next()?, next()?])))
}

/// `|2|2001:db8::1|5282|`, with any delimiter.
#[must_use]
pub fn extended(text: &[u8]) -> Option<(IpAddr, u16)> {
    let (delimiter, rest) = text.trim_ascii().split_first()?;
    let mut parts = rest.split(|byte| byte == delimiter).map(|part| std::str::from_utf8(part).ok());
    let _family = parts.next()??;
    Some((parts.next()??.parse().ok()?, parts.next()??.parse().ok()?))
}

/// `Entering Extended Passive Mode (|||6446|)`.
#[must_use]
pub fn extended_port(text: &[u8]) -> Option<u16> {
    let at = memchr::memchr(b'(', text)?;
    let (delimiter, rest) = text.get(at + 1..)?.split_first()?;
    let port = rest.split(|byte| byte == delimiter).nth(2)?;
    std::str::from_utf8(port).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_all_forms() {
        let expected = Some(("10.0.0.1".parse().unwrap(), 51300));
        assert_eq!(comma_separated(b"10,0,0,1,200,100"), expected);
        assert_eq!(comma_separated(b"Entering Passive Mode (10,0,0,1,200,100)."), expected);
        assert_eq!(comma_separated(b"10,0,0,1,200"), None);
        assert_eq!(comma_separated(b"10,0,0,256,200,100"), None);
        assert_eq!(extended(b"|2|2001:db8::1|5282|"), Some(("2001:db8::1".parse().unwrap(), 5282)));
        assert_eq!(extended(b"|1|10.0.0.1|"), None);
        assert_eq!(extended_port(b"Extended Passive Mode OK (|||6446|)"), Some(6446));
        assert_eq!(extended_port(b"no (|||"), None);
    }
}
