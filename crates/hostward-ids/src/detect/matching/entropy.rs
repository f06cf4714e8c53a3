//! How evenly bytes are spread.

use crate::rules::rule::{Entropy, EntropyCompare};

/// Shannon's entropy of a part of `data`, in bits a byte; `None` if there is none.
pub fn of(entropy: &Entropy, data: &[u8]) -> Option<f64> {
    let data = data.get(entropy.offset..).unwrap_or_default();
    let data = entropy.len.and_then(|len| data.get(..len)).unwrap_or(data);
    if data.is_empty() {
        return None;
    }
    let mut counts = [0_u32; 256];
    for &byte in data {
        counts[usize::from(byte)] += 1;
    }
    let total = f64::from(u32::try_from(data.len()).ok()?);
    let shares = counts.iter().filter(|&&count| count > 0).map(|&count| f64::from(count) / total);
    Some(shares.map(|share| -share * share.log2()).sum())
}

/// Whether an entropy is as wanted.
pub fn holds(compare: EntropyCompare, value: f64) -> bool {
    match compare {
        EntropyCompare::Equal(x) => (value - x).abs() < 1e-9,
        EntropyCompare::NotEqual(x) => (value - x).abs() >= 1e-9,
        EntropyCompare::Less(x) => value < x,
        EntropyCompare::AtMost(x) => value <= x,
        EntropyCompare::Greater(x) => value > x,
        EntropyCompare::AtLeast(x) => value >= x,
        EntropyCompare::Between(low, high) => low < value && value < high,
        EntropyCompare::NotBetween(low, high) => !(low < value && value < high),
    }
}
