//! `imperator why`: what the way a vassal ended, what it does and what it said mean for whoever has to mend it.

use super::{Exit, Now, Phase, State, Step, Vassal};

/// A vassal that starts or stops for so long does not do so as it should.
const LONG_S: i64 = 5;
/// Deaths of workers among its last lines that make a loop of one that accepts requests all the same.
const LOOP: usize = 5;

/// What is known of the vassal.
#[derive(Debug, Clone, Copy)]
pub struct Case<'c> {
    pub name: &'c str,
    pub file: &'c str,
    pub state: State,
    /// How its last process ended.
    pub exit: Option<Exit>,
    /// For how many seconds it has been in its state.
    pub quiet_s: i64,
    /// What it said last.
    pub lines: &'c [&'c str],
    /// What is done about one that does not stop.
    pub pressure: Option<Pressure>,
    /// KiB a second that it may say and says more than.
    pub flood: Option<u64>,
    /// Its youngest child: the one that loads the app, while that is loaded.
    pub loader: Option<i32>,
}

/// One that was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pressure {
    pub told_s: u64,
    /// SIGTERM was sent, too.
    pub terminated: bool,
    /// Until the next step: SIGTERM, or else SIGKILL.
    pub next_s: u64,
}

/// What `why` tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnosis {
    /// What is wrong, in a sentence.
    pub trouble: Option<String>,
    /// What to do about it, most likely first.
    pub advice: Vec<String>,
}

impl Diagnosis {
    /// The first trouble is what is told; what is done about the others is told, too.
    fn add(&mut self, trouble: impl Into<String>, advice: impl Into<String>) {
        self.trouble.get_or_insert_with(|| trouble.into());
        self.advice.push(advice.into());
    }
}

impl Vassal {
    pub fn pressure(&self, now: Now) -> Option<Pressure> {
        let Phase::Stopping { since, next, .. } = self.phase else { return None };
        let seconds = |ms: u64| ms.div_ceil(1000);
        Some(Pressure {
            told_s: now.ms.saturating_sub(since) / 1000,
            terminated: matches!(next, Step::Kill { .. }),
            next_s: seconds(next.at().saturating_sub(now.ms)),
        })
    }
}

pub fn diagnose(case: &Case<'_>) -> Diagnosis {
    let mut out = Diagnosis::default();
    if case.state == State::Stopped {
        out.advice.push(format!("`imperator start {}` starts it", case.name));
        return out;
    }
    if let Some(pressure) = case.pressure.filter(|p| p.told_s >= 1) {
        stays(pressure, &mut out);
    }
    wants(case, &mut out);
    loops(case, &mut out);
    let loads = matches!(case.state, State::Starting | State::Reloading) && case.quiet_s >= LONG_S;
    if loads && out.trouble.is_none() {
        hangs(case, &mut out);
    }
    if let Some(limit) = case.flood {
        out.add(
            format!("it says more than {limit} KiB a second, and waits for its log: its requests take longer for that"),
            format!(
                "find out what it says so often (`imperator log {}`) and have it say less; vassal-log-limit of the emperor is the limit, which keeps its \
                 neighbours from paying for it",
                case.name
            ),
        );
    }
    if matches!(case.state, State::Throttled | State::Starting | State::Running | State::Reloading)
        && let Some((trouble, advice)) = case.exit.and_then(|exit| of_exit(exit, case.file))
    {
        let explained = out.trouble.is_some() && matches!(case.exit, Some(Exit::Code(1)));
        if case.state != State::Throttled {
            out.advice.extend((!explained).then_some(advice));
        } else if !explained {
            out.add(trouble, advice);
        }
    }
    out
}

/// One that was told to stop, and does not.
fn stays(pressure: Pressure, out: &mut Diagnosis) {
    let Pressure { told_s, terminated, next_s } = pressure;
    let (done, next) = if terminated { (" and then sent SIGTERM", "SIGKILL follows") } else { ("", "SIGTERM follows") };
    out.add(
        format!("it was told to stop {told_s} s ago{done}, and goes on; {next} in {next_s} s"),
        "nothing: one that does not end is killed. How long it may take is emperor-curse-tolerance (seconds; SIGTERM after half of it); an app that needs \
         long for its last requests, or blocks SIGTERM and SIGINT, is what mostly keeps a vassal",
    );
}

/// Something that it lacks, by its own words.
fn wants(case: &Case<'_>, out: &mut Diagnosis) {
    // The shortest is the cause itself, without what was made of it.
    let says = |words: &[&str]| {
        let fitting = case.lines.iter().filter(|line| words.iter().any(|word| line.contains(word)));
        fitting.map(|line| line.trim()).min_by_key(|line| line.len())
    };
    let again = if case.state == State::Throttled { format!(", then `imperator start {}`", case.name) } else { String::new() };
    if let Some(line) = says(&["No space left on device", "Disk quota exceeded", "Errno 28", "Errno 122"]) {
        out.add(format!("a disk or a quota is full: {line}"), format!("make room (`df`, `quota`, `du`) where it writes{again}"));
    }
    if let Some(line) = says(&["Cannot allocate memory", "MemoryError", "not enough memory"]) {
        out.add(
            format!("it ran out of memory: {line}"),
            "see its limit-as, its control group's memory limit and what the machine has left",
        );
    }
    if let Some(line) = says(&["Address already in use"]) {
        out.add(format!("its address is taken by another process: {line}"), "`ss -lptn` (or -lpx) shows by which");
    }
    if let Some(line) = says(&["Permission denied", "Operation not permitted"]) {
        out.add(format!("it may not do something: {line}"), "compare its uid and gid with the owner of what the line names");
    }
}

/// Processes that die as soon as they are there, in a vassal that lives on.
fn loops(case: &Case<'_>, out: &mut Diagnosis) {
    let life = lives(case);
    let deaths: Vec<&str> = life.iter().filter_map(|line| line.strip_prefix("DAMN ! ")).collect();
    let starts = matches!(case.state, State::Starting | State::Reloading);
    if let Some(last) = deaths.last().filter(|_| deaths.len() >= if starts { 2 } else { LOOP }) {
        let last = last.split(":(").next().unwrap_or(last).trim();
        let when = if starts { "before they accept a request" } else { "again and again" };
        out.add(
            format!("its workers die {when}: {} deaths in its last {} lines, the last: {last}", deaths.len(), life.len()),
            format!(
                "its master starts them again and again, so nothing else is needed once it is mended. What a worker said before its death is in \
                 `imperator log {}`; if that is nothing, something in the app ends the process itself (os._exit, a native library)",
                case.name
            ),
        );
    }
    if life.iter().any(|line| line.contains("the interpreter ended before it had loaded the app")) {
        let how = life.iter().rev().find(|line| line.starts_with("the zygote of generation")).map_or("", |line| line.trim());
        let colon = if how.is_empty() { "" } else { ": " };
        out.add(
            format!("its app ends the interpreter while it is loaded{colon}{how}"),
            "something that the app imports ends the process itself (os._exit, a crash in a native library) or the interpreter does not start: import the app \
             by hand with the same python, as the same user",
        );
    }
}

/// What it said in this life; and in the one before, if this one has just begun after a death.
fn lives<'c>(case: &Case<'c>) -> &'c [&'c str] {
    let begins = || case.lines.iter().enumerate().rev().filter(|(_, line)| line.starts_with("*** Starting ")).map(|(at, _)| at);
    let young = case.state == State::Starting && case.exit.is_some() && case.quiet_s < LONG_S;
    begins().nth(usize::from(young)).map_or(case.lines, |at| &case.lines[at..])
}

/// One that has been starting for long.
fn hangs(case: &Case<'_>, out: &mut Diagnosis) {
    let seconds = case.quiet_s;
    let dump = match case.loader {
        Some(pid) => format!("`py-spy dump --pid {pid}` shows what it is doing (`cat /proc/{pid}/wchan`, if it is no Python)"),
        None => "`py-spy dump --pid` of its zygote or worker shows what it is doing".into(),
    };
    out.add(
        format!("it has been starting for {seconds} s: its app is still being loaded; it has much to do, waits for something, or hangs at import"),
        format!("{dump}; `imperator stop {}` ends it", case.name),
    );
}

/// What is wrong, and what to do.
fn of_exit(exit: Exit, file: &str) -> Option<(String, String)> {
    let (trouble, advice): (&str, String) = match exit {
        Exit::Code(0) => (
            "it ended by itself without an error",
            "something in it asks for an end: a hook, `die-on-idle`, `exit-on-reload`, an exit in the app".into(),
        ),
        Exit::Code(1) => (
            "its configuration cannot be used, or an address or a file could not be had",
            format!("`imperator check {file}` tells what; its last lines, too"),
        ),
        Exit::Code(22) => (
            "its application could not be loaded",
            format!("the traceback is in its log; `imperator check {file}` tells what of its file is wrong"),
        ),
        Exit::Code(26) => ("there was nothing to execute, or its configuration could not be had", "see its wrapper and its source".into()),
        Exit::Code(n) => {
            return Some((
                format!("it chose to end with exit code {n}"),
                "its log, or the program's manual if it is a wrapper, tells what that means".into(),
            ));
        }
        Exit::Signal(9) => (
            "it was killed",
            "the emperor kills for a missing heartbeat or at the end of emperor-curse-tolerance, and its log says so; else somebody did, or the kernel for \
             want of memory (`dmesg | grep -i oom`)"
                .into(),
        ),
        Exit::Signal(4 | 6 | 7 | 8 | 11) => (
            "it crashed, most likely in a native library",
            "`coredumpctl` or a core file (`ulimit -c unlimited`) shows where".into(),
        ),
        Exit::Signal(31) => ("it made a system call that its seccomp profile forbids", "the kernel's log names it".into()),
        Exit::Signal(2 | 15) => (
            "somebody stopped it from outside",
            "the emperor starts it again; to stop it use `imperator stop`".into(),
        ),
        Exit::Signal(_) => return None,
    };
    Some((trouble.into(), advice))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case<'c>(state: State, lines: &'c [&'c str]) -> Case<'c> {
        Case { name: "a.ini", file: "/v/a.ini", state, exit: None, quiet_s: 0, lines, pressure: None, flood: None, loader: None }
    }

    fn trouble(case: &Case<'_>) -> String {
        diagnose(case).trouble.unwrap_or_default()
    }

    #[test]
    fn the_reason_is_named() {
        let throttled = |exit| diagnose(&Case { exit: Some(exit), ..case(State::Throttled, &[]) });
        let has = |exit, what: &str, to_do: &str| {
            let said = throttled(exit);
            assert!(said.trouble.as_ref().is_some_and(|t| t.contains(what)) && said.advice[0].contains(to_do), "{said:?}");
        };
        has(Exit::Code(1), "configuration", "imperator check /v/a.ini");
        has(Exit::Code(22), "application", "imperator check /v/a.ini");
        has(Exit::Signal(9), "killed", "oom");
        has(Exit::Signal(11), "crashed", "core");
        let full = ["OSError: [Errno 122] Disk quota exceeded: 'x'"];
        let said = diagnose(&Case { exit: Some(Exit::Code(22)), ..case(State::Throttled, &full) });
        assert!(said.trouble.as_ref().is_some_and(|t| t.contains("quota is full: OSError: [Errno 122]")), "{said:?}");
        assert!(said.advice[0].contains("imperator start a.ini"), "{said:?}");
        assert_eq!(trouble(&Case { quiet_s: 1000, ..case(State::Running, &["GET / 200"]) }), "");
        assert_eq!(diagnose(&case(State::Stopped, &full)).trouble, None);
    }

    #[test]
    fn one_that_starts_for_long_hangs_unless_its_workers_die() {
        let hangs = Case { quiet_s: 30, loader: Some(77), ..case(State::Starting, &[]) };
        assert!(trouble(&hangs).contains("hangs at import") && diagnose(&hangs).advice[0].contains("--pid 77"));
        assert_eq!(trouble(&Case { quiet_s: 2, ..hangs }), "");
        let died = "DAMN ! worker 1 (pid: 5) died (exit code 3) :( trying respawn ...";
        let lines = ["*** Starting uWSGI 2.0.30 ***", "spawned", died, "Respawned", died, "Respawned"];
        let said = trouble(&Case { lines: &lines, ..hangs });
        assert!(said.contains("2 deaths") && said.ends_with("worker 1 (pid: 5) died (exit code 3)") && !said.contains("import"), "{said}");
        let before = [died, died, died, "*** Starting uWSGI 2.0.30 ***"];
        assert!(trouble(&Case { lines: &before, ..hangs }).contains("hangs at import"), "deaths of a life before");
        assert_eq!(trouble(&case(State::Running, &lines)), "", "a death now and then");
        assert!(trouble(&case(State::Running, &[died; 5])).contains("again and again"));
    }

    #[test]
    fn an_interpreter_that_ends_while_it_loads_is_no_matter_of_the_configuration() {
        let lines = [
            "*** Starting uWSGI 2.0.30 ***",
            "the zygote of generation 1 (pid: 9) ended with exit code 3",
            "generation 1: the interpreter ended before it had loaded the app, 3 times; the lines above are its own",
        ];
        let said = diagnose(&Case { exit: Some(Exit::Code(1)), ..case(State::Throttled, &lines) });
        assert!(said.trouble.as_ref().is_some_and(|t| t.ends_with("(pid: 9) ended with exit code 3")), "{said:?}");
        assert!(said.advice.len() == 1 && said.advice[0].contains("os._exit"), "{said:?}");
        let again = [&lines[..], &lines[..1]].concat();
        let young = Case { exit: Some(Exit::Code(1)), ..case(State::Starting, &again) };
        assert!(trouble(&young).contains("ends the interpreter"), "the next try has just begun");
        assert!(trouble(&Case { quiet_s: 9, ..young }).contains("hangs at import"));
    }

    #[test]
    fn one_that_does_not_stop_is_told_with_what_follows() {
        let of = |terminated| Case { pressure: Some(Pressure { told_s: 3, terminated, next_s: 1 }), ..case(State::Stopping, &[]) };
        assert_eq!(trouble(&of(false)), "it was told to stop 3 s ago, and goes on; SIGTERM follows in 1 s");
        assert_eq!(trouble(&of(true)), "it was told to stop 3 s ago and then sent SIGTERM, and goes on; SIGKILL follows in 1 s");
        let flood = diagnose(&Case { flood: Some(8192), ..case(State::Running, &[]) });
        assert!(flood.trouble.is_some_and(|t| t.contains("8192 KiB")) && flood.advice[0].contains("vassal-log-limit"));
    }
}
