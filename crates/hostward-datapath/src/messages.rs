//! What libbpf itself says on standard error.

use libbpf_rs::PrintLevel;

/// The kernel's answers where a qdisc that ought to be there is there already, and where a filter or the qdisc that ought
/// not to be there is not: nothing is wrong.
const EXPECTED: [&str; 3] = [
    "Exclusivity flag on, cannot modify",
    "Filter with specified priority/protocol not found",
    "Parent Qdisc doesn't exists",
];

/// Lets libbpf's warnings through to standard error, but for those that are no warnings.
pub fn filter_messages() {
    libbpf_rs::set_print(Some((PrintLevel::Warn, |_, message| {
        if !EXPECTED.iter().any(|expected| message.contains(expected)) {
            eprint!("{message}");
        }
    })));
}
