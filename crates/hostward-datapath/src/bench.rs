//! The verdict over many flows, for `bench datapath`: programs that move a frame on to the next flow before they decide.

use std::os::fd::AsFd as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use libbpf_rs::MapCore as _;
use libbpf_rs::MapFlags;
use libbpf_rs::MapHandle;
use libbpf_rs::ObjectBuilder;
use zerocopy::Immutable;
use zerocopy::IntoBytes;

use crate::constants::abi_version;
use crate::constants::set_slot;
use crate::error::Result;
use crate::error::invalid;
use crate::error::kernel;
use crate::error::libbpf;
use crate::ffi;
use crate::port::Direction;
use crate::sampling::sampling_word;

const ROTATIONS: &str = "hw_rotations";

/// Which flows a frame visits in turn: `struct hw_rotation` of `bpf/bench.bpf.c`.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub struct Rotation {
    /// The flow of the next run.
    pub next: u32,
    /// Flows visited in turn; at least 1.
    pub flows: u32,
    /// Remote addresses that they are spread over; at least 1.
    pub addresses: u32,
    /// The last 32 bits of the first remote address.
    pub first_address: u32,
    /// Where those bits stand in the frame.
    pub address_offset: u32,
    /// The opener's port of the first flow.
    pub first_port: u32,
    /// Where that port stands in the frame.
    pub port_offset: u32,
    /// The sequence number of the next run.
    pub seq: u32,
    /// What every flow's visit sends, in bytes.
    pub seq_step: u32,
    /// Where the sequence number stands in the frame.
    pub seq_offset: u32,
}

/// What [`Bench::try_sampling`] tries: `struct hw_trial` of `bpf/bench.bpf.c`.
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
#[repr(C)]
struct Trial {
    seed: u64,
    sampling: u64,
    packets: u32,
    period: u32,
    phase: u32,
    every: u32,
}

/// The rotating programs, over the pinned maps of a datapath. Nothing is ever attached.
pub struct Bench {
    egress: OwnedFd,
    ingress: OwnedFd,
    floor: OwnedFd,
    trial: OwnedFd,
    rotations: MapHandle,
}

impl Bench {
    /// Loads the programs for a slot, over the maps that are pinned under `pins`.
    ///
    /// # Errors
    /// No datapath of the object's layout is pinned there, or the verifier refuses.
    pub fn load(object: &Path, pins: &Path, slot: u32) -> Result<Self> {
        let mut open = ObjectBuilder::default().open_file(object).map_err(libbpf("open", object.display()))?;
        set_slot(&mut open, object, slot)?;
        let directory = pins.join(format!("maps_{}", abi_version(&open, object)?));
        for mut map in open.maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            if name != ROTATIONS && name.starts_with("hw_") {
                let path = directory.join(&name);
                map.reuse_pinned_map(&path).map_err(libbpf("reuse", path.display()))?;
            }
        }
        let loaded = open.load().map_err(libbpf("load", object.display()))?;
        let program = |name: &str| -> Result<OwnedFd> {
            let program = loaded.progs().find(|program| program.name() == name);
            let program = program.ok_or_else(|| invalid(object.display(), format!("no program {name}")))?;
            program.as_fd().try_clone_to_owned().map_err(kernel("hold", name))
        };
        let rotations = loaded.maps().find(|map| map.name() == ROTATIONS);
        let rotations = rotations.ok_or_else(|| invalid(object.display(), format!("no map {ROTATIONS}")))?;
        Ok(Self {
            egress: program("hw_rotate_egress")?,
            ingress: program("hw_rotate_ingress")?,
            floor: program("hw_rotate_floor")?,
            trial: program("hw_sampling_trial")?,
            rotations: MapHandle::try_from(&rotations).map_err(libbpf("open", ROTATIONS))?,
        })
    }

    /// Sets which flows the following runs visit.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn rotate(&self, rotation: &Rotation) -> Result<()> {
        self.rotations
            .update(&0u32.to_ne_bytes(), rotation.as_bytes(), MapFlags::ANY)
            .map_err(libbpf("write", ROTATIONS))
    }

    /// Runs the verdict on the next `repeat` flows: (the last one passed, nanoseconds for one run).
    ///
    /// # Errors
    /// The kernel refuses, or the frame is too short to be rotated.
    pub fn run(&self, direction: Direction, frame: &[u8], repeat: u32) -> Result<(bool, u32)> {
        let program = match direction {
            Direction::Egress => &self.egress,
            Direction::Ingress => &self.ingress,
        };
        run(program, frame, repeat)
    }

    /// How many of `packets` packets are taken at one in `rate` whose number leaves `phase` when divided by `period`: at
    /// random from `seed`, or, where `in_step`, every `rate`-th.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn try_sampling(
        &self,
        seed: u64,
        rate: u32,
        packets: u32,
        (period, phase): (u32, u32),
        in_step: bool,
    ) -> Result<u32> {
        let every = if in_step { rate } else { 0 };
        let trial = Trial { seed: seed.max(1), sampling: sampling_word(rate), packets, period, phase, every };
        let (found, _) =
            ffi::test_run(self.trial.as_fd(), trial.as_bytes(), 1).map_err(kernel("run", "sampling trial"))?;
        Ok(found)
    }

    /// Nanoseconds for one run that moves the frame on and decides nothing.
    ///
    /// # Errors
    /// The kernel refuses, or the frame is too short to be rotated.
    pub fn run_floor(&self, frame: &[u8], repeat: u32) -> Result<u32> {
        run(&self.floor, frame, repeat).map(|(_, nanoseconds)| nanoseconds)
    }
}

fn run(program: &OwnedFd, frame: &[u8], repeat: u32) -> Result<(bool, u32)> {
    /// `TC_ACT_UNSPEC`, which the verdict never returns.
    const NOT_ROTATED: u32 = u32::MAX;
    let (code, nanoseconds) = ffi::test_run(program.as_fd(), frame, repeat).map_err(kernel("run", "rotation"))?;
    if code == NOT_ROTATED {
        return Err(invalid("rotation", "the frame is too short, or no rotation is set"));
    }
    Ok((code == 0, nanoseconds))
}
