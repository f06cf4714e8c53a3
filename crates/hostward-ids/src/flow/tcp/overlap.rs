//! Whose bytes count where TCP segments overlap and differ: every receiving system has its own answer.
//!
//! The answers are those of "Target-Based TCP Stream Reassembly" (J. Novak, S. Sturges, 2007).

/// A receiver's way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum OverlapPolicy {
    First,
    Last,
    Bsd,
    #[default]
    Linux,
    OldLinux,
    Solaris,
    Windows,
    Vista,
    Hpux10,
}

impl OverlapPolicy {
    /// By the name it has in settings.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "first" => Self::First,
            "last" => Self::Last,
            "bsd" | "hpux11" | "irix" | "macos" | "bsd-right" => Self::Bsd,
            "linux" => Self::Linux,
            "old-linux" => Self::OldLinux,
            "solaris" => Self::Solaris,
            "windows" | "windows2k3" => Self::Windows,
            "vista" => Self::Vista,
            "hpux10" => Self::Hpux10,
            _ => return None,
        })
    }

    /// Whether a later segment's bytes replace those of an earlier one; both as (first, behind the last).
    #[must_use]
    pub fn replaces(self, later: (u64, u64), earlier: (u64, u64)) -> bool {
        let before = later.0 < earlier.0;
        let same_start = later.0 == earlier.0;
        match self {
            Self::First | Self::Vista => false,
            Self::Last => true,
            Self::Bsd => before,
            Self::Linux => before || same_start && later.1 > earlier.1,
            Self::OldLinux => before || same_start,
            Self::Windows => before && later.1 > earlier.1,
            // The earlier one counts where it ends behind the later one, or where the later one begins before it and both end
            // alike.
            Self::Solaris => later.1 > earlier.1 || later.1 == earlier.1 && !before,
            Self::Hpux10 => before || later.1 > earlier.1,
        }
    }
}
