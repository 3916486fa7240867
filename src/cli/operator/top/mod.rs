//! `imperator top [NAME|FILE]`: a full screen of an instance or of all vassals of an emperor, looked at anew every second.

mod draw;
mod sample;
mod view;

use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use imperator_sys::process::monotonic_ms;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use ratatui::crossterm::event::{self, Event};

use self::sample::{Look, Seen};
use self::view::View;
use super::target::Target;
use super::{ask, emperor, instance, shown};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// How long a key is waited for before the screen looks for news, in milliseconds.
const KEY: u8 = 100;

/// Shows it until somebody has seen enough.
pub(super) fn run(target: Target) -> Result<()> {
    ensure!(
        std::io::stdout().is_terminal() && std::io::stdin().is_terminal(),
        "this needs a terminal; `imperator ps --json` says the same to scripts"
    );
    let title = match &target {
        Target::Instance(instance) => instance.name.clone(),
        Target::Emperor(emperor) => emperor.vassal.clone().unwrap_or_else(|| emperor.address.clone()),
    };
    // Before the screen is taken: what does not run is told as by every other command.
    let first = look(&target)?;
    let ends = signals()?;
    // One look may wait here while the screen is drawn, no more.
    let (sender, looks) = sync_channel(1);
    thread::Builder::new().name("looks".into()).spawn(move || look_on(&target, &sender)).context("a thread")?;
    let mut view = View::new(title);
    view.see(Ok(first));
    // Also restores the terminal when something panics.
    let mut terminal = ratatui::try_init().context("the terminal")?;
    let done = show(&mut terminal, &mut view, &looks, &ends);
    ratatui::restore();
    done
}

fn show(terminal: &mut ratatui::DefaultTerminal, view: &mut View, looks: &Receiver<Result<Look, String>>, ends: &SignalFd) -> Result<()> {
    loop {
        match looks.try_recv() {
            Ok(look) => view.see(look),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
        terminal.draw(|frame| draw::draw(frame, view))?;
        if !terminal_waits()? {
            return Ok(());
        }
        if event::poll(Duration::ZERO)?
            && let Event::Key(key) = event::read()?
            && view.press(key)
        {
            return Ok(());
        }
        if ends.read_signal()?.is_some() {
            return Ok(());
        }
    }
}

/// Waits for a key for a moment; false if the terminal is gone. The events' reader would read the end of its input for ever.
fn terminal_waits() -> Result<bool> {
    let stdin = std::io::stdin();
    let mut input = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    match poll(&mut input, KEY) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error).context("the terminal"),
    }
    Ok(!input[0].revents().is_some_and(|seen| seen.intersects(PollFlags::POLLHUP | PollFlags::POLLERR)))
}

/// What asks a command to end, so that the terminal is given back first. A hangup is left to end it: there is no terminal to give back.
fn signals() -> Result<SignalFd> {
    let set = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// Until nobody takes the looks any more.
fn look_on(target: &Target, sender: &SyncSender<Result<Look, String>>) {
    loop {
        thread::sleep(LOOK);
        if sender.send(look(target).map_err(|e| format!("{e:#}"))).is_err() {
            return;
        }
    }
}

fn look(target: &Target) -> Result<Look> {
    let seen = match target {
        Target::Instance(instance) => Seen::Instance(instance::measured(ask::figures(instance)?)),
        Target::Emperor(emperor) if emperor.vassal.is_some() => {
            let figures = serde_json::from_value(emperor::send(emperor, "stats")?).context("the vassal's statistics")?;
            Seen::Instance(instance::measured(figures))
        }
        Target::Emperor(emperor) => Seen::Estate(serde_json::from_value(emperor::send(emperor, "ps")?).context("the emperor's answer")?),
    };
    Ok(Look { at: monotonic_ms(), epoch: shown::now(), seen })
}
