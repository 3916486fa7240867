//! This executable as a process below a master: what it is to be comes in a memfd.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek};

use anyhow::{Context, Result, bail};
use imperator_sys::process::take_inherited;
use imperator_worker::control::{BOOT_ENV, Boot, Role};

/// What a master has told this process; `None` if no master has started it. The variable is gone afterwards, so that nothing below believes
/// to be meant.
///
/// # Errors
/// The variable is there, but not what it should say.
pub fn boot() -> Result<Option<Boot>> {
    let Some(number) = std::env::var_os(BOOT_ENV) else { return Ok(None) };
    imperator_sys::environ::unset(OsStr::new(BOOT_ENV)).context(BOOT_ENV)?;
    let number = number.to_str().and_then(|number| number.parse().ok()).with_context(|| format!("{BOOT_ENV} is no number"))?;
    let boot = read(number).with_context(|| format!("what {BOOT_ENV}={number} holds"))?;
    match boot.role {
        Role::Emperor => Ok(Some(boot)),
        other => bail!("{BOOT_ENV} asks for the role {other:?}, which an interpreter plays"),
    }
}

fn read(number: i32) -> Result<Boot> {
    let mut file = File::from(take_inherited(number)?);
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}
