//! The command line that `ps` shows.

use std::io;

/// Overwrites the process's command line (`/proc/self/cmdline`) with `title`, cut to the room that the original arguments took.
pub fn set_title(title: &[u8]) -> io::Result<()> {
    let (start, end) = arguments(&std::fs::read_to_string("/proc/self/stat")?).ok_or(io::ErrorKind::InvalidData)?;
    let room = end.saturating_sub(start);
    let title = &title[..title.len().min(room.saturating_sub(1))];
    // SAFETY: the kernel says that `start..end` is where it put our argument strings: memory of this process, writable, that stays mapped.
    // Nothing of ours holds a reference into it: `std::env::args` and Python's `sys.argv` are copies.
    unsafe {
        std::ptr::write_bytes(start as *mut u8, 0, room);
        std::ptr::copy_nonoverlapping(title.as_ptr(), start as *mut u8, title.len());
    }
    Ok(())
}

/// Fields 48 and 49 of `/proc/PID/stat`, `arg_start` and `arg_end`; field 2 is in parentheses and may hold anything.
fn arguments(stat: &str) -> Option<(usize, usize)> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(45);
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
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let rest: Vec<String> = (3..=52).map(|n| n.to_string()).collect();
        assert_eq!(arguments(&format!("1 (a) b)) {}", rest.join(" "))), Some((48, 49)));
        assert_eq!(arguments("1 (a) S 1"), None);
    }
}
