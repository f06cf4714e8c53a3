//! One endpoint's port: its two programs, the closed base behind them, and their pins.
//!
//! With tcx (Linux 6.6) each program is attached by a pinned link in front of a clsact qdisc whose only filter drops: a
//! lost link leaves a closed port. Without tcx the verdict is a clsact filter itself, before the one that drops.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

use hostward_abi as abi;
use libbpf_rs::Link;
use libbpf_rs::TC_EGRESS;
use libbpf_rs::TC_INGRESS;
use libbpf_rs::TcAttachPoint;
use libbpf_rs::TcHookBuilder;
use libbpf_rs::query::LinkTypeInfo;
use zerocopy::FromBytes as _;
use zerocopy::IntoBytes as _;

use crate::constants::set_slot;
use crate::error::Result;
use crate::error::invalid;
use crate::error::kernel;
use crate::error::libbpf;
use crate::ffi;
use crate::maps::Maps;
use crate::netns;
use crate::place::Place;

/// The classifier's preference of the verdict and of the base; lower numbers come first.
pub(crate) const VERDICT_PRIORITY: u32 = 1;
pub(crate) const BASE_PRIORITY: u32 = 0xffff;
const HANDLE: u32 = 1;

/// How the verdict programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Pinned tcx links, Linux 6.6 and later.
    Tcx,
    /// clsact filters, for Debian 12's 6.1.
    Clsact,
}

/// What the workload sends, or is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the workload.
    Egress,
    /// To the workload.
    Ingress,
}

/// What is done with an endpoint's guard; whichever it is, packets find the guard as it says from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing but that.
    Mend,
    /// The endpoint is quarantined by command.
    Hold,
    /// It is not by command any more.
    Unhold,
    /// Nothing is done about it any more, and counting begins anew; with the release's number.
    Release(u32),
}

impl Order {
    fn value(self) -> abi::Order {
        let (kind, release) = match self {
            Self::Mend => (abi::order_kind::ORDER_MEND, 0),
            Self::Hold => (abi::order_kind::ORDER_HOLD, 0),
            Self::Unhold => (abi::order_kind::ORDER_UNHOLD, 0),
            Self::Release(number) => (abi::order_kind::ORDER_RELEASE, number),
        };
        abi::Order { kind, release }
    }
}

impl Direction {
    pub(crate) const BOTH: [Self; 2] = [Self::Egress, Self::Ingress];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        }
    }

    /// What leaves the workload comes *in* at the host's side of its port.
    fn attach_point(self) -> TcAttachPoint {
        match self {
            Self::Egress => TC_INGRESS,
            Self::Ingress => TC_EGRESS,
        }
    }

    pub(crate) fn tcx(self) -> libbpf_sys::bpf_attach_type {
        match self {
            Self::Egress => libbpf_sys::BPF_TCX_INGRESS,
            Self::Ingress => libbpf_sys::BPF_TCX_EGRESS,
        }
    }
}

/// A loaded port.
pub struct Port {
    slot: u32,
    directory: PathBuf,
    egress: OwnedFd,
    ingress: OwnedFd,
    closed: OwnedFd,
    empty: OwnedFd,
    flush: OwnedFd,
    import: OwnedFd,
    order: OwnedFd,
    judge: OwnedFd,
}

impl Port {
    /// Loads the programs for a slot. Nothing is attached yet.
    pub(crate) fn load(object: &Path, maps: &Maps, directory: PathBuf, slot: u32) -> Result<Self> {
        let mut open = maps.object_for_port(object)?;
        set_slot(&mut open, object, slot)?;
        let loaded = open.load().map_err(libbpf("load", object.display()))?;
        let program = |name: &str| -> Result<OwnedFd> {
            let program = loaded.progs().find(|program| program.name() == name);
            let program = program.ok_or_else(|| invalid(object.display(), format!("no program {name}")))?;
            program.as_fd().try_clone_to_owned().map_err(kernel("hold", name))
        };
        Ok(Self {
            slot,
            directory,
            egress: program("hw_egress")?,
            ingress: program("hw_ingress")?,
            closed: program("hw_closed")?,
            empty: program("hw_empty")?,
            flush: program("hw_flush")?,
            import: program("hw_import")?,
            order: program("hw_order")?,
            judge: program("hw_judge")?,
        })
    }

    /// The slot that the programs were loaded for.
    #[must_use]
    pub fn slot(&self) -> u32 {
        self.slot
    }

    fn program(&self, direction: Direction) -> BorrowedFd<'_> {
        match direction {
            Direction::Egress => self.egress.as_fd(),
            Direction::Ingress => self.ingress.as_fd(),
        }
    }

    /// Closes a device: from here on it passes nothing until a verdict program is attached in front.
    ///
    /// # Errors
    /// The device is not there, or the kernel refuses the qdisc or a filter.
    pub fn close_device(&self, namespace: &str, ifindex: i32) -> Result<()> {
        let closed = self.closed.as_fd();
        netns::run_in(namespace, || {
            for direction in Direction::BOTH {
                attach_filter(closed, ifindex, direction, BASE_PRIORITY)?;
            }
            Ok(())
        })
        .map_err(kernel("close", format!("device {ifindex}")))
    }

    /// Puts the verdict programs on a closed device, replacing earlier ones of this port without a gap.
    ///
    /// # Errors
    /// The device is not there, or the kernel refuses.
    pub fn attach(&self, namespace: &str, ifindex: i32, hook: Hook) -> Result<()> {
        Place { ifindex, namespace: namespace.to_owned() }.record(&self.directory)?;
        for direction in Direction::BOTH {
            let object = || format!("{} of device {ifindex}", direction.word());
            match hook {
                Hook::Tcx => self.attach_link(namespace, ifindex, direction)?,
                Hook::Clsact => {
                    let program = self.program(direction);
                    netns::run_in(namespace, || attach_filter(program, ifindex, direction, VERDICT_PRIORITY))
                        .map_err(kernel("attach", object()))?;
                }
            }
            self.pin_program(direction)?;
        }
        Ok(())
    }

    fn link_path(&self, direction: Direction) -> PathBuf {
        self.directory.join(format!("{}_link", direction.word()))
    }

    fn attach_link(&self, namespace: &str, ifindex: i32, direction: Direction) -> Result<()> {
        let path = self.link_path(direction);
        let object = || format!("{} of device {ifindex}", direction.word());
        fs::create_dir_all(&self.directory).map_err(kernel("create", self.directory.display()))?;
        if path.exists() {
            let link = ffi::open_pinned(&path).map_err(kernel("open", path.display()))?;
            if linked_ifindex(&path) == Some(ifindex) && ffi::update_link(link.as_fd(), self.program(direction)).is_ok()
            {
                return Ok(());
            }
            // Its device is gone (ifindex 0), or it is another device's: of no use here.
            fs::remove_file(&path).map_err(kernel("remove", path.display()))?;
        }
        let program = self.program(direction);
        let link = netns::run_in(namespace, || ffi::attach_device(program, ifindex, direction.tcx()))
            .map_err(kernel("attach", object()))?;
        ffi::pin(link.as_fd(), &path).map_err(kernel("pin", path.display()))
    }

    /// The program's own pin: it keeps the endpoint's slot on record where there is no link to pin.
    fn pin_program(&self, direction: Direction) -> Result<()> {
        let path = self.directory.join(format!("{}_program", direction.word()));
        fs::create_dir_all(&self.directory).map_err(kernel("create", self.directory.display()))?;
        if path.exists() {
            fs::remove_file(&path).map_err(kernel("remove", path.display()))?;
        }
        ffi::pin(self.program(direction), &path).map_err(kernel("pin", path.display()))
    }

    /// What is not as [`Port::attach`] left it, read from the kernel; empty when all is well.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn inspect(&self, namespace: &str, ifindex: i32, hook: Hook) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        for direction in Direction::BOTH {
            let word = direction.word();
            let closed = program_id(self.closed.as_fd());
            let verdict = program_id(self.program(direction));
            let (base, filter) = netns::run_in(namespace, || {
                let query = |priority| query_filter(self.closed.as_fd(), ifindex, direction, priority);
                Ok((query(BASE_PRIORITY), query(VERDICT_PRIORITY)))
            })
            .map_err(kernel("read back", format!("device {ifindex}")))?;
            if base.is_none() || base != closed {
                wrong.push(format!("{word}: the closed base is gone"));
            }
            match hook {
                Hook::Tcx => {
                    let path = self.link_path(direction);
                    if !path.exists() {
                        wrong.push(format!("{word}: the link's pin is gone"));
                    } else if linked_ifindex(&path) != Some(ifindex) {
                        wrong.push(format!("{word}: the link is detached"));
                    } else if linked_program(&path) != verdict {
                        wrong.push(format!("{word}: the link runs another program"));
                    }
                }
                Hook::Clsact if filter.is_none() || filter != verdict => {
                    wrong.push(format!("{word}: the verdict filter is gone"));
                }
                Hook::Clsact => {}
            }
        }
        Ok(wrong)
    }

    /// Removes links, filters and pins. The device stays closed.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn detach(&self, namespace: &str, ifindex: i32) -> Result<()> {
        let closed = self.closed.as_fd();
        // The device may be gone; then there is nothing to take off it.
        let _ = netns::run_in(namespace, || {
            for direction in Direction::BOTH {
                attach_filter(closed, ifindex, direction, VERDICT_PRIORITY)?;
            }
            Ok(())
        });
        self.remove_pins()
    }

    /// Removes the pins of a port, and with them its links.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn remove_pins(&self) -> Result<()> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(kernel("remove", self.directory.display())(error))
            }
            _ => Ok(()),
        }
    }

    /// Reports what waits in the endpoint's denials.
    ///
    /// # Errors
    /// The kernel refuses to run the program.
    pub fn flush_denials(&self) -> Result<()> {
        // Any frame will do: the program does not look at it.
        ffi::test_run(self.flush.as_fd(), &[0; 64], 1).map(drop).map_err(kernel("run", "hw_flush"))
    }

    /// Has the datapath do something with the endpoint's guard.
    ///
    /// # Errors
    /// The kernel refuses to run the program, or packets kept the guard busy all the time.
    pub fn order(&self, order: Order) -> Result<()> {
        let mut frame = [0; 64];
        frame[..size_of::<abi::Order>()].copy_from_slice(order.value().as_bytes());
        let (done, _) = ffi::test_run(self.order.as_fd(), &frame, 1).map_err(kernel("run", "hw_order"))?;
        if done == 1 { Ok(()) } else { Err(invalid("hw_guards", format!("slot {} is busy", self.slot))) }
    }

    /// Does with a flow of this slot what the inspector asks; whether the flow is there and is still the same.
    ///
    /// # Errors
    /// The kernel refuses to run the program.
    pub fn judge(&self, key: &[u8; size_of::<abi::FlowKey>()], tag: u32, marks: u32) -> Result<bool> {
        let key = abi::FlowKey::read_from_bytes(key).map_err(|_| invalid("hw_judge", "no key of a flow"))?;
        let judgement = abi::Judgement { key, tag, marks };
        let (done, _) =
            ffi::test_run(self.judge.as_fd(), judgement.as_bytes(), 1).map_err(kernel("run", "hw_judge"))?;
        Ok(done == 1)
    }

    /// Takes over a flow of an older datapath, a `struct hw_import`: an `enum hw_import_outcome`.
    ///
    /// # Errors
    /// The kernel refuses to run the program.
    pub(crate) fn import(&self, record: &[u8]) -> Result<u32> {
        ffi::test_run(self.import.as_fd(), record, 1).map(|(outcome, _)| outcome).map_err(kernel("run", "hw_import"))
    }

    /// Runs a verdict program on a frame `repeat` times: (verdict passed, nanoseconds for one run).
    ///
    /// # Errors
    /// The kernel refuses the frame (it wants at least an Ethernet header).
    pub fn run(&self, direction: Direction, frame: &[u8], repeat: u32) -> Result<(bool, u32)> {
        let (code, nanoseconds) =
            ffi::test_run(self.program(direction), frame, repeat).map_err(kernel("run", "verdict"))?;
        Ok((code == 0, nanoseconds))
    }

    /// Nanoseconds for one run of the empty program.
    ///
    /// # Errors
    /// The kernel refuses the frame.
    pub fn run_empty(&self, frame: &[u8], repeat: u32) -> Result<u32> {
        ffi::test_run(self.empty.as_fd(), frame, repeat)
            .map(|(_, nanoseconds)| nanoseconds)
            .map_err(kernel("run", "hw_empty"))
    }
}

fn io_error(error: &libbpf_rs::Error) -> io::Error {
    io::Error::other(format!("{error:#}"))
}

pub(crate) fn attach_filter(
    program: BorrowedFd<'_>,
    ifindex: i32,
    direction: Direction,
    priority: u32,
) -> io::Result<()> {
    let mut hook = TcHookBuilder::new(program)
        .ifindex(ifindex)
        .handle(HANDLE)
        .priority(priority)
        .replace(true)
        .hook(direction.attach_point());
    hook.create().map_err(|error| io_error(&error))?;
    hook.attach().map(drop).map_err(|error| io_error(&error))
}

fn query_filter(any: BorrowedFd<'_>, ifindex: i32, direction: Direction, priority: u32) -> Option<u32> {
    TcHookBuilder::new(any)
        .ifindex(ifindex)
        .handle(HANDLE)
        .priority(priority)
        .hook(direction.attach_point())
        .query()
        .ok()
}

fn linked_ifindex(path: &Path) -> Option<i32> {
    match Link::open(path).ok()?.info().ok()?.info {
        LinkTypeInfo::Tcx(info) => i32::try_from(info.ifindex).ok(),
        _ => None,
    }
}

fn linked_program(path: &Path) -> Option<u32> {
    Some(Link::open(path).ok()?.info().ok()?.prog_id)
}

fn program_id(program: BorrowedFd<'_>) -> Option<u32> {
    debug_assert!(program.as_raw_fd() >= 0);
    libbpf_rs::Program::id_from_fd(program).ok()
}
