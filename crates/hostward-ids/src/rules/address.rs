//! Addresses and ports of a rule's header: lists, negation, ranges, variables.

use std::net::IpAddr;
use std::sync::Arc;

use super::variables::Variables;
use super::{Fault, Read};

/// How deep lists and variables may lie in each other.
const DEPTH: usize = 16;
/// Most intervals of one set.
const INTERVALS: usize = 65_536;

/// A set of numbers as sorted intervals that do not touch; an address counts as an IPv6 one, IPv4 mapped (RFC 4291, 2.5.5.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Intervals(Box<[(u128, u128)]>);

impl Intervals {
    /// From anything, sorted here.
    fn new(mut ranges: Vec<(u128, u128)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (low, high) in ranges {
            match merged.last_mut() {
                Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
                _ => merged.push((low, high)),
            }
        }
        Self(merged.into_boxed_slice())
    }

    /// What is in neither, of numbers up to `top`.
    fn complement(&self, top: u128) -> Self {
        let mut rest = Vec::with_capacity(self.0.len() + 1);
        let mut next = Some(0);
        for &(low, high) in &self.0 {
            if let Some(start) = next
                && start < low
            {
                rest.push((start, low - 1));
            }
            next = high.checked_add(1).filter(|&start| start <= top);
        }
        if let Some(start) = next {
            rest.push((start, top));
        }
        Self(rest.into_boxed_slice())
    }

    fn intersection(&self, other: &Self) -> Self {
        let mut both = Vec::new();
        let (mut a, mut b) = (0, 0);
        while let (Some(&x), Some(&y)) = (self.0.get(a), other.0.get(b)) {
            let (low, high) = (x.0.max(y.0), x.1.min(y.1));
            if low <= high {
                both.push((low, high));
            }
            if x.1 < y.1 { a += 1 } else { b += 1 }
        }
        Self::new(both)
    }

    /// Whether `number` is in it.
    #[must_use]
    pub fn contains(&self, number: u128) -> bool {
        let after = self.0.partition_point(|&(low, _)| low <= number);
        after > 0 && self.0.get(after - 1).is_some_and(|&(_, high)| number <= high)
    }

    /// Its intervals, both ends included.
    #[must_use]
    pub fn ranges(&self) -> &[(u128, u128)] {
        &self.0
    }
}

/// A set of addresses; shared between rules that say the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// All.
    Any,
    /// These.
    Some(Arc<Intervals>),
}

/// A set of ports; likewise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// All.
    Any,
    /// These.
    Some(Arc<Intervals>),
}

/// An address as the number that [`Intervals`] hold.
#[must_use]
pub fn as_number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl Addresses {
    /// Whether `address` is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Some(set) => set.contains(as_number(address)),
        }
    }
}

impl Ports {
    /// Whether `port` is in it.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Some(set) => set.contains(u128::from(port)),
        }
    }
}

/// What is different between lists of addresses and of ports.
trait Kind {
    const TOP: u128;
    fn variable<'v>(variables: &'v Variables, name: &str) -> Option<&'v str>;
    fn single(text: &str) -> Read<(u128, u128)>;
}

struct AddressKind;
struct PortKind;

impl Kind for AddressKind {
    const TOP: u128 = u128::MAX;

    fn variable<'v>(variables: &'v Variables, name: &str) -> Option<&'v str> {
        variables.addresses(name)
    }

    fn single(text: &str) -> Read<(u128, u128)> {
        let bad = || Fault::new(format!("'{text}' is no address"));
        if let Some((address, len)) = text.split_once('/') {
            let address: IpAddr = address.trim().parse().map_err(|_| bad())?;
            let len = len.trim();
            let len = match (len.parse::<u32>(), address) {
                (Ok(len), IpAddr::V4(_)) if len <= 32 => len + 96,
                (Ok(len), IpAddr::V6(_)) if len <= 128 => len,
                (Err(_), IpAddr::V4(_)) => {
                    let mask: std::net::Ipv4Addr = len.parse().map_err(|_| bad())?;
                    if mask.to_bits().leading_ones() + mask.to_bits().trailing_zeros() < 32 {
                        return Err(bad());
                    }
                    mask.to_bits().leading_ones() + 96
                }
                _ => return Err(bad()),
            };
            let host = u128::MAX.checked_shr(len).unwrap_or(0);
            let number = as_number(address);
            return Ok((number & !host, number | host));
        }
        if let Some((low, high)) = text.split_once('-') {
            let (low, high): (IpAddr, IpAddr) =
                (low.trim().parse().map_err(|_| bad())?, high.trim().parse().map_err(|_| bad())?);
            let (low, high) = (as_number(low), as_number(high));
            return if low <= high { Ok((low, high)) } else { Err(bad()) };
        }
        let number = as_number(text.parse().map_err(|_| bad())?);
        Ok((number, number))
    }
}

impl Kind for PortKind {
    const TOP: u128 = 0xffff;

    fn variable<'v>(variables: &'v Variables, name: &str) -> Option<&'v str> {
        variables.ports(name)
    }

    fn single(text: &str) -> Read<(u128, u128)> {
        let bad = || Fault::new(format!("'{text}' is no port"));
        let port = |text: &str| text.trim().parse::<u16>().map(u128::from).map_err(|_| bad());
        match text.split_once(':') {
            Some((low, high)) => {
                let low = if low.trim().is_empty() { 0 } else { port(low)? };
                let high = if high.trim().is_empty() { Self::TOP } else { port(high)? };
                if low <= high { Ok((low, high)) } else { Err(bad()) }
            }
            None => port(text).map(|port| (port, port)),
        }
    }
}

/// Cuts a list at the commas that lie in no inner list.
fn elements(list: &str) -> Read<Vec<&str>> {
    let (mut found, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            b'[' => depth += 1,
            b']' => depth = depth.checked_sub(1).ok_or_else(|| Fault::new("']' without '['"))?,
            b',' if depth == 0 => {
                found.push(list[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if depth > 0 {
        return Err(Fault::new("'[' is not closed"));
    }
    found.push(list[start..].trim());
    Ok(found)
}

/// Reads one element or list. The recursion is bounded by [`DEPTH`].
fn read<K: Kind>(text: &str, variables: &Variables, depth: usize) -> Read<Intervals> {
    if depth > DEPTH {
        return Err(Fault::new("lists or variables lie too deep in each other"));
    }
    let text = text.trim();
    if let Some(rest) = text.strip_prefix('!') {
        let inside = read::<K>(rest, variables, depth + 1)?;
        let outside = inside.complement(K::TOP);
        return if outside.0.is_empty() { Err(Fault::new("the set is empty")) } else { Ok(outside) };
    }
    if text.eq_ignore_ascii_case("any") {
        return Ok(Intervals(Box::new([(0, K::TOP)])));
    }
    if let Some(name) = text.strip_prefix('$') {
        let value = K::variable(variables, name).ok_or_else(|| Fault::new(format!("'${name}' is not defined")))?;
        return read::<K>(value, variables, depth + 1);
    }
    let Some(list) = text.strip_prefix('[') else {
        if text.contains(',') {
            return read_list::<K>(text, variables, depth);
        }
        return K::single(text).map(|range| Intervals::new(vec![range]));
    };
    let list = list.strip_suffix(']').ok_or_else(|| Fault::new("'[' is not closed"))?;
    read_list::<K>(list, variables, depth)
}

fn read_list<K: Kind>(list: &str, variables: &Variables, depth: usize) -> Read<Intervals> {
    let (mut positive, mut negative) = (Vec::new(), Vec::new());
    let mut only_negative = true;
    for element in elements(list)? {
        let target = if let Some(rest) = element.strip_prefix('!') {
            negative.extend_from_slice(&read::<K>(rest, variables, depth + 1)?.0);
            &negative
        } else {
            only_negative = false;
            positive.extend_from_slice(&read::<K>(element, variables, depth + 1)?.0);
            &positive
        };
        if target.len() > INTERVALS {
            return Err(Fault::new(format!("more than {INTERVALS} elements")));
        }
    }
    if only_negative {
        positive.push((0, K::TOP));
    }
    let set = Intervals::new(positive).intersection(&Intervals::new(negative).complement(K::TOP));
    if set.0.is_empty() { Err(Fault::new("the set is empty")) } else { Ok(set) }
}

/// Reads the addresses of a header.
///
/// # Errors
/// What was expected.
pub fn addresses(text: &str, variables: &Variables) -> Read<Addresses> {
    let set = read::<AddressKind>(text, variables, 0)?;
    Ok(if *set.0 == [(0, u128::MAX)] { Addresses::Any } else { Addresses::Some(Arc::new(set)) })
}

/// Reads the ports of a header.
///
/// # Errors
/// What was expected.
pub fn ports(text: &str, variables: &Variables) -> Read<Ports> {
    let set = read::<PortKind>(text, variables, 0)?;
    Ok(if *set.0 == [(0, PortKind::TOP)] { Ports::Any } else { Ports::Some(Arc::new(set)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let variables = Variables::default();
        let set = addresses("[10.0.0.0/8,!10.1.0.0/16, fe80::/10]", &variables).unwrap();
        for (address, wanted) in [("10.2.0.1", true), ("10.1.0.1", false), ("fe80::1", true), ("11.0.0.0", false)] {
            assert_eq!(set.contains(address.parse().unwrap()), wanted, "{address}");
        }
        let outside = addresses("$EXTERNAL_NET", &variables).unwrap();
        assert!(!outside.contains("192.168.1.1".parse().unwrap()));
        assert!(outside.contains("192.169.1.1".parse().unwrap()));
        assert_eq!(addresses("any", &variables), Ok(Addresses::Any));
        for bad in ["[1.1.1.1", "$NOPE", "1.1.1.1/33", "!any", "[1.1.1.1,!1.1.1.1]", "1.1.1.1]"] {
            assert!(addresses(bad, &variables).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_are_read() {
        let variables = Variables::default();
        let set = ports("[1024:,!2000:3000]", &variables).unwrap();
        assert!(set.contains(1024) && !set.contains(2500) && set.contains(65535) && !set.contains(80));
        assert!(ports("![139,445]", &variables).unwrap().contains(80));
        assert!(ports("70000", &variables).is_err());
    }
}
