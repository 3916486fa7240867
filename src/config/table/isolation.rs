//! What an app may still do and see, of its own file's wish or the emperor's.

use imperator_worker::isolation::profile::Profile;
use imperator_worker::settings::{Isolation, Level, Seccomp};

use super::{Row, Status, add_text, flag, int, list, set_flag, set_text, text};
use crate::config::values;

/// Of an instance, or of a vassal by its own file.
pub const OPTIONS: &[Row] = &[
    text("isolate", &[], "a sound set of the options below: default, strict, or off", Status::Done(|s, v| level(&mut s.isolation, v))),
    flag("require-isolation", &[], "what the kernel lacks of it ends the start", set_flag!(isolation.required)),
    flag(
        "no-new-privs",
        &[],
        "no program can give the app more rights (setuid files)",
        Status::Done(|s, v| some_flag(&mut s.isolation.no_new_privs, v)),
    ),
    text(
        "seccomp",
        &[],
        "system calls: default, strict, off, or a JSON file as Docker has it",
        Status::Done(|s, v| seccomp(&mut s.isolation, v)),
    ),
    flag("private-tmp", &[], "/tmp, /var/tmp and /dev/shm of its own", Status::Done(|s, v| some_flag(&mut s.isolation.private_tmp, v))),
    text(
        "private-tmp-size",
        &[],
        "bytes of each, such as 64M (half of the memory)",
        Status::Done(|s, v| size(&mut s.isolation.tmp_size, v)),
    ),
    flag("landlock", &[], "only files that are named, no signals to others", Status::Done(|s, v| some_flag(&mut s.isolation.landlock, v))),
    list("landlock-read", &[], "a file or folder that may be read", add_text!(isolation.read)),
    list("landlock-write", &[], "a file or folder that may be changed", add_text!(isolation.write)),
    list("landlock-exec", &[], "a file or folder whose programs may be run", add_text!(isolation.exec)),
    list("hide-path", &[], "a folder or file that is not to be seen", add_text!(isolation.hide)),
    text("cgroup-memory", &[], "memory of all its processes, such as 256M", Status::Done(|s, v| size(&mut s.isolation.group.memory, v))),
    text("cgroup-cpu", &[], "processor time of all its processes, percent of one processor", Status::Done(|s, v| cpu(&mut s.isolation, v))),
    int("cgroup-pids", &[], "processes and threads", Status::Done(|s, v| some_number(&mut s.isolation.group.pids, v))),
    text("cgroup-parent", &[], "the group in which its own is made (imperator)", set_text!(isolation.group.parent)),
];

/// Of each vassal, by the emperor's.
pub const OF_EMPERORS: &[Row] = &[
    text(
        "emperor-isolate",
        &[],
        "what each vassal holds at least: default or strict",
        Status::Done(|s, v| level(&mut s.emperor.isolation, v)),
    ),
    flag("emperor-require-isolation", &[], "what the kernel lacks of it ends the start", set_flag!(emperor.isolation.required)),
    flag(
        "emperor-no-new-privs",
        &[],
        "no-new-privs for each vassal",
        Status::Done(|s, v| some_flag(&mut s.emperor.isolation.no_new_privs, v)),
    ),
    text("emperor-seccomp", &[], "seccomp for each vassal", Status::Done(|s, v| seccomp(&mut s.emperor.isolation, v))),
    flag(
        "emperor-private-tmp",
        &[],
        "private-tmp for each vassal",
        Status::Done(|s, v| some_flag(&mut s.emperor.isolation.private_tmp, v)),
    ),
    text("emperor-private-tmp-size", &[], "bytes of each folder of it", Status::Done(|s, v| size(&mut s.emperor.isolation.tmp_size, v))),
    flag("emperor-landlock", &[], "landlock for each vassal's app", Status::Done(|s, v| some_flag(&mut s.emperor.isolation.landlock, v))),
    list("emperor-landlock-read", &[], "all that a vassal may read; {name} is the vassal's", add_text!(emperor.isolation.read)),
    list("emperor-landlock-write", &[], "all that a vassal may change", add_text!(emperor.isolation.write)),
    list("emperor-landlock-exec", &[], "whose programs a vassal may run", add_text!(emperor.isolation.exec)),
    list("emperor-hide-path", &[], "hide-path for each vassal", add_text!(emperor.isolation.hide)),
    text("emperor-cgroup-memory", &[], "memory of each vassal", Status::Done(|s, v| size(&mut s.emperor.isolation.group.memory, v))),
    text(
        "emperor-cgroup-cpu",
        &[],
        "processor time of each vassal, percent of one processor",
        Status::Done(|s, v| cpu(&mut s.emperor.isolation, v)),
    ),
    int(
        "emperor-cgroup-pids",
        &[],
        "processes and threads of each vassal",
        Status::Done(|s, v| some_number(&mut s.emperor.isolation.group.pids, v)),
    ),
    text("emperor-cgroup-parent", &[], "the group in which theirs are made (imperator)", set_text!(emperor.isolation.group.parent)),
];

fn level(isolation: &mut Isolation, value: Option<&str>) -> Result<(), String> {
    isolation.level = match values::without_comment(value.unwrap_or("default")) {
        "strict" => Level::Strict,
        "default" => Level::Default,
        word if values::is_true(word) || word == "1" => Level::Default,
        word if values::is_false(word) => Level::Off,
        other => return Err(format!("`{other}` is none of default, strict, off")),
    };
    Ok(())
}

fn some_flag(place: &mut Option<bool>, value: Option<&str>) -> Result<(), String> {
    *place = Some(values::flag(value));
    Ok(())
}

fn some_number(place: &mut Option<u64>, value: Option<&str>) -> Result<(), String> {
    *place = Some(values::number(value)?).filter(|n| *n > 0);
    Ok(())
}

/// A file is read here and not when it is needed: what is wrong with it is said with its line, and a reload that finds it broken changes nothing.
fn seccomp(isolation: &mut Isolation, value: Option<&str>) -> Result<(), String> {
    let Some(text) = values::text(value)? else { return Ok(()) };
    isolation.seccomp = Some(match values::without_comment(&text) {
        "strict" => Seccomp::Strict,
        "default" => Seccomp::Default,
        word if values::is_true(word) || word == "1" => Seccomp::Default,
        word if values::is_false(word) => Seccomp::Off,
        path => {
            let text = std::fs::read_to_string(path).map_err(|e| format!("{path}: {e} (known by name are default, strict, off)"))?;
            let profile = Profile::parse(&text).map_err(|e| format!("{path}: {e}"))?;
            imperator_worker::isolation::seccomp::programs(&profile).map_err(|e| format!("{path}: {e}"))?;
            Seccomp::File { path: path.to_owned(), profile }
        }
    });
    Ok(())
}

/// Bytes; K, M, G and T are powers of 1024.
fn size(place: &mut Option<u64>, value: Option<&str>) -> Result<(), String> {
    let Some(text) = values::text(value)? else { return Ok(()) };
    let text = values::without_comment(&text);
    let wrong = || format!("`{text}` is no size: write bytes, or 256M, 2G");
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let shift = match unit.trim().trim_end_matches(['B', 'b']).trim_end_matches('i').to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(wrong()),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift)).filter(|n| *n > 0);
    *place = Some(bytes.ok_or_else(wrong)?);
    Ok(())
}

/// Percent of one processor. The sign may be there or not: at the end of a line of an ini file it is gone before it comes here.
fn cpu(isolation: &mut Isolation, value: Option<&str>) -> Result<(), String> {
    let Some(text) = values::text(value)? else { return Ok(()) };
    let text = values::without_comment(&text);
    let percent = text.strip_suffix('%').unwrap_or(text).trim().parse::<u32>().ok().filter(|n| (1..=1_000_000).contains(n));
    isolation.group.cpu_milli =
        Some(percent.ok_or_else(|| format!("`{text}` is no number of percent of a processor, such as 50 or 150"))? * 10);
    Ok(())
}

#[cfg(test)]
mod tests {
    use imperator_worker::settings::Settings;

    use super::*;

    fn set(name: &str, value: &str) -> Result<Settings, String> {
        let mut settings = Settings::default();
        let Some(Status::Done(apply)) = super::super::lookup(name).map(|spec| spec.status) else { panic!("{name} is not done") };
        apply(&mut settings, Some(value)).map(|()| settings)
    }

    #[test]
    fn sizes_and_shares() {
        let memory = |text: &str| set("cgroup-memory", text).map(|s| s.isolation.group.memory);
        for (text, bytes) in [("256M", 256 << 20), ("2G", 2 << 30), ("1024", 1024), ("64 KiB", 65536), ("1GB ; much", 1 << 30)] {
            assert_eq!(memory(text), Ok(Some(bytes)), "{text}");
        }
        for text in ["much", "0", "-1", "1X", "99999999999T"] {
            assert!(memory(text).is_err(), "{text}");
        }
        let cpu = |text: &str| set("cgroup-cpu", text).map(|s| s.isolation.group.cpu_milli);
        assert_eq!((cpu("50%"), cpu("50"), cpu("200 %")), (Ok(Some(500)), Ok(Some(500)), Ok(Some(2000))));
        assert!(["0", "x", "-1", "1.5"].iter().all(|text| cpu(text).is_err()));
    }

    #[test]
    fn levels_and_profiles_are_named_or_files() {
        assert_eq!(set("isolate", "strict").map(|s| s.isolation.level), Ok(Level::Strict));
        assert_eq!(set("emperor-isolate", "true").map(|s| s.emperor.isolation.level), Ok(Level::Default));
        assert!(set("isolate", "tight").is_err_and(|e| e.contains("strict")));
        assert_eq!(set("seccomp", "off").map(|s| s.isolation.seccomp), Ok(Some(Seccomp::Off)));
        assert!(set("seccomp", "/nowhere.json").is_err_and(|e| e.contains("/nowhere.json")));
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("p.json").display().to_string();
        std::fs::write(&path, r#"["mlock"]"#).expect("write");
        assert!(set("seccomp", &path).is_ok_and(|s| s.isolation.seccomp.is_some_and(|p| p.name() == path)));
        std::fs::write(&path, r#"{"defaultAction": "SCMP_ACT_NO"}"#).expect("write");
        assert!(set("seccomp", &path).is_err_and(|e| e.contains("SCMP_ACT_NO")));
    }
}
