//! `imperator reload|stop|start FILE`: says what it did, and waits for what comes of it.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::super::ask::figures;
use super::super::shown::plain;
use super::super::target::Instance;
use super::super::words::Ask;
use super::log::Mark;
use super::master::{Master, alive};
use crate::cli::{check, print};
use crate::stats::Extra;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Lines of the log that a failed reload shows: a traceback is among them.
const LINES: usize = 30;

/// What became of a reload.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Done(u64),
    Failed(String),
}

pub(super) fn reload(ask: &Ask, instance: &Instance) -> Result<()> {
    let master = Master::find(instance)?;
    let before = figures(instance).map(|figures| figures.imperator);
    let mark = Mark::here(instance);
    let told = master.tell(b'r', Signal::SIGHUP)?;
    let Some(before) = before.ok().filter(|before| before.generation > 0) else {
        print(&format!("reload: {told}; with a `stats =` line in {} this would tell what became of it\n", instance.name));
        return Ok(());
    };
    let later = || figures(instance).ok().and_then(|now| outcome(&before, &now.imperator));
    match wait(ask.wait, later) {
        Some(Outcome::Done(generation)) => print(&format!("reload: {told}; generation {generation} serves\n")),
        Some(Outcome::Failed(why)) => {
            let said = mark.map(|mut mark| mark.since(LINES)).unwrap_or_default();
            print(&said.iter().map(|line| format!("  {}\n", plain(line))).collect::<String>());
            bail!("{told}; it failed, and generation {} serves on: {}", before.generation, plain(&why))
        }
        None => bail!("{told}; nothing came of it in {} s, see `imperator why {}`", ask.wait.as_secs(), instance.name),
    }
    Ok(())
}

/// What the figures say of a reload that was asked for when they were as `before`.
fn outcome(before: &Extra, now: &Extra) -> Option<Outcome> {
    if now.generation > before.generation {
        return Some(Outcome::Done(now.generation));
    }
    (now.failed_reloads > before.failed_reloads).then(|| Outcome::Failed(now.last_reload_error.clone()))
}

pub(super) fn stop(ask: &Ask, instance: &Instance) -> Result<()> {
    let master = Master::find(instance)?;
    let (byte, signal) = if ask.now { (b'Q', Signal::SIGINT) } else { (b'q', Signal::SIGQUIT) };
    let told = master.tell(byte, signal)?;
    let Some(pid) = master.pid else {
        print(&format!("stop: {told}; with a `stats =` or `pidfile =` line in {} this would wait for the end\n", instance.name));
        return Ok(());
    };
    match wait(ask.wait, || (!alive(pid)).then_some(())) {
        Some(()) => print(&format!("stop: {told}; it has ended\n")),
        None => bail!("{told}; process {pid} runs on after {} s: `imperator stop --now {}`", ask.wait.as_secs(), instance.name),
    }
    Ok(())
}

/// Becomes the instance, in the foreground unless its file says otherwise.
pub(super) fn start(instance: &Instance) -> Result<()> {
    if let Ok(master) = Master::find(instance) {
        bail!("{} runs already{}", instance.name, master.pid.map_or_else(String::new, |pid| format!(" (process {pid})")));
    }
    let program = std::env::current_exe().context("this executable")?;
    let error = Command::new(program).args(&check::arguments(&instance.name)[1..]).exec();
    Err(error).context("cannot start it")
}

/// Until `probe` has something, at most that long.
fn wait<T>(most: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + most;
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_a_reload() {
        let before = Extra { generation: 2, failed_reloads: 1, last_reload_error: "old".into(), ..Extra::default() };
        assert_eq!(outcome(&before, &before), None);
        assert_eq!(outcome(&before, &Extra { generation: 3, ..before.clone() }), Some(Outcome::Done(3)));
        let failed = Extra { failed_reloads: 2, last_reload_error: "no app".into(), ..before.clone() };
        assert_eq!(outcome(&before, &failed), Some(Outcome::Failed("no app".into())));
    }
}
