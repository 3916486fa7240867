//! This executable as a process below a master: what it is to be comes in a memfd.

use std::ffi::OsStr;
use std::sync::Arc;

use anyhow::{Context, Result};
use imperator_worker::control::{BOOT_ENV, Boot};

/// What a master has told this process; `None` if no master has started it. The variable is gone afterwards, so that nothing below believes
/// to be meant.
///
/// # Errors
/// The variable is there, but not what it should say.
#[inline(never)]
pub fn boot() -> Result<Option<Arc<Boot>>> {
    let Some(number) = std::env::var_os(BOOT_ENV) else { return Ok(None) };
    imperator_sys::environ::unset(OsStr::new(BOOT_ENV)).context(BOOT_ENV)?;
    let number = number.to_str().with_context(|| format!("{BOOT_ENV} is no number"))?;
    Boot::receive(number).map(|boot| Some(Arc::new(boot))).with_context(|| format!("what {BOOT_ENV}={number} holds"))
}
