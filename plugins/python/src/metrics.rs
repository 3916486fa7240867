//! `uwsgi.metric_get`, `metric_set` and their family: True, or None where there is nothing that the app may change.

use pyo3::prelude::*;

use crate::module::here;

pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(metric_get, module)?)?;
    module.add_function(wrap_pyfunction!(metric_set, module)?)?;
    module.add_function(wrap_pyfunction!(metric_inc, module)?)?;
    module.add_function(wrap_pyfunction!(metric_dec, module)?)?;
    module.add_function(wrap_pyfunction!(metric_mul, module)?)?;
    module.add_function(wrap_pyfunction!(metric_div, module)?)?;
    module.add_function(wrap_pyfunction!(metric_set_max, module)?)?;
    module.add_function(wrap_pyfunction!(metric_set_min, module)?)
}

fn update(name: &str, change: impl Fn(i64) -> Option<i64>) -> PyResult<Option<bool>> {
    Ok(here()?.metric_update(name, change).then_some(true))
}

#[pyfunction]
#[pyo3(signature = (name, /))]
fn metric_get(name: &str) -> PyResult<i64> {
    Ok(here()?.metric_get(name))
}

#[pyfunction]
#[pyo3(signature = (name, value = 1, /))]
fn metric_set(name: &str, value: i64) -> PyResult<Option<bool>> {
    update(name, |_| Some(value))
}

#[pyfunction]
#[pyo3(signature = (name, value = 1, /))]
fn metric_inc(name: &str, value: i64) -> PyResult<Option<bool>> {
    update(name, |old| Some(old.wrapping_add(value)))
}

#[pyfunction]
#[pyo3(signature = (name, value = 1, /))]
fn metric_dec(name: &str, value: i64) -> PyResult<Option<bool>> {
    update(name, |old| Some(old.wrapping_sub(value)))
}

#[pyfunction]
#[pyo3(signature = (name, value = 1, /))]
fn metric_mul(name: &str, value: i64) -> PyResult<Option<bool>> {
    update(name, |old| Some(old.wrapping_mul(value)))
}

/// Division by zero changes nothing.
#[pyfunction]
#[pyo3(signature = (name, value = 1, /))]
fn metric_div(name: &str, value: i64) -> PyResult<Option<bool>> {
    update(name, |old| old.checked_div(value))
}

#[pyfunction]
#[pyo3(signature = (name, value = 1, /))]
fn metric_set_max(name: &str, value: i64) -> PyResult<Option<bool>> {
    update(name, |old| Some(old.max(value)))
}

#[pyfunction]
#[pyo3(signature = (name, value = 1, /))]
fn metric_set_min(name: &str, value: i64) -> PyResult<Option<bool>> {
    Ok(here()?.metric_set_min(name, value).then_some(true))
}
