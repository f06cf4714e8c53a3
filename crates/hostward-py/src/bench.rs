//! The benchmark's programs, as Python sees them.

use std::path::PathBuf;

use hostward_datapath::Rotation;
use pyo3::prelude::*;

use crate::datapath::direction;
use crate::refused;

/// See `_core.pyi`.
#[pyclass(frozen)]
pub struct Bench {
    inner: hostward_datapath::Bench,
}

#[pymethods]
impl Bench {
    #[new]
    fn new(object_file: PathBuf, pins: PathBuf, slot: u32) -> PyResult<Self> {
        Ok(Self { inner: hostward_datapath::Bench::load(&object_file, &pins, slot).map_err(refused)? })
    }

    #[pyo3(signature = (*, flows, addresses, first_address, address_offset, first_port, port_offset, seq, seq_step, seq_offset))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments, one for each field")]
    fn rotate(
        &self,
        flows: u32,
        addresses: u32,
        first_address: u32,
        address_offset: u32,
        first_port: u32,
        port_offset: u32,
        seq: u32,
        seq_step: u32,
        seq_offset: u32,
    ) -> PyResult<()> {
        let rotation = Rotation {
            next: 0,
            flows,
            addresses,
            first_address,
            address_offset,
            first_port,
            port_offset,
            seq,
            seq_step,
            seq_offset,
        };
        self.inner.rotate(&rotation).map_err(refused)
    }

    fn run(&self, py: Python<'_>, direction: &str, frame: &[u8], repeat: u32) -> PyResult<(bool, u32)> {
        let direction = self::direction(direction)?;
        py.detach(|| self.inner.run(direction, frame, repeat)).map_err(refused)
    }

    #[pyo3(signature = (seed, rate, packets, *, period=1, phase=0, in_step=false))]
    fn try_sampling(
        &self,
        seed: u64,
        rate: u32,
        packets: u32,
        period: u32,
        phase: u32,
        in_step: bool,
    ) -> PyResult<u32> {
        self.inner.try_sampling(seed, rate, packets, (period, phase), in_step).map_err(refused)
    }

    fn run_floor(&self, py: Python<'_>, frame: &[u8], repeat: u32) -> PyResult<u32> {
        py.detach(|| self.inner.run_floor(frame, repeat)).map_err(refused)
    }
}
