//! Python apps in Imperator, as one abi3 extension module that the user's own interpreter loads.

use pyo3::prelude::*;

#[pymodule]
fn imperator_python(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
