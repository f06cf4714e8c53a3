//! What can go wrong between userspace and the kernel's programs.

use std::io;

/// An error of the datapath: what was tried, on which object, and what the kernel answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel, or libbpf, refused.
    #[error("cannot {action} {object}: {source}")]
    Kernel {
        /// A verb: `load`, `pin`, `attach` …
        action: &'static str,
        /// The map, program, device or path.
        object: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// libbpf refused; its text usually carries the verifier's last lines.
    #[error("cannot {action} {object}: {source:#}")]
    Libbpf {
        /// A verb.
        action: &'static str,
        /// The map, program or path.
        object: String,
        /// libbpf's answer.
        source: libbpf_rs::Error,
    },
    /// A value does not fit the map that it is for.
    #[error("{object}: {what}")]
    Invalid {
        /// The map or argument.
        object: String,
        /// What is wrong with it.
        what: String,
    },
}

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

pub(crate) fn kernel(action: &'static str, object: impl ToString) -> impl FnOnce(io::Error) -> Error {
    let object = object.to_string();
    move |source| Error::Kernel { action, object, source }
}

pub(crate) fn libbpf(action: &'static str, object: impl ToString) -> impl FnOnce(libbpf_rs::Error) -> Error {
    let object = object.to_string();
    move |source| Error::Libbpf { action, object, source }
}

pub(crate) fn invalid(object: impl ToString, what: impl ToString) -> Error {
    Error::Invalid { object: object.to_string(), what: what.to_string() }
}
