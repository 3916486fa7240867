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

fn check(name: &OsStr, value: &OsStr) -> Result<()> {
    let bad = |what: &str| Err(Error::new(ErrorKind::InvalidInput, what.to_owned()));
    if name.is_empty() || name.as_bytes().contains(&b'=') || name.as_bytes().contains(&0) || value.as_bytes().contains(&0) {
        return bad("no environment variable can be called that or hold that");
    }
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return bad("the environment cannot be changed beside other threads");
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
