//! The gate's programs, as Python sees them.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use hostward_datapath::GateHook;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::refused;

/// See `_core.pyi`.
#[pyclass(frozen)]
pub struct Gate {
    inner: hostward_datapath::Gate,
}

#[pymethods]
impl Gate {
    #[new]
    fn new(object_file: PathBuf, pins: PathBuf) -> PyResult<Self> {
        Ok(Self { inner: hostward_datapath::Gate::open(&object_file, &pins).map_err(refused)? })
    }

    fn set_end(&self, port: u32, nanoseconds: u64) -> PyResult<()> {
        self.inner.set_end(port, nanoseconds).map_err(refused)
    }

    fn set_profile(&self, allowed: Vec<([u8; 16], u8, u8, u16)>) -> PyResult<()> {
        let allowed: Vec<_> = allowed
            .into_iter()
            .map(|(address, prefix_bits, protocol, port)| (Ipv6Addr::from(address), prefix_bits, protocol, port))
            .collect();
        self.inner.set_profile(&allowed).map_err(refused)
    }

    fn attach(&self, py: Python<'_>, port: u32, netns: &str, host: i32, fabric: i32, hook: &str) -> PyResult<()> {
        let hook = match hook {
            "tcx" => GateHook::Tcx,
            "clsact" => GateHook::Clsact,
            "xdp" => GateHook::Xdp,
            other => return Err(PyValueError::new_err(format!("there is no hook {other:?}"))),
        };
        py.detach(|| self.inner.attach(port, netns, host, fabric, hook)).map_err(refused)
    }

    fn dropped(&self, port: u32) -> PyResult<(u64, u64)> {
        self.inner.dropped(port).map_err(refused)
    }

    fn remove_pins(&self) -> PyResult<()> {
        self.inner.remove_pins().map_err(refused)
    }
}
