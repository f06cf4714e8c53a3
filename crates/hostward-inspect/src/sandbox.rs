//! What the inspector gives up before it looks at a tenant's byte.
//!
//! Afterwards it is nobody, holds no capability and can gain none, reads and writes files only in the folders it was told
//! of, opens no socket, starts no program and traces no process. It keeps what it was handed: the ring, the array, the
//! control socket and the log's pipe. A mistake in a parser is a mistake of this process.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use landlock::ABI;
use landlock::Access as _;
use landlock::AccessFs;
use landlock::PathBeneath;
use landlock::PathFd;
use landlock::Ruleset;
use landlock::RulesetAttr as _;
use landlock::RulesetCreatedAttr as _;
use landlock::RulesetStatus;
use rustix::process::Gid;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::Uid;
use rustix::process::setrlimit;
use rustix::thread::CapabilitySet;
use rustix::thread::CapabilitySets;
use rustix::thread::set_capabilities;
use rustix::thread::set_thread_groups;
use rustix::thread::set_thread_res_gid;
use rustix::thread::set_thread_res_uid;
use seccompiler::BpfProgram;
use seccompiler::SeccompAction;
use seccompiler::SeccompFilter;

/// What stays possible.
#[derive(Debug)]
pub struct Sandbox {
    /// Who to be.
    pub uid: u32,
    /// Of which group.
    pub gid: u32,
    /// The one folder whose files can still be opened; it becomes the working folder, by which it is reached although
    /// nobody may look into the folders above.
    pub folder: PathBuf,
    /// Address space, in bytes.
    pub memory_len: u64,
}

/// What was given up, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confined {
    /// Whether the kernel confines the files that can be opened (Landlock, Linux 5.13).
    pub files: bool,
}

impl Sandbox {
    /// Gives up everything else. Only while the process has one thread: credentials are a thread's.
    ///
    /// # Errors
    /// The kernel refuses; then the process must not go on.
    pub fn enter(&self) -> io::Result<Confined> {
        std::env::set_current_dir(&self.folder)?;
        let limit = Rlimit { current: Some(self.memory_len), maximum: Some(self.memory_len) };
        setrlimit(Resource::As, limit)?;
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
        rustix::thread::set_no_new_privs(true)?;
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        if rustix::process::geteuid().is_root() {
            set_thread_groups(&[])?;
            set_thread_res_gid(gid, gid, gid)?;
            set_thread_res_uid(uid, uid, uid)?;
        }
        let none = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
        let files = confine_files()?;
        seccompiler::apply_filter(&filter()?).map_err(io::Error::other)?;
        Ok(Confined { files })
    }
}

fn confine_files() -> io::Result<bool> {
    let all = AccessFs::from_all(ABI::V3);
    let rules = Ruleset::default().handle_access(all).and_then(Ruleset::create).map_err(io::Error::other)?;
    let own = PathFd::new(".").map_err(io::Error::other)?;
    let rules = rules.add_rule(PathBeneath::new(own, all)).map_err(io::Error::other)?;
    let status = rules.restrict_self().map_err(io::Error::other)?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

/// System calls that remain; any other kills the process, which its parent sees and starts anew.
fn filter() -> io::Result<BpfProgram> {
    let mut allowed = vec![
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_pread64,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_close,
        libc::SYS_openat,
        libc::SYS_fstat,
        libc::SYS_newfstatat,
        libc::SYS_statx,
        libc::SYS_lseek,
        libc::SYS_getdents64,
        libc::SYS_readlinkat,
        libc::SYS_unlinkat,
        libc::SYS_mkdirat,
        libc::SYS_fsync,
        libc::SYS_ftruncate,
        libc::SYS_fcntl,
        libc::SYS_ioctl,
        libc::SYS_recvmsg,
        libc::SYS_recvfrom,
        libc::SYS_sendmsg,
        libc::SYS_sendto,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_mprotect,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_futex,
        libc::SYS_clone3,
        libc::SYS_clone,
        libc::SYS_set_robust_list,
        libc::SYS_rseq,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_gettid,
        libc::SYS_getpid,
        libc::SYS_prctl,
        libc::SYS_sigaltstack,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigreturn,
        libc::SYS_tgkill,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_epoll_pwait,
        libc::SYS_epoll_ctl,
        libc::SYS_epoll_create1,
        libc::SYS_ppoll,
        libc::SYS_getrandom,
        libc::SYS_restart_syscall,
        libc::SYS_getrusage,
        libc::SYS_membarrier,
        libc::SYS_renameat2,
        libc::SYS_faccessat2,
        libc::SYS_getuid,
        libc::SYS_geteuid,
        libc::SYS_sysinfo,
        libc::SYS_uname,
        libc::SYS_prlimit64,
        libc::SYS_fdatasync,
    ];
    // Calls that only older architectures have; others have but their successors.
    #[cfg(target_arch = "x86_64")]
    allowed.extend([
        libc::SYS_epoll_wait,
        libc::SYS_poll,
        libc::SYS_rename,
        libc::SYS_unlink,
        libc::SYS_mkdir,
        libc::SYS_open,
        libc::SYS_stat,
        libc::SYS_lstat,
        libc::SYS_access,
        libc::SYS_readlink,
    ]);
    let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> =
        allowed.into_iter().map(|call| (call, Vec::new())).collect();
    let architecture = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, architecture)
        .and_then(TryInto::try_into)
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::env;
    use std::fs;
    use std::net::UdpSocket;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    const ASKED: &str = "HOSTWARD_SANDBOX_PROBE";
    const CONFINED: &str = "HOSTWARD_SANDBOX_CONFINED";
    /// SIGSYS, by which a system call that is not allowed ends the process.
    const REFUSED_CALL: i32 = 31;

    /// Run by the tests below in a process of its own: does what is asked, confined or not.
    #[test]
    fn probe() {
        let Ok(asked) = env::var(ASKED) else { return };
        if env::var_os(CONFINED).is_some() {
            let folder = env::temp_dir().join(format!("hostward-sandbox-{}", std::process::id()));
            fs::create_dir_all(&folder).expect("a folder");
            std::os::unix::fs::chown(&folder, Some(65_534), Some(65_534)).ok();
            let sandbox = Sandbox { uid: 65_534, gid: 65_534, folder, memory_len: 4 << 30 };
            sandbox.enter().expect("confined");
        }
        let done = match asked.as_str() {
            "read" => fs::read("/etc/passwd").is_ok(),
            "write" => fs::write("/tmp/hostward-sandbox-written", b"x").is_ok(),
            "own" => fs::write("kept", b"x").and_then(|()| fs::read("kept")).is_ok(),
            "socket" => UdpSocket::bind("127.0.0.1:0").is_ok(),
            "run" => Command::new("/bin/true").status().is_ok_and(|status| status.success()),
            "root" => rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).is_ok(),
            _ => false,
        };
        std::process::exit(if done { 0 } else { 3 });
    }

    /// How it ended: 0 if it could, 3 if the kernel refused, or the signal that ended it.
    fn outcome(asked: &str, confined: bool) -> (Option<i32>, Option<i32>) {
        let mut command = Command::new(env::current_exe().expect("this program"));
        command.args(["--exact", "sandbox::tests::probe", "--test-threads=1"]).env(ASKED, asked);
        if confined {
            command.env(CONFINED, "1");
        }
        let status = command.output().expect("it starts").status;
        (status.code(), status.signal())
    }

    #[test]
    fn what_an_attacker_would_want_is_refused_and_was_possible_before() {
        if !rustix::process::geteuid().is_root() {
            return; // it is nobody already
        }
        for asked in ["read", "write", "socket", "run", "root"] {
            assert_eq!(outcome(asked, false), (Some(0), None), "{asked}, unconfined");
        }
        for asked in ["read", "write"] {
            assert_eq!(outcome(asked, true), (Some(3), None), "{asked}");
        }
        for asked in ["socket", "run", "root"] {
            assert_eq!(outcome(asked, true), (None, Some(REFUSED_CALL)), "{asked}");
        }
    }

    #[test]
    fn its_own_folder_stays() {
        assert_eq!(outcome("own", true), (Some(0), None));
    }
}
