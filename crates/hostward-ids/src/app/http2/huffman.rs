//! HPACK's Huffman code (RFC 7541 §5.2).

use std::sync::LazyLock;

use super::tables::CODE_LENGTHS;

const LONGEST: usize = 30;
/// The symbol that ends a string; never sent, but its first bits are the padding.
const END: u16 = 256;

/// The code by length: the first code of each, how many there are, and where their symbols begin.
struct Code {
    first: [u32; LONGEST + 1],
    count: [u32; LONGEST + 1],
    offset: [usize; LONGEST + 1],
    symbols: Vec<u16>,
}

static CODE: LazyLock<Code> = LazyLock::new(|| {
    let mut code = Code { first: [0; 31], count: [0; 31], offset: [0; 31], symbols: Vec::new() };
    let mut next = 0;
    for len in 1..=LONGEST {
        next <<= 1;
        code.first[len] = next;
        code.offset[len] = code.symbols.len();
        let of_this_len = CODE_LENGTHS.iter().zip(0u16..).filter(|(bits, _)| usize::from(**bits) == len);
        code.symbols.extend(of_this_len.map(|(_, symbol)| symbol));
        code.count[len] = (code.symbols.len() - code.offset[len]) as u32;
        next += code.count[len];
    }
    code
});

/// Undoes the code; `None` where the end's code or too much padding is inside.
#[must_use]
pub fn decode(coded: &[u8]) -> Option<Vec<u8>> {
    let code = &*CODE;
    let mut out = Vec::with_capacity(coded.len() * 8 / 5);
    let (mut bits, mut len) = (0u32, 0usize);
    for byte in coded {
        for shift in (0..8).rev() {
            bits = bits << 1 | u32::from(byte >> shift & 1);
            len += 1;
            let above = bits.checked_sub(*code.first.get(len)?);
            if let Some(above) = above.filter(|above| *above < code.count[len]) {
                let symbol = *code.symbols.get(code.offset[len] + above as usize)?;
                if symbol == END {
                    return None;
                }
                out.push(symbol as u8);
                (bits, len) = (0, 0);
            }
        }
    }
    (len < 8 && bits + 1 == 1 << len).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        let example = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decode(&example).unwrap(), b"www.example.com");
        assert_eq!(decode(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]).unwrap(), b"no-cache");
        assert_eq!(decode(&[]).unwrap(), b"");
        assert_eq!(decode(&[0xff, 0xff]), None);
        assert_eq!(decode(&[0xff; 4]), None);
    }
}
