//! Doing something inside another network namespace, without moving the caller's thread there.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::path::PathBuf;

use rustix::thread::LinkNameSpaceType;
use rustix::thread::move_into_link_name_space;

/// The file of a namespace: a name is looked up under `/run/netns`, a path is taken as it is, empty is the caller's own.
#[must_use]
pub fn namespace_path(namespace: &str) -> Option<PathBuf> {
    match namespace {
        "" => None,
        path if path.starts_with('/') => Some(PathBuf::from(path)),
        name => Some(Path::new("/run/netns").join(name)),
    }
}

/// Runs `work` in the namespace, on a thread of its own: a thread that has moved is never used for anything else.
///
/// # Errors
/// The namespace cannot be opened or entered, or `work` failed.
pub fn run_in<T: Send>(namespace: &str, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let Some(path) = namespace_path(namespace) else {
        return work();
    };
    let file = File::open(path)?;
    std::thread::scope(|scope| {
        scope
            .spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
                work()
            })
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread inside the namespace panicked")))
    })
}
