//! What `ps` shows for a process (spec: process, part 1). What `/proc/PID/comm` shows is another thing, and fixed.

use crate::settings::Process;

/// The title of process `what` (`master`, `worker 1`, `zygote`); `None`: leave the command line as it is.
pub fn title(settings: &Process, what: &str) -> Option<String> {
    let own = if what == "master" { settings.procname_master.as_ref().or(settings.procname.as_ref()) } else { settings.procname.as_ref() };
    let name = match own {
        Some(name) => name.clone(),
        None if settings.auto_procname => format!("uWSGI {what}"),
        None => return None,
    };
    let around = |text: &Option<String>| text.clone().unwrap_or_default();
    Some(format!("{}{name}{}", around(&settings.procname_prefix), around(&settings.procname_append)))
}

/// Gives this process its title. Without /proc (in a bare chroot) there is none, and nothing depends on it.
pub fn apply(settings: &Process, what: &str) {
    if let Some(title) = title(settings, what) {
        let _ = imperator_sys::title::set_title(title.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_prefixes_and_the_masters_own() {
        let mut process = Process::default();
        assert_eq!(title(&process, "worker 1").as_deref(), Some("uWSGI worker 1"));
        process.procname_prefix = Some("shop ".into());
        process.procname_append = Some(" (x)".into());
        assert_eq!(title(&process, "master").as_deref(), Some("shop uWSGI master (x)"));
        process.procname = Some("all".into());
        process.procname_master = Some("boss".into());
        assert_eq!(title(&process, "master").as_deref(), Some("shop boss (x)"));
        assert_eq!(title(&process, "worker 2").as_deref(), Some("shop all (x)"));
        assert_eq!(title(&Process { auto_procname: false, ..Process::default() }, "master"), None);
    }
}
