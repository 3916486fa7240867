//! Giving memory back that was needed once: by a process whose start is over.

use std::fs::File;
use std::io::{BufRead, BufReader, Result};

/// Bytes below a variable of [`settle`] that stay, for the rest of its frame and what it calls itself.
const STACK_IN_USE: usize = 4 * 1024;
const PAGE: usize = 4096;

/// Gives back what this process has in memory and can have again at no cost but a page fault: free pages of the C heap, pages of the main thread's stack below
/// the functions that run, and pages of programs and libraries (code and constants), which stay in the kernel's cache of files and come back from there
/// when they are used. What remains is what the process uses from then on.
///
/// Returns the bytes of address space that were given up.
///
/// # Errors
/// There is no /proc; then only the heap was trimmed.
pub fn settle() -> Result<usize> {
    let here = 0u8;
    let here = &raw const here as usize;
    let found = File::open("/proc/self/smaps").and_then(|smaps| mappings(BufReader::new(smaps)));
    crate::process::trim_heap();
    let mut given = 0;
    for mapping in found? {
        let (start, end) = match mapping.kind {
            Kind::Clean => (mapping.start, mapping.end),
            Kind::Stack if (mapping.start..mapping.end).contains(&here) => {
                (mapping.start, (here & !(PAGE - 1)).saturating_sub(STACK_IN_USE))
            }
            _ => continue,
        };
        if start >= end {
            continue;
        }
        // SAFETY: these pages are either an unchanged private copy of a file's, which the kernel reads again, or stack that no running function of the main
        // thread, which this one is, has reached yet. Where pages are larger than `PAGE`, the kernel refuses an address that is not on their bounds.
        if unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) } == 0 {
            given += end - start;
        }
    }
    Ok(given)
}

/// Has the kernel merge equal pages of this process's memory with those of others that ask for it (KSM). All that it maps and forks from then on is
/// covered, too.
///
/// # Errors
/// The kernel cannot: it is before Linux 6.4, or built without CONFIG_KSM.
pub fn merge() -> Result<()> {
    /// `PR_SET_MEMORY_MERGE` of linux/prctl.h.
    const MERGE: libc::c_int = 67;
    // SAFETY: integer arguments; all that changes is how the kernel stores equal pages, which are copied at the first write.
    match unsafe { libc::prctl(MERGE, 1 as libc::c_ulong, 0 as libc::c_ulong, 0 as libc::c_ulong, 0 as libc::c_ulong) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Of a file, private, not writable, and no page of it is a changed copy. (Constants with relocations are such copies.)
    Clean,
    Stack,
    Other,
}

#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    start: usize,
    end: usize,
    kind: Kind,
}

/// Of `/proc/self/smaps`: a line that names a mapping, then lines with its sizes.
fn mappings(mut smaps: impl BufRead) -> Result<Vec<Mapping>> {
    let (mut all, mut line): (Vec<Mapping>, _) = (vec![], String::new());
    loop {
        line.clear();
        if smaps.read_line(&mut line)? == 0 {
            return Ok(all);
        }
        let line = line.as_str();
        if let Some(mapping) = header(line) {
            all.push(mapping);
        } else if let Some(last) = all.last_mut().filter(|m| m.kind == Kind::Clean)
            && let Some(("Anonymous" | "Swap", size)) = line.split_once(':')
            && size.trim() != "0 kB"
        {
            last.kind = Kind::Other;
        }
    }
}

/// `55d0c0a00000-55d0c0b00000 r-xp 00000000 08:01 1234   /usr/bin/program`.
fn header(line: &str) -> Option<Mapping> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    let (access, path) = (fields.next()?, fields.nth(3).unwrap_or_default());
    let kind = match access {
        "r-xp" | "r--p" if path.starts_with('/') => Kind::Clean,
        _ if path == "[stack]" => Kind::Stack,
        _ => Kind::Other,
    };
    Some(Mapping { start, end, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unchanged_pages_of_files_and_the_stack_are_meant() {
        let text = "\
1000-3000 r-xp 00000000 08:01 1234                       /usr/bin/program
Size:                  8 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd ex mr mw me
3000-4000 r--p 00000000 08:01 1234                       /usr/bin/program (deleted)
Anonymous:             4 kB
4000-5000 r--p 00000000 08:01 1234                       /usr/bin/program
Anonymous:             0 kB
Swap:                  4 kB
5000-6000 rw-p 00000000 08:01 1234                       /usr/bin/program
6000-7000 r--s 00000000 08:01 1234                       /dev/shm/x
7000-8000 r-xp 00000000 00:00 0                          [vdso]
8000-9000 r--p 00000000 00:00 0
7ff0000-7fff000 rw-p 00000000 00:00 0                          [stack]
Anonymous:            60 kB
";
        let found = mappings(text.as_bytes()).expect("mappings");
        let kinds: Vec<_> = found.iter().map(|m| m.kind).collect();
        assert_eq!(kinds, [Kind::Clean, Kind::Other, Kind::Other, Kind::Other, Kind::Other, Kind::Other, Kind::Other, Kind::Stack]);
        assert_eq!(found[0], Mapping { start: 0x1000, end: 0x3000, kind: Kind::Clean });
    }

    #[test]
    fn the_process_goes_on_with_less() {
        let resident = || -> usize {
            let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
            statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("pages")
        };
        let before = resident();
        assert!(settle().expect("settled") > 0);
        assert!(resident() < before, "{before} pages");
        let sorted: std::collections::BTreeMap<_, _> = (0..1000).map(|n| (n.to_string(), n)).collect();
        assert_eq!(sorted["77"], 77);
    }
}
