//! The command line that `ps` shows.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Whether nobody uses the strings any more that the environment was made of at the start.
static MORE_ROOM: AtomicBool = AtomicBool::new(false);

/// See [`crate::environ::replace`].
pub(crate) fn environment_is_elsewhere() {
    MORE_ROOM.store(true, Relaxed);
}

/// Overwrites the process's command line (`/proc/self/cmdline`) with `title`, cut to the room that the original arguments took, and the original environment
/// behind them if that is not used any more.
pub fn set_title(title: &[u8]) -> io::Result<()> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (start, end) = arguments(&stat).ok_or(io::ErrorKind::InvalidData)?;
    // The kernel goes on to what is behind the arguments if these do not end with a NUL.
    let behind = environment(&stat).filter(|(begin, _)| *begin == end && MORE_ROOM.load(Relaxed));
    let room = behind.map_or(end, |(_, end)| end).saturating_sub(start);
    let title = &title[..title.len().min(room.saturating_sub(1))];
    // SAFETY: the kernel says that this is where it put our argument strings (and those of the environment, which has been copied elsewhere): memory of this
    // process, writable, that stays mapped. Nothing of ours holds a reference into it: `std::env::args` and Python's `sys.argv` are copies.
    unsafe {
        std::ptr::write_bytes(start as *mut u8, 0, room);
        std::ptr::copy_nonoverlapping(title.as_ptr(), start as *mut u8, title.len());
    }
    Ok(())
}

/// Fields 48 and 49 of `/proc/PID/stat`, `arg_start` and `arg_end`; field 2 is in parentheses and may hold anything.
fn arguments(stat: &str) -> Option<(usize, usize)> {
    range(stat, 48)
}

/// Fields 50 and 51, `env_start` and `env_end`.
fn environment(stat: &str) -> Option<(usize, usize)> {
    range(stat, 50)
}

fn range(stat: &str, field: usize) -> Option<(usize, usize)> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(field - 3);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?)).filter(|(start, end)| *start > 0 && end > start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_title_shows_and_a_long_one_is_cut() {
        set_title(b"short").expect("set");
        assert_eq!(std::fs::read("/proc/self/cmdline").expect("read").split(|b| *b == 0).next(), Some(&b"short"[..]));
        set_title(&[b'x'; 100_000]).expect("cut");
        assert!(std::fs::read("/proc/self/cmdline").expect("read").starts_with(b"xxx"));
    }

    #[test]
    fn a_long_title_takes_the_room_of_an_environment_that_is_elsewhere() {
        let shown = || String::from_utf8_lossy(&std::fs::read("/proc/self/cmdline").expect("read")).trim_end_matches('\0').len();
        set_title(&[b'x'; 100_000]).expect("cut");
        let before = shown();
        let all: Vec<_> = std::env::vars().collect();
        // SAFETY: nextest runs each test in a process of its own, whose other thread waits for this one; the copies are of what was there.
        all.iter().for_each(|(name, value)| unsafe { std::env::set_var(name, value) });
        environment_is_elsewhere();
        set_title(&[b'x'; 100_000]).expect("cut");
        assert!(shown() > before + all[0].1.len(), "{} {before}", shown());
        assert!(std::env::vars().eq(all));
        set_title(b"short").expect("set");
        assert_eq!(shown(), 5);
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let rest: Vec<String> = (3..=52).map(|n| n.to_string()).collect();
        assert_eq!(arguments(&format!("1 (a) b)) {}", rest.join(" "))), Some((48, 49)));
        assert_eq!(environment(&format!("1 (a) b)) {}", rest.join(" "))), Some((50, 51)));
        assert_eq!(arguments("1 (a) S 1"), None);
    }
}
