//! `imperator top [NAME|FILE]`: a full screen of an instance or of all vassals of an emperor, looked at anew every second.

mod draw;
mod sample;
mod view;

use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use imperator_sys::process::monotonic_ms;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SigSet, Signal};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};

use self::sample::{Look, Seen};
use self::view::View;
use super::target::Target;
use super::{ask, emperor, instance, shown};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Milliseconds that a key is waited for before the screen looks for news.
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
    let ended = on_signals()?;
    // One look may wait here while the screen is drawn, no more.
    let (sender, looks) = sync_channel(1);
    thread::Builder::new().name("looks".into()).spawn(move || look_on(&target, &sender)).context("a thread")?;
    let mut view = View::new(title);
    view.see(Ok(first));
    // Also restores the terminal when something panics.
    let mut terminal = ratatui::try_init().context("the terminal")?;
    let done = show(&mut terminal, &mut view, &looks, &ended);
    ratatui::restore();
    done
}

fn show(terminal: &mut DefaultTerminal, view: &mut View, looks: &Receiver<Result<Look, String>>, ended: &AtomicBool) -> Result<()> {
    while !ended.load(Relaxed) {
        match looks.try_recv() {
            Ok(look) => view.see(look),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
        terminal.draw(|frame| draw::draw(frame, view))?;
        let keys = wait_for_keys()?;
        if keys.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
            return Ok(());
        }
        while !keys.is_empty() && event::poll(Duration::ZERO)? {
            if let Event::Key(key) = event::read()?
                && view.press(key)
            {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What there is of standard input after at most [`KEY`]. Whoever asked crossterm about a terminal that is gone would wait for ever, and not idly.
fn wait_for_keys() -> Result<PollFlags> {
    let stdin = std::io::stdin();
    let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, KEY) {
        Ok(_) => Ok(fds[0].revents().unwrap_or(PollFlags::empty())),
        Err(Errno::EINTR) => Ok(PollFlags::empty()),
        Err(error) => Err(error.into()),
    }
}

/// What asks a command to end is told to the loop, so that it gives the terminal back; a loop that does not listen is not waited for.
fn on_signals() -> Result<Arc<AtomicBool>> {
    let set = SigSet::from_iter([Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT]);
    set.thread_block()?;
    let ended = Arc::new(AtomicBool::new(false));
    let told = ended.clone();
    let wait = move || {
        let _ = set.wait();
        told.store(true, Relaxed);
        thread::sleep(LOOK);
        ratatui::restore();
        std::process::exit(0);
    };
    thread::Builder::new().name("signals".into()).spawn(wait).context("a thread")?;
    Ok(ended)
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
