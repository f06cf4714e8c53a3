//! The programs at the host's uplink, for Python.

use std::path::PathBuf;

use hostward_datapath::Ceiling;
use pyo3::prelude::*;

use crate::datapath::address_bytes;
use crate::datapath::address_text;
use crate::datapath::prefix_parts;
use crate::refused;

/// Address and bytes.
type ArrivalTuple = (String, u64);

/// See `_core.pyi`.
#[pyclass(frozen)]
pub struct Uplink {
    inner: hostward_datapath::Uplink,
}

#[pymethods]
impl Uplink {
    #[new]
    fn new(object_file: PathBuf) -> PyResult<Self> {
        hostward_datapath::Uplink::load(&object_file).map(|inner| Self { inner }).map_err(refused)
    }

    #[expect(clippy::needless_pass_by_value, reason = "PyO3 hands over owned values")]
    fn count(&self, py: Python<'_>, netns: &str, ifindex: i32, pools: Vec<String>) -> PyResult<()> {
        let pools = pools.iter().map(|pool| pool_parts(pool)).collect::<PyResult<Vec<_>>>()?;
        py.detach(|| self.inner.count(netns, ifindex, &pools)).map_err(refused)
    }

    fn take_arrivals(&self, py: Python<'_>) -> PyResult<(Vec<ArrivalTuple>, u64)> {
        let (found, others) = py.detach(|| self.inner.take_arrivals()).map_err(refused)?;
        Ok((found.into_iter().map(|(address, bytes)| (address_text(address), bytes)).collect(), others))
    }

    fn stop_counting(&self, py: Python<'_>, netns: &str, ifindex: i32) -> PyResult<()> {
        py.detach(|| self.inner.stop_counting(netns, ifindex)).map_err(refused)
    }

    fn restrain(
        &self,
        py: Python<'_>,
        netns: &str,
        ifindex: i32,
        ceilings: Vec<(u32, String, u32, u64)>,
    ) -> PyResult<()> {
        let ceilings = ceilings
            .into_iter()
            .map(|(class, destination, ceiling, until_ns)| {
                Ok(Ceiling { class, destination: address_bytes(&destination)?, ceiling, until_ns })
            })
            .collect::<PyResult<Vec<_>>>()?;
        py.detach(|| self.inner.restrain(netns, ifindex, &ceilings)).map_err(refused)
    }
}

/// IPv4 lies in the table as `::ffff:a.b.c.d`, so its prefixes are 96 bits longer there.
fn pool_parts(text: &str) -> PyResult<([u8; 16], u32)> {
    let (address, bits) = prefix_parts(text)?;
    Ok((address, if text.contains(':') { bits } else { bits + 96 }))
}
