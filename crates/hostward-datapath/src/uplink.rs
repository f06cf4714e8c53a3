//! The programs at the host's uplink: who fills its downlink, and which queue a restrained destination has.
//!
//! Both are clsact filters, on every kernel, and neither is there unless it is wanted. Their maps are no one else's and
//! are not pinned: what an agent that died has left behind is replaced whole, and ceilings end by themselves.

use std::collections::HashSet;
use std::io;
use std::os::fd::AsFd as _;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use libbpf_rs::ObjectBuilder;
use libbpf_rs::TC_EGRESS;
use libbpf_rs::TC_INGRESS;
use libbpf_rs::TcAttachPoint;
use libbpf_rs::TcHook;
use libbpf_rs::TcHookBuilder;
use zerocopy::Immutable;
use zerocopy::IntoBytes;

use crate::error::Result;
use crate::error::invalid;
use crate::error::kernel;
use crate::error::libbpf;
use crate::netns;

/// A preference and handle of our own among other filters of the device.
const PRIORITY: u32 = 0x4857;
const HANDLE: u32 = 1;

/// `struct hw_pool_key` of `bpf/uplink.bpf.c`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct PoolKey {
    bits: u32,
    address: [u8; 16],
}

/// `struct hw_ceiling_key`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct CeilingKey {
    priority: u32,
    destination: [u8; 16],
}

/// `struct hw_ceiling`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct CeilingValue {
    until_ns: u64,
    priority: u32,
    padding: u32,
}

/// Packets of a tenant's class to one address have a class of their own until `until_ns` on the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceiling {
    /// What the datapath wrote into the packet.
    pub class: u32,
    /// The address; IPv4 as `::ffff:a.b.c.d`.
    pub destination: [u8; 16],
    /// The class with the ceiling.
    pub ceiling: u32,
    /// When it ends.
    pub until_ns: u64,
}

/// Bytes by source address; IPv4 as `::ffff:a.b.c.d`.
pub type Arrivals = Vec<([u8; 16], u64)>;

/// The loaded programs and their maps.
pub struct Uplink {
    arrivals: OwnedFd,
    ceiling: OwnedFd,
    pools: MapHandle,
    arrived: MapHandle,
    others: MapHandle,
    ceilings: MapHandle,
}

impl Uplink {
    /// Loads the programs. Nothing is attached yet.
    ///
    /// # Errors
    /// The verifier refuses, or the object is another one.
    pub fn load(object: &Path) -> Result<Self> {
        let open = ObjectBuilder::default().open_file(object).map_err(libbpf("open", object.display()))?;
        let loaded = open.load().map_err(libbpf("load", object.display()))?;
        let program = |name: &str| -> Result<OwnedFd> {
            let program = loaded.progs().find(|program| program.name() == name);
            let program = program.ok_or_else(|| invalid(object.display(), format!("no program {name}")))?;
            program.as_fd().try_clone_to_owned().map_err(kernel("hold", name))
        };
        let map = |name: &str| -> Result<MapHandle> {
            let map = loaded.maps().find(|map| map.name() == name);
            let map = map.ok_or_else(|| invalid(object.display(), format!("no map {name}")))?;
            MapHandle::try_from(&map).map_err(libbpf("open", name))
        };
        Ok(Self {
            arrivals: program("hw_arrivals")?,
            ceiling: program("hw_ceiling")?,
            pools: map("hw_pools")?,
            arrived: map("hw_arrived")?,
            others: map("hw_others")?,
            ceilings: map("hw_ceilings")?,
        })
    }

    /// Counts what arrives by the device from now on, by source for sources within the `pools`.
    ///
    /// # Errors
    /// The device is not there, or the kernel refuses.
    pub fn count(&self, namespace: &str, ifindex: i32, pools: &[([u8; 16], u32)]) -> Result<()> {
        let keys: Vec<_> = pools.iter().map(|&(address, bits)| PoolKey { bits, address }).collect();
        keep_only(&self.pools, "hw_pools", keys.iter().map(IntoBytes::as_bytes))?;
        for key in &keys {
            self.pools.update(key.as_bytes(), &[1], MapFlags::ANY).map_err(libbpf("write", "hw_pools"))?;
        }
        attach(self.arrivals.as_fd(), namespace, ifindex, TC_INGRESS)
    }

    /// The bytes that arrived since the last call, by source, and those of all others together.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn take_arrivals(&self) -> Result<(Arrivals, u64)> {
        let mut found = Vec::new();
        // All keys first: a walk that meets a removed key begins anew.
        for key in self.arrived.keys().collect::<Vec<_>>() {
            let taken = self.arrived.lookup_and_delete(&key).map_err(libbpf("take from", "hw_arrived"))?;
            if let (Ok(address), Some(bytes)) = (<[u8; 16]>::try_from(key), taken.as_deref().and_then(number)) {
                found.push((address, bytes));
            }
        }
        let zero = 0u32.to_ne_bytes();
        let held = self.others.lookup(&zero, MapFlags::ANY).map_err(libbpf("read", "hw_others"))?;
        self.others.update(&zero, &0u64.to_ne_bytes(), MapFlags::ANY).map_err(libbpf("write", "hw_others"))?;
        Ok((found, held.as_deref().and_then(number).unwrap_or_default()))
    }

    /// Counts no longer, whoever began to.
    ///
    /// # Errors
    /// The namespace cannot be entered.
    pub fn stop_counting(&self, namespace: &str, ifindex: i32) -> Result<()> {
        detach(self.arrivals.as_fd(), namespace, ifindex, TC_INGRESS)
    }

    /// Has exactly these ceilings from now on; without any, packets are not looked at.
    ///
    /// # Errors
    /// The device is not there, there is no room for all, or the kernel refuses.
    pub fn restrain(&self, namespace: &str, ifindex: i32, ceilings: &[Ceiling]) -> Result<()> {
        if ceilings.is_empty() {
            detach(self.ceiling.as_fd(), namespace, ifindex, TC_EGRESS)?;
        }
        let entries: Vec<_> = ceilings
            .iter()
            .map(|one| {
                let value = CeilingValue { until_ns: one.until_ns, priority: one.ceiling, padding: 0 };
                (CeilingKey { priority: one.class, destination: one.destination }, value)
            })
            .collect();
        keep_only(&self.ceilings, "hw_ceilings", entries.iter().map(|(key, _)| key.as_bytes()))?;
        for (key, value) in &entries {
            let written = self.ceilings.update(key.as_bytes(), value.as_bytes(), MapFlags::ANY);
            written.map_err(libbpf("write", "hw_ceilings"))?;
        }
        if ceilings.is_empty() { Ok(()) } else { attach(self.ceiling.as_fd(), namespace, ifindex, TC_EGRESS) }
    }
}

fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_ne_bytes)
}

fn keep_only<'a>(map: &MapHandle, name: &'static str, keys: impl Iterator<Item = &'a [u8]>) -> Result<()> {
    let kept: HashSet<&[u8]> = keys.collect();
    for key in map.keys().collect::<Vec<_>>() {
        if !kept.contains(key.as_slice()) {
            map.delete(&key).map_err(libbpf("remove from", name))?;
        }
    }
    Ok(())
}

fn filter(program: BorrowedFd<'_>, ifindex: i32, point: TcAttachPoint) -> TcHook {
    TcHookBuilder::new(program).ifindex(ifindex).handle(HANDLE).priority(PRIORITY).replace(true).hook(point)
}

fn attach(program: BorrowedFd<'_>, namespace: &str, ifindex: i32, point: TcAttachPoint) -> Result<()> {
    netns::run_in(namespace, || {
        let mut hook = filter(program, ifindex, point);
        hook.create().map_err(io::Error::other)?;
        hook.attach().map(drop).map_err(io::Error::other)
    })
    .map_err(kernel("attach", format!("the uplink's program to device {ifindex}")))
}

fn detach(program: BorrowedFd<'_>, namespace: &str, ifindex: i32, point: TcAttachPoint) -> Result<()> {
    netns::run_in(namespace, || {
        // The device, its qdisc or the filter may be gone; then there is nothing to take off.
        let _ = filter(program, ifindex, point).detach();
        Ok(())
    })
    .map_err(kernel("detach", format!("the uplink's program from device {ifindex}")))
}
