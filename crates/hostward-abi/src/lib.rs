//! The structures that the datapath shares with userspace.
//!
//! Everything here is generated from the BTF of the compiled object, so that the C compiler is the only one who lays out
//! memory; the size and each offset are compared again when this crate is compiled. Python sees none of it.

#![allow(clippy::unreadable_literal, reason = "generated")]

use zerocopy::FromBytes;
use zerocopy::Immutable;
use zerocopy::IntoBytes;
use zerocopy::KnownLayout;

include!(concat!(env!("OUT_DIR"), "/abi.rs"));

/// The word that users see for a reason: `HW_REASON_IP_SPOOF` is `ip-spoof`; `None` for a number without a meaning.
#[must_use]
pub fn reason_word(number: u32) -> Option<String> {
    word(reason::NAMES, number, "REASON_")
}

/// The word that users see for a verdict: `HW_VERDICT_WOULD_DENY` is `would-deny`.
#[must_use]
pub fn verdict_word(number: u32) -> Option<String> {
    word(verdict::NAMES, number, "VERDICT_")
}

/// The word that users see for the state of a flow: `HW_FLOW_ESTABLISHED` is `established`.
#[must_use]
pub fn flow_state_word(number: u32) -> Option<String> {
    word(flow_state::NAMES, number, "FLOW_")
}

fn word(names: &[(u32, &str)], number: u32, prefix: &str) -> Option<String> {
    let (_, name) = names.iter().find(|(value, _)| *value == number)?;
    Some(name.trim_start_matches(prefix).to_lowercase().replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_lower_case_with_hyphens() {
        assert_eq!(reason_word(reason::REASON_IP_SPOOF).as_deref(), Some("ip-spoof"));
        assert_eq!(verdict_word(verdict::VERDICT_WOULD_DENY).as_deref(), Some("would-deny"));
        assert_eq!(flow_state_word(flow_state::FLOW_ESTABLISHED).as_deref(), Some("established"));
        assert_eq!(reason_word(255), None);
    }
}
