//! What libbpf itself says on standard error.

use libbpf_rs::PrintLevel;

/// The kernel's answer where a qdisc that ought to be there is there already: nothing is wrong.
const EXPECTED: &str = "Exclusivity flag on, cannot modify";

/// Lets libbpf's warnings through to standard error, but for the one that is no warning.
pub fn filter_messages() {
    libbpf_rs::set_print(Some((PrintLevel::Warn, |_, message| {
        if !message.contains(EXPECTED) {
            eprint!("{message}");
        }
    })));
}
