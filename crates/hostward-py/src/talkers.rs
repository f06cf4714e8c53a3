//! The heaviest peers of every endpoint, for Python.

use std::collections::HashMap;

use pyo3::prelude::*;

use crate::datapath::address_text;
use crate::refused;

/// Address, protocol, port, packets, bytes, flows.
type TalkerTuple = (String, u8, u16, u64, u64, u64);

/// See `_core.pyi`.
#[pyclass(frozen)]
pub struct Talkers {
    pub inner: hostward_datapath::Talkers,
}

#[pymethods]
impl Talkers {
    fn read(&self, py: Python<'_>, limit: usize) -> PyResult<HashMap<u32, Vec<TalkerTuple>>> {
        let found = py.detach(|| self.inner.read(limit)).map_err(refused)?;
        let mut by_slot: HashMap<u32, Vec<TalkerTuple>> = HashMap::new();
        for (talk, volume) in found {
            let talker =
                (address_text(talk.remote), talk.protocol, talk.port, volume.packets, volume.bytes, volume.flows);
            by_slot.entry(talk.slot).or_default().push(talker);
        }
        Ok(by_slot)
    }
}
