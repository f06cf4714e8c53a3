//! What is attached and in force, for Python.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

use hostward_datapath::Digest;
use hostward_datapath::Sight;
use pyo3::prelude::*;

use crate::refused;

type Digests = HashMap<String, Vec<u8>>;

/// See `_core.pyi`.
#[pyclass(frozen)]
pub struct Attached {
    inner: Mutex<hostward_datapath::Attached>,
}

#[pymethods]
impl Attached {
    #[new]
    fn new(pins: PathBuf, by_number: bool) -> Self {
        let sight = if by_number { Sight::Numbers } else { Sight::Content };
        Self { inner: Mutex::new(hostward_datapath::Attached::new(&pins, sight)) }
    }

    fn read(&self, py: Python<'_>) -> PyResult<(Digests, Digests)> {
        let reading =
            py.detach(|| self.inner.lock().unwrap_or_else(PoisonError::into_inner).read()).map_err(refused)?;
        Ok((digests(reading.programs), digests(reading.policies)))
    }
}

fn digests(found: Vec<(String, Digest)>) -> Digests {
    found.into_iter().map(|(name, digest)| (name, digest.to_vec())).collect()
}
