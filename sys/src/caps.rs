//! Keeping a few Linux capabilities over a change of user and an exec.

use std::io::{Error, Result};

/// _LINUX_CAPABILITY_VERSION_3: two words of 32 capabilities each.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// This process has these capabilities (by number) and no other from now on, and so has what it executes.
pub fn keep_only(keep: &[u32]) -> Result<()> {
    let mut data = [Data::default(); 2];
    for cap in keep.iter().filter(|cap| **cap < 64) {
        let word = &mut data[(cap / 32) as usize];
        let bit = 1 << (cap % 32);
        *word = Data { effective: word.effective | bit, permitted: word.permitted | bit, inheritable: word.inheritable | bit };
    }
    let header = Header { version: VERSION, pid: 0 };
    // SAFETY: both pointers are to structs of the layout that version 3 has, and live through the call.
    if unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) } < 0 {
        return Err(Error::last_os_error());
    }
    for cap in keep {
        // SAFETY: integer arguments only.
        if unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong, libc::c_ulong::from(*cap), 0, 0) } < 0 {
            return Err(Error::last_os_error());
        }
    }
    Ok(())
}

/// CAP_SETPCAP: may change the bounding set.
pub const SETPCAP: u32 = 8;
/// CAP_SYS_ADMIN: may make namespaces and mounts.
pub const SYS_ADMIN: u32 = 21;

/// Whether this thread has a capability (by number) in force.
pub fn has(cap: u32) -> bool {
    let mut data = [Data::default(); 2];
    let header = Header { version: VERSION, pid: 0 };
    // SAFETY: both pointers are to structs of the layout that version 3 has, and live through the call, which fills the second.
    let done = unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) };
    done == 0 && data.get((cap / 32) as usize).is_some_and(|word| word.effective & (1 << (cap % 32)) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a thread of its own: capabilities are a thread's.
    #[test]
    fn nothing_can_always_be_kept_and_more_than_there_is_cannot() {
        let done = std::thread::spawn(|| (keep_only(&[]).is_ok(), keep_only(&[0]).is_ok()));
        assert_eq!(done.join().expect("thread"), (true, false));
        let kept = std::thread::spawn(|| (keep_only(&[]).is_ok(), has(SETPCAP), has(SYS_ADMIN), has(64)));
        assert_eq!(kept.join().expect("thread"), (true, false, false, false));
    }
}
