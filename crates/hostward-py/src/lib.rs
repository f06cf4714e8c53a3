//! `hostward._core`: the datapath for Python. Types and docstrings are in `src/hostward/_core.pyi`.
//!
//! Nothing is decided here: values are converted, errors become `hostward._core.CoreError` with the kernel's own words.

mod attached;
mod bench;
mod datapath;
mod event;
mod flow_export;
mod gate;
mod sample;
mod sflow;
mod talkers;
mod uplink;

use hostward_datapath::abi;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

pyo3::create_exception!(_core, CoreError, PyException, "The kernel or libbpf refused; the text says what and why.");

fn refused(error: hostward_datapath::Error) -> PyErr {
    CoreError::new_err(error.to_string())
}

/// The word for a reason number.
#[pyfunction]
fn reason_word(number: u32) -> Option<String> {
    abi::reason_word(number)
}

/// The word for a verdict number.
#[pyfunction]
fn verdict_word(number: u32) -> Option<String> {
    abi::verdict_word(number)
}

/// Every reason's word, in the order of the numbers.
#[pyfunction]
fn reason_words() -> Vec<String> {
    (1..abi::reason::REASON_COUNT).filter_map(abi::reason_word).collect()
}

#[pymodule(gil_used = false)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    hostward_datapath::filter_messages();
    module.add("CoreError", module.py().get_type::<CoreError>())?;
    module.add_class::<datapath::Datapath>()?;
    module.add_class::<datapath::Port>()?;
    module.add_class::<datapath::Predecessor>()?;
    module.add_class::<attached::Attached>()?;
    module.add_class::<bench::Bench>()?;
    module.add_class::<event::Event>()?;
    module.add_class::<flow_export::FlowExport>()?;
    module.add_class::<gate::Gate>()?;
    module.add_class::<sample::Sample>()?;
    module.add_class::<sflow::SflowExporter>()?;
    module.add_class::<talkers::Talkers>()?;
    module.add_class::<uplink::Uplink>()?;
    module.add_function(wrap_pyfunction!(reason_word, module)?)?;
    module.add_function(wrap_pyfunction!(verdict_word, module)?)?;
    module.add_function(wrap_pyfunction!(reason_words, module)?)?;
    Ok(())
}
