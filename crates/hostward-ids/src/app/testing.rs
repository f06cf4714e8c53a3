//! What the tests of parsers share: the same conversation in pieces of every size, cut short, and with bytes changed.

use std::fmt::Write as _;

use super::{Parser, Transaction};
use crate::Direction;

/// A conversation.
pub type Talk<'a> = &'a [(Direction, &'a [u8])];

/// Everything that a parser made of a conversation, as text.
pub fn outcome(mut parser: impl Parser, talk: Talk<'_>, step: usize) -> String {
    let mut events = Vec::new();
    for (direction, data) in talk {
        for piece in data.chunks(step.max(1)) {
            if let Err(fatal) = parser.parse(*direction, piece) {
                return format!("{fatal}: {}", described(&mut parser));
            }
            // How often one is noted depends on how often they are taken away.
            for event in parser.take_events() {
                if !events.contains(&event) {
                    events.push(event);
                }
            }
        }
    }
    parser.close(Direction::ToServer);
    parser.close(Direction::ToClient);
    format!("{events:?} {}", described(&mut parser))
}

fn described(parser: &mut impl Parser) -> String {
    let transactions: Vec<String> = parser.transactions().iter().map(describe).collect();
    transactions.join("\n")
}

/// What lies in a transaction, as text.
pub fn describe(transaction: &Transaction) -> String {
    let Transaction { id, progress, buffers, integers, directed_integers, events, files, log, log_beside, .. } =
        transaction;
    let mut out = format!("{id} {progress:?} {integers:?} {directed_integers:?} {events:?} {log:?} {log_beside:?}");
    for content in buffers {
        let _ = write!(out, "\n {:?} {:?} {}", content.direction, content.buffer, content.data.escape_ascii());
    }
    for file in files {
        let _ = write!(out, "\n {:?} {} {:?} {}", file.name, file.size, file.state, file.data.escape_ascii());
    }
    out
}

/// Asserts that a conversation has the same outcome whole and in pieces of any size, and that nothing panics when it
/// is cut short anywhere or bytes are changed.
pub fn hold_up<P: Parser>(make: impl Fn() -> P, talk: Talk<'_>) {
    let whole = outcome(make(), talk, usize::MAX);
    let longest = talk.iter().map(|(_, data)| data.len()).max().unwrap_or_default();
    for step in (1..longest.min(40)).chain((40..longest).step_by(97)) {
        assert_eq!(outcome(make(), talk, step), whole, "in pieces of {step} bytes");
    }
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    for round in 0..600 {
        let mut owned: Vec<(Direction, Vec<u8>)> = talk.iter().map(|(way, data)| (*way, data.to_vec())).collect();
        let at = random() % owned.len();
        let data = &mut owned[at].1;
        if data.is_empty() {
            continue;
        }
        if round % 3 == 0 {
            data.truncate(random() % data.len());
        } else {
            for _ in 0..=random() % 4 {
                let place = random() % data.len();
                data[place] = match random() % 4 {
                    0 => 0,
                    1 => 0xff,
                    _ => random() as u8,
                };
            }
        }
        let borrowed: Vec<(Direction, &[u8])> = owned.iter().map(|(way, data)| (*way, data.as_slice())).collect();
        let whole = outcome(make(), &borrowed, usize::MAX);
        assert_eq!(outcome(make(), &borrowed, 1 + random() % 64), whole, "round {round}");
    }
}
