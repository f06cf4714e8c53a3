//! What a port's programs are told when they are loaded.

use std::path::Path;

use hostward_abi as abi;
use libbpf_rs::OpenObject;
use rustix::time::ClockId;
use rustix::time::clock_getres;
use zerocopy::FromBytes as _;

use crate::error::Result;
use crate::error::invalid;

/// How the name of the section for `struct hw_constants` ends.
const SECTION: &str = ".rodata.port";

/// The ABI version that an object was compiled with.
///
/// # Errors
/// It is no object of ours.
pub(crate) fn abi_version(open: &OpenObject, object: &Path) -> Result<u32> {
    open.maps()
        .find(|map| map.name().to_string_lossy().ends_with(SECTION))
        .and_then(|map| {
            let (constants, _) = abi::Constants::read_from_prefix(map.initial_value()?).ok()?;
            Some(constants.abi_version)
        })
        .ok_or_else(|| invalid(object.display(), "it has no constants"))
}

/// Makes the programs of an object those of a slot.
///
/// # Errors
/// It is no object of ours.
pub(crate) fn set_slot(open: &mut OpenObject, object: &Path, slot: u32) -> Result<()> {
    let map = open.maps_mut().find(|map| map.name().to_string_lossy().ends_with(SECTION));
    let mut map = map.ok_or_else(|| invalid(object.display(), "it has no constants"))?;
    let bytes = map.initial_value_mut().ok_or_else(|| invalid(SECTION, "it has no initial value"))?;
    let (constants, _) =
        abi::Constants::mut_from_prefix(bytes).map_err(|_| invalid(SECTION, "it has another layout"))?;
    constants.slot = slot;
    // The kernel moves this clock once a jiffy, and says how long that is only here.
    let tick = clock_getres(ClockId::MonotonicCoarse);
    constants.tick_ns = u32::try_from(tick.tv_nsec).map_err(|_| invalid("CLOCK_MONOTONIC_COARSE", "no resolution"))?;
    Ok(())
}
