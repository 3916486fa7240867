//! `imperator why`: what the way a vassal ended, and what it said, mean for whoever has to mend it.

use super::{Exit, State};

/// What the vassal may be suffering from, and what to do about it: one sentence each, most likely first. `quiet_s`: for how many seconds it has been
/// in its state. `lines`: what it said last.
pub fn advice(state: State, exit: Option<Exit>, quiet_s: i64, file: &str, lines: &[&str]) -> Vec<String> {
    let mut out = Vec::new();
    let says = |words: &[&str]| lines.iter().any(|line| words.iter().any(|word| line.contains(word)));
    if says(&["No space left on device", "Disk quota exceeded", "Errno 28", "Errno 122"]) {
        out.push("a disk or a quota is full: make room (`df`, `quota`), then `imperator start` it".into());
    }
    if says(&["Cannot allocate memory", "MemoryError", "not enough memory"]) {
        out.push("it ran out of memory: see its limit-as, its control group's memory limit and what the machine has left".into());
    }
    if says(&["Address already in use"]) {
        out.push("its address is taken by another process: `ss -lptn` shows by which".into());
    }
    if says(&["Permission denied", "Operation not permitted"]) {
        out.push("it may not do something: compare its uid and gid with the owner of what the line names".into());
    }
    match (state, exit) {
        (State::Starting, _) if quiet_s >= 5 => out.push(format!(
            "it has been starting for {quiet_s} s: its app still loads, or hangs at import. `py-spy dump --pid` of its zygote shows where"
        )),
        (State::Stopping, _) if quiet_s >= 5 => {
            out.push(format!("it was told to stop {quiet_s} s ago and goes on: SIGTERM and then SIGKILL follow (emperor-curse-tolerance)"));
        }
        (State::Throttled | State::Starting | State::Running | State::Reloading, Some(exit)) => out.extend(of_exit(exit, file)),
        _ => {}
    }
    out
}

fn of_exit(exit: Exit, file: &str) -> Option<String> {
    Some(match exit {
        Exit::Code(0) => "it ended by itself without an error: something in it asks for an end (a hook, `die-on-idle`, exit in the app)".into(),
        Exit::Code(1) => format!("its configuration cannot be used, or an address or a file could not be had: `imperator check {file}`"),
        Exit::Code(22) => {
            format!("its application could not be loaded: the traceback is in its log; `imperator check {file}` tells what of its file is wrong")
        }
        Exit::Code(26) => "there was nothing to execute, or its configuration could not be had: see its wrapper and its source".into(),
        Exit::Code(n) => format!("it chose to end with {n}: its log, or the program's manual if it is a wrapper, tells what that means"),
        Exit::Signal(9) => {
            "it was killed: by a missing heartbeat or at the end of emperor-curse-tolerance (the emperor's log says so), else by somebody, or by the \
             kernel for want of memory (`dmesg | grep -i oom`)"
                .into()
        }
        Exit::Signal(4 | 6 | 7 | 8 | 11) => {
            "it crashed, most likely in a native library: `coredumpctl` or a core file (`ulimit -c unlimited`) shows where".into()
        }
        Exit::Signal(31) => "it made a system call that its seccomp profile forbids: the kernel's log names it".into(),
        Exit::Signal(2 | 15) => "somebody stopped it from outside: the emperor starts it again; to stop it use `imperator stop`".into(),
        Exit::Signal(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(state: State, exit: Option<Exit>, quiet_s: i64, lines: &[&str]) -> String {
        advice(state, exit, quiet_s, "/v/a.ini", lines).into_iter().next().unwrap_or_default()
    }

    #[test]
    fn the_reason_is_named() {
        let throttled = |exit| first(State::Throttled, Some(exit), 0, &[]);
        assert!(throttled(Exit::Code(1)).contains("imperator check /v/a.ini"));
        assert!(throttled(Exit::Code(22)).contains("application"));
        assert!(throttled(Exit::Signal(9)).contains("oom"));
        assert!(throttled(Exit::Signal(11)).contains("crashed"));
        let full = ["OSError: [Errno 122] Disk quota exceeded: 'x'"];
        assert!(first(State::Throttled, Some(Exit::Code(1)), 0, &full).contains("quota"));
        assert!(first(State::Starting, None, 30, &[]).contains("hangs at import"));
        assert!(first(State::Stopping, None, 9, &[]).contains("SIGKILL"));
        assert_eq!(first(State::Running, None, 1000, &["GET / 200"]), "");
    }
}
