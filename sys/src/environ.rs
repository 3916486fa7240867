//! Changing the environment of a process that has one thread.

use std::ffi::OsStr;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::ffi::OsStrExt;

/// Sets `name` for this process and what it starts.
///
/// # Errors
/// A name that is empty or holds `=` or NUL, a value that holds NUL, or a process with other threads.
pub fn set(name: &OsStr, value: &OsStr) -> Result<()> {
    check(name, value)?;
    // SAFETY: there is no other thread that could read the environment meanwhile (checked above).
    unsafe { std::env::set_var(name, value) };
    Ok(())
}

/// Takes `name` out. Errors as in [`set`].
pub fn unset(name: &OsStr) -> Result<()> {
    check(name, OsStr::new(""))?;
    // SAFETY: as in `set`.
    unsafe { std::env::remove_var(name) };
    Ok(())
}

/// Makes `all` the whole environment. What it was made of at the start of the process is not used any more then: a long title may take its room.
///
/// # Errors
/// As in [`set`], with nothing changed.
pub fn replace(all: &[(String, String)]) -> Result<()> {
    alone()?;
    all.iter().try_for_each(|(name, value)| possible(OsStr::new(name), OsStr::new(value)))?;
    for name in std::env::vars_os().map(|(name, _)| name).collect::<Vec<_>>() {
        // SAFETY: as in `set`.
        unsafe { std::env::remove_var(name) };
    }
    for (name, value) in all {
        // SAFETY: as in `set`.
        unsafe { std::env::set_var(name, value) };
    }
    crate::title::environment_is_elsewhere();
    Ok(())
}

fn check(name: &OsStr, value: &OsStr) -> Result<()> {
    possible(name, value)?;
    alone()
}

fn possible(name: &OsStr, value: &OsStr) -> Result<()> {
    if name.is_empty() || name.as_bytes().contains(&b'=') || name.as_bytes().contains(&0) || value.as_bytes().contains(&0) {
        return Err(Error::new(ErrorKind::InvalidInput, "no environment variable can be called that or hold that"));
    }
    Ok(())
}

fn alone() -> Result<()> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(Error::new(ErrorKind::InvalidInput, "the environment cannot be changed beside other threads"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_names_and_other_threads_are_refused() {
        for (name, value) in [("", ""), ("A=B", ""), ("A\0", ""), ("A", "\0")] {
            assert!(set(OsStr::new(name), OsStr::new(value)).is_err());
        }
        let other = std::thread::spawn(std::thread::park);
        assert!(set(OsStr::new("IMPERATOR_TEST"), OsStr::new("1")).is_err());
        assert!(std::env::var_os("IMPERATOR_TEST").is_none());
        other.thread().unpark();
        other.join().expect("joined");
    }
}
