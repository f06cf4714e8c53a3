//! One structure of an older layout into the present one, number by number, by name.

use super::btf::Layout;
use super::btf::Number;

/// Copies what both layouts have. What only the present one has is zero.
#[derive(Debug)]
pub struct Conversion {
    moves: Vec<(Number, Number)>,
    size: usize,
}

impl Conversion {
    /// From one layout to another, without the numbers under the names in `anew`.
    pub fn between(from: &Layout, to: &Layout, anew: &[&str]) -> Self {
        Self::renaming(from, to, anew, &[])
    }

    /// The same, where some of the present names had another one: (now, then).
    pub fn renaming(from: &Layout, to: &Layout, anew: &[&str], renamed: &[(&str, &str)]) -> Self {
        let moves = to.numbers.iter().filter_map(|(path, &target)| {
            let name = path.split('.').next().unwrap_or_default();
            (!anew.contains(&name)).then_some(())?;
            let then = renamed.iter().find(|(now, _)| now == path).map_or(path.as_str(), |(_, then)| then);
            Some((*from.numbers.get(then).or_else(|| from.numbers.get(path))?, target))
        });
        Self { moves: moves.collect(), size: to.size }
    }

    /// The structure in the present layout; `None` if a number does not fit into its narrower place, or bytes lack.
    pub fn apply(&self, from: &[u8]) -> Option<Vec<u8>> {
        let mut to = vec![0; self.size];
        for (source, target) in &self.moves {
            // Little endian, as every processor that Linux runs BPF on in a datacenter: the low bytes come first.
            let bytes = from.get(source.offset..source.offset + source.size)?;
            let kept = source.size.min(target.size);
            if bytes[kept..].iter().any(|&byte| byte != 0) {
                return None;
            }
            to.get_mut(target.offset..target.offset + kept)?.copy_from_slice(&bytes[..kept]);
        }
        Some(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, numbers: &[(&str, usize, usize)]) -> Layout {
        let numbers = numbers.iter().map(|&(name, offset, size)| (name.to_owned(), Number { offset, size })).collect();
        Layout { size, numbers }
    }

    #[test]
    fn numbers_move_widen_come_and_go() {
        let from = layout(8, &[("state", 0, 4), ("gone", 4, 2), ("ways.0.end", 6, 2)]);
        let to = layout(16, &[("ways.0.end", 0, 8), ("new", 8, 4), ("state", 12, 4)]);
        let bytes = Conversion::between(&from, &to, &[]).apply(&[1, 2, 3, 4, 9, 9, 5, 6]).unwrap();
        assert_eq!(bytes, [5, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
    }

    #[test]
    fn what_does_not_fit_its_narrower_place_is_not_carried() {
        let conversion = Conversion::between(&layout(4, &[("n", 0, 4)]), &layout(2, &[("n", 0, 2)]), &[]);
        assert_eq!(conversion.apply(&[1, 2, 0, 0]), Some(vec![1, 2]));
        assert_eq!(conversion.apply(&[1, 2, 1, 0]), None);
        assert_eq!(conversion.apply(&[1, 2]), None);
    }

    #[test]
    fn what_was_renamed_is_carried_from_either_name() {
        let (from, to) = (layout(1, &[("kept", 0, 1)]), layout(1, &[("marks", 0, 1)]));
        let between = |from, to| Conversion::renaming(from, to, &[], &[("marks", "kept")]).apply(&[2]);
        assert_eq!(between(&from, &to), Some(vec![2]));
        assert_eq!(between(&to, &to), Some(vec![2]));
    }

    #[test]
    fn what_is_numbered_anew_is_left_out() {
        let both = layout(8, &[("place", 0, 4), ("ways.1.end", 4, 4)]);
        let bytes = Conversion::between(&both, &both, &["ways"]).apply(&[1, 0, 0, 0, 2, 0, 0, 0]).unwrap();
        assert_eq!(bytes, [1, 0, 0, 0, 0, 0, 0, 0]);
    }
}
