//! The gate's programs on the devices of its ports, and the deadlines that they hold to. See `bpf/gate.bpf.c`.
//!
//! Everything is pinned: what is attached closes its port at the deadline with no process alive. Whoever opens the gate
//! anew closes every port first.

use std::fs;
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::AsFd as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use libbpf_rs::ObjectBuilder;
use libbpf_rs::OpenObject;
use zerocopy::Immutable;
use zerocopy::IntoBytes;

use crate::error::Result;
use crate::error::invalid;
use crate::error::kernel;
use crate::error::libbpf;
use crate::ffi;
use crate::maps::open_pinned;
use crate::netns;
use crate::port::BASE_PRIORITY;
use crate::port::Direction;
use crate::port::VERDICT_PRIORITY;
use crate::port::attach_filter;

const ENDS: &str = "hw_gate_ends";
const PROFILE: &str = "hw_gate_profile";
const DROPPED: &str = "hw_gate_dropped";
const CONSTANT: &str = ".rodata.gate";

/// How a gate's programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateHook {
    /// Both on the host's device, by pinned tcx links; Linux 6.6.
    Tcx,
    /// Both on the host's device, as clsact filters.
    Clsact,
    /// Each where its packets come in: the host's device, and the fabric's.
    Xdp,
}

/// Whom a quarantined host may speak with: `struct hw_gate_allowed` of `bpf/gate.bpf.c`.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
struct Allowed {
    address: [u8; 16],
    prefix_bits: u8,
    protocol: u8,
    port: [u8; 2],
    used: u32,
}

/// One gate's maps and object.
pub struct Gate {
    object: PathBuf,
    pins: PathBuf,
    maps: Vec<MapHandle>,
    ends: ffi::SharedWords,
}

impl Gate {
    /// Opens the maps pinned under `pins`, or makes them, and closes every port.
    ///
    /// # Errors
    /// bpffs or the kernel refuses.
    pub fn open(object: &Path, pins: &Path) -> Result<Self> {
        let directory = pins.join("maps");
        fs::create_dir_all(&directory).map_err(kernel("create", directory.display()))?;
        if [ENDS, PROFILE, DROPPED].iter().any(|name| !directory.join(name).exists()) {
            let mut open = open_object(object)?;
            for mut program in open.progs_mut() {
                program.set_autoload(false);
            }
            let loaded = open.load().map_err(libbpf("create the maps of", object.display()))?;
            for map in loaded.maps() {
                let Some(name) = [ENDS, PROFILE, DROPPED].into_iter().find(|name| map.name() == *name) else {
                    continue;
                };
                let path = directory.join(name);
                if path.exists() {
                    fs::remove_file(&path).map_err(kernel("remove", path.display()))?;
                }
                ffi::pin(map.as_fd(), &path).map_err(kernel("pin", path.display()))?;
            }
        }
        let maps = [ENDS, PROFILE, DROPPED]
            .iter()
            .map(|name| open_pinned(&directory.join(name)))
            .collect::<Result<Vec<_>>>()?;
        let ends =
            ffi::SharedWords::new(maps[0].as_fd(), maps[0].max_entries() as usize).map_err(kernel("map", ENDS))?;
        for end in ends.words() {
            end.store(0, Ordering::Release);
        }
        Ok(Self { object: object.to_owned(), pins: pins.to_owned(), maps, ends })
    }

    /// Sets when a port closes, by `CLOCK_MONOTONIC`; 0: it is closed, 1: the profile does not hold either.
    ///
    /// # Errors
    /// There are not so many ports.
    pub fn set_end(&self, port: u32, nanoseconds: u64) -> Result<()> {
        let word = self.ends.words().get(port as usize).ok_or_else(|| invalid(ENDS, format!("no port {port}")))?;
        word.store(nanoseconds, Ordering::Release);
        Ok(())
    }

    /// Sets whom quarantined hosts may speak with: address, prefix length of 128, protocol, port of the far end.
    ///
    /// # Errors
    /// There are more than the profile has room for.
    pub fn set_profile(&self, allowed: &[(Ipv6Addr, u8, u8, u16)]) -> Result<()> {
        let map = &self.maps[1];
        let room = map.max_entries() as usize;
        if allowed.len() > room {
            return Err(invalid(PROFILE, format!("{} entries, and {room} are the limit", allowed.len())));
        }
        let unused = Allowed { address: [0; 16], prefix_bits: 0, protocol: 0, port: [0; 2], used: 0 };
        let entries = allowed.iter().map(|&(address, prefix_bits, protocol, port)| Allowed {
            address: address.octets(),
            prefix_bits,
            protocol,
            port: port.to_be_bytes(),
            used: 1,
        });
        for (index, entry) in (0u32..).zip(entries.chain(std::iter::repeat(unused)).take(room)) {
            map.update(&index.to_ne_bytes(), entry.as_bytes(), MapFlags::ANY).map_err(libbpf("write", PROFILE))?;
        }
        Ok(())
    }

    /// Puts the programs on a port's devices, replacing earlier ones without a gap. The port stays closed.
    ///
    /// # Errors
    /// A device is not there, or the kernel refuses.
    pub fn attach(&self, port: u32, namespace: &str, host: i32, fabric: i32, hook: GateHook) -> Result<()> {
        let mut open = open_object(&self.object)?;
        self.prepare(&mut open, port)?;
        let loaded = open.load().map_err(libbpf("load", self.object.display()))?;
        let program = |name: &str| -> Result<OwnedFd> {
            let program = loaded.progs().find(|program| program.name() == name);
            let program = program.ok_or_else(|| invalid(self.object.display(), format!("no program {name}")))?;
            program.as_fd().try_clone_to_owned().map_err(kernel("hold", name))
        };
        if hook == GateHook::Xdp {
            for (name, device) in [("hw_gate_xdp_from", host), ("hw_gate_xdp_to", fabric)] {
                self.attach_link(&program(name)?, port, name, namespace, device, libbpf_sys::BPF_XDP)?;
            }
            return Ok(());
        }
        let closed = program("hw_gate_closed")?;
        for (name, direction) in [("hw_gate_from", Direction::Egress), ("hw_gate_to", Direction::Ingress)] {
            let program = program(name)?;
            let attach = |program: &OwnedFd, priority| {
                netns::run_in(namespace, || attach_filter(program.as_fd(), host, direction, priority))
                    .map_err(kernel("attach", format!("{name} to device {host}")))
            };
            attach(&closed, BASE_PRIORITY)?;
            match hook {
                GateHook::Clsact => attach(&program, VERDICT_PRIORITY)?,
                _ => self.attach_link(&program, port, name, namespace, host, direction.tcx())?,
            }
        }
        Ok(())
    }

    /// Packets that a closed port kept out: from the host, and to it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn dropped(&self, port: u32) -> Result<(u64, u64)> {
        let count = |way: u32| -> Result<u64> {
            let index = port * 2 + way;
            let each =
                self.maps[2].lookup_percpu(&index.to_ne_bytes(), MapFlags::ANY).map_err(libbpf("read", DROPPED))?;
            let each = each.ok_or_else(|| invalid(DROPPED, format!("no port {port}")))?;
            Ok(each.iter().filter_map(|bytes| Some(u64::from_ne_bytes(bytes.get(..8)?.try_into().ok()?))).sum())
        };
        Ok((count(0)?, count(1)?))
    }

    /// Removes every pin, and with them the links. What was attached as a filter stays, and stays closed.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn remove_pins(&self) -> Result<()> {
        for end in self.ends.words() {
            end.store(0, Ordering::Release);
        }
        match fs::remove_dir_all(&self.pins) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(kernel("remove", self.pins.display())(error)),
            _ => Ok(()),
        }
    }

    /// Makes an object's programs those of one port, over these maps.
    fn prepare(&self, open: &mut OpenObject, port: u32) -> Result<()> {
        if port >= self.maps[0].max_entries() {
            return Err(invalid(ENDS, format!("no port {port}")));
        }
        for mut map in open.maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            if name.ends_with(CONSTANT) {
                let value = map.initial_value_mut().ok_or_else(|| invalid(CONSTANT, "it has no initial value"))?;
                let word = value.get_mut(..4).ok_or_else(|| invalid(CONSTANT, "it has another layout"))?;
                word.copy_from_slice(&port.to_ne_bytes());
            } else if let Some(at) = [ENDS, PROFILE, DROPPED].iter().position(|known| name == *known) {
                map.reuse_fd(self.maps[at].as_fd()).map_err(libbpf("reuse", name))?;
            }
        }
        Ok(())
    }

    fn attach_link(
        &self,
        program: &OwnedFd,
        port: u32,
        name: &str,
        namespace: &str,
        device: i32,
        hook: libbpf_sys::bpf_attach_type,
    ) -> Result<()> {
        let directory = self.pins.join(format!("port_{port}"));
        fs::create_dir_all(&directory).map_err(kernel("create", directory.display()))?;
        let path = directory.join(name);
        if path.exists() {
            let link = ffi::open_pinned(&path).map_err(kernel("open", path.display()))?;
            if ffi::update_link(link.as_fd(), program.as_fd()).is_ok() {
                return Ok(());
            }
            // Its device is gone.
            fs::remove_file(&path).map_err(kernel("remove", path.display()))?;
        }
        let link = netns::run_in(namespace, || ffi::attach_device(program.as_fd(), device, hook))
            .map_err(kernel("attach", format!("{name} to device {device}")))?;
        ffi::pin(link.as_fd(), &path).map_err(kernel("pin", path.display()))
    }
}

fn open_object(path: &Path) -> Result<OpenObject> {
    ObjectBuilder::default().open_file(path).map_err(libbpf("open", path.display()))
}
