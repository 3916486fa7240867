//! Whether the kernel has landlock.

/// LANDLOCK_CREATE_RULESET_VERSION: asks for the version and makes nothing.
const ASK: libc::c_ulong = 1;

/// The version of the kernel's interface; 0: it has none, or it is switched off.
pub fn version() -> i32 {
    // SAFETY: with this flag the call takes no pointer and only answers.
    let answer = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0_usize, ASK) };
    i32::try_from(answer).unwrap_or(0).max(0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_answer_is_a_number_and_no_error() {
        assert!((0..1000).contains(&super::version()));
    }
}
