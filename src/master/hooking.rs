//! Hooks of the running master, one after the other, and the master waits for none of them: a command is a child like others, and what waits
//! for a file is looked at again a little later. As uWSGI's master has given its rights up by then, they are done with the app's.

use std::collections::VecDeque;
use std::io::ErrorKind;

use imperator_sys::process::monotonic_ms;
use imperator_worker::log::diag::say;
use nix::libc::SIGKILL;

use super::decide::{Event, Haste, How, Ms};
use super::helper::Helper;
use super::running::{Master, send_signal_to_group};
use crate::hooks::{Action, Effects, Hook, HookError, fatal};
use crate::privileges::{Place, as_app};

/// Between two looks at what a hook waits for, and how long it may.
const LOOK: Ms = 100;
const PATIENCE: Ms = 60_000;

#[derive(Default)]
pub struct Hooking {
    queue: VecDeque<Step>,
    /// The command that runs.
    running: Option<(i32, Step)>,
    look_at: Option<Ms>,
    /// The life of this master ends (with the instance, or in a reload's exec), and waits for what that has asked for until then.
    last: Option<Last>,
    /// A stop has come while a reload waited for `as-user-atexit`: it has been done.
    at_exit_done: bool,
}

struct Step {
    hook: Hook,
    /// It waits for something, until then.
    until: Option<Ms>,
}

#[derive(Clone, Copy)]
struct Last {
    by: Ms,
    /// The reload that follows.
    reload: Option<bool>,
}

impl Hooking {
    pub fn next_deadline(&self) -> Option<Ms> {
        self.look_at.into_iter().chain(self.last.map(|last| last.by)).min()
    }

    /// Hooks that come with the end of the instance: an emperor's words, and `as-user-atexit`.
    fn last_words(&self) -> bool {
        let of_the_end = |step: &Step| step.hook.phase.starts_with("emperor-") || step.hook.phase == AT_EXIT;
        self.running.iter().map(|(_, step)| step).chain(&self.queue).any(of_the_end)
    }
}

/// What is done for a hook.
enum Done {
    /// As far as it goes without waiting.
    Now,
    Runs(i32),
    /// It would have to wait.
    Waits,
}

const AT_EXIT: &str = "as-user-atexit";

impl Master {
    pub(super) fn queue_hooks(&mut self, hooks: impl Iterator<Item = Hook>) {
        self.hooking.queue.extend(hooks.map(|hook| Step { hook, until: None }));
        self.next_hook();
    }

    pub(super) fn hooks_due(&mut self) {
        if self.hooking.look_at.is_some_and(|at| at <= monotonic_ms()) {
            self.hooking.look_at = None;
            self.next_hook();
        }
    }

    /// A child has ended: whether it was the command of a hook.
    pub(super) fn hook_ended(&mut self, pid: i32, how: How) -> bool {
        if self.hooking.running.as_ref().is_none_or(|(running, _)| *running != pid) {
            return false;
        }
        if let Some((_, step)) =
            self.hooking.running.take().filter(|(_, step)| how != How::Exited(0) && !matches!(step.hook.action, Action::SafeExec(_)))
        {
            self.hook_failed(&step.hook, &format!("its command ended with {how:?}"));
        }
        self.next_hook();
        true
    }

    /// `as-user-atexit` before a reload's exec, which is for [`Self::reload_due`] to do then; whether there is anything to wait for.
    pub(super) fn exec_waits(&mut self, brutal: bool) -> bool {
        if let Some(Last { reload: Some(brutally), .. }) = &mut self.hooking.last {
            *brutally |= brutal; // asked for once more
            return true;
        }
        self.run_phase(AT_EXIT);
        let waits = self.hooking.last_words();
        if waits {
            self.hooking.last = Some(Last { by: monotonic_ms() + self.hook_mercy(), reload: Some(brutal) });
        }
        waits
    }

    /// Hooks have kept a reload, and keep it no longer: whether it is brutal.
    pub(super) fn reload_due(&mut self) -> Option<bool> {
        let Last { by, reload } = self.hooking.last?;
        let brutal = reload.filter(|_| !self.hooking.last_words() || by <= monotonic_ms())?;
        self.hooking.last = None;
        self.end_hook();
        self.hooking.at_exit_done = self.instance.ending.is_some();
        Some(brutal).filter(|_| !self.hooking.at_exit_done)
    }

    /// Everything else has ended: whether hooks keep the instance no longer. One that hangs does so for the time that daemons have.
    pub(super) fn hooks_ended(&mut self) -> bool {
        let latest = monotonic_ms() + self.hook_mercy();
        let by = match self.hooking.last {
            Some(last) => last.by.min(latest),
            None => {
                if !self.hooking.at_exit_done {
                    self.run_phase(AT_EXIT);
                }
                latest
            }
        };
        self.hooking.last = Some(Last { by, reload: None });
        if self.hooking.last_words() && monotonic_ms() < by {
            return false;
        }
        self.end_hook();
        true
    }

    fn hook_mercy(&self) -> Ms {
        let mercy = self.last_settings.as_ref().map_or(0, |s| Ms::from(s.reload.mercy) * 1000);
        self.instance.ending.as_ref().map_or(mercy, |ending| ending.mercy(mercy))
    }

    fn end_hook(&mut self) {
        if let Some((pid, step)) = &self.hooking.running {
            say(&format!("hook-{}: it did not end in time: killing it", step.hook.phase));
            send_signal_to_group(*pid, SIGKILL);
        }
    }

    fn next_hook(&mut self) {
        while self.hooking.running.is_none() && self.hooking.look_at.is_none() {
            let Some(step) = self.hooking.queue.pop_front() else { return };
            self.start_hook(step);
        }
    }

    fn start_hook(&mut self, mut step: Step) {
        let now = monotonic_ms();
        if step.until.is_none() {
            step.hook.announce();
        }
        match self.start_action(&step.hook.action) {
            Ok(Done::Runs(pid)) => self.hooking.running = Some((pid, step)),
            Ok(Done::Now) => {}
            Ok(Done::Waits) if step.until.is_none_or(|until| now < until) => {
                step.until.get_or_insert(now + PATIENCE);
                self.hooking.queue.push_front(step);
                self.hooking.look_at = Some(now + LOOK);
            }
            Ok(Done::Waits) => self.hook_failed(&step.hook, "what it waits for is not there"),
            Err(error) => self.hook_failed(&step.hook, &format!("{error:#}")),
        }
    }

    /// A touched file's: it waits for nothing, and its failure is logged.
    pub(super) fn touched_action(&mut self, action: &Action) {
        match self.start_action(action) {
            Ok(Done::Now | Done::Runs(_)) => {}
            Ok(Done::Waits) => say("touch: what the action waits for is not there"),
            Err(error) => say(&format!("touch: {error:#}")),
        }
    }

    fn start_action(&mut self, action: &Action) -> anyhow::Result<Done> {
        if let Action::Exec(command) | Action::SafeExec(command) = action {
            let pid = self.start_helper(&Helper { command, tied: true, ..Helper::default() })?;
            return Ok(Done::Runs(pid.as_raw()));
        }
        let mut effects = Effects::default();
        match as_app(&self.rights(), Place::BeforeExec, || action.at_once(&mut effects))? {
            Ok(()) => {
                self.effects(&effects);
                Ok(Done::Now)
            }
            Err(HookError::Io { source, .. }) if source.kind() == ErrorKind::WouldBlock => Ok(Done::Waits),
            Err(error) => Err(error.into()),
        }
    }

    fn hook_failed(&mut self, hook: &Hook, why: &str) {
        say(&format!("hook-{}: {why}", hook.phase));
        if fatal(&hook.phase) {
            self.hooking.queue.retain(|step| step.hook.phase != hook.phase);
            self.tell(Event::Stop { haste: Haste::Now, code: 1 });
        }
    }
}
