//! Hooks of the running master, one after the other, and the master waits for none of them: a command is a child like others, and what waits
//! for a file is looked at again a little later.

use std::collections::VecDeque;
use std::io::ErrorKind;

use imperator_sys::process::monotonic_ms;
use imperator_worker::log::diag::say;
use nix::libc::SIGKILL;

use super::decide::{Event, Haste, How, Ms};
use super::running::{Master, send_signal_to_group};
use crate::hooks::{Action, Effects, Hook, HookError, fatal};

/// Between two looks at what a hook waits for, and how long it may.
const LOOK: Ms = 100;
const PATIENCE: Ms = 60_000;

#[derive(Default)]
pub struct Hooking {
    queue: VecDeque<Step>,
    /// The command that runs.
    running: Option<(i32, Step)>,
    look_at: Option<Ms>,
    /// The instance ends, and waits for what its end has asked for until then.
    end_at: Option<Ms>,
}

struct Step {
    hook: Hook,
    /// It waits for something, until then.
    until: Option<Ms>,
}

impl Hooking {
    pub fn next_deadline(&self) -> Option<Ms> {
        self.look_at.into_iter().chain(self.end_at).min()
    }

    /// Hooks of an emperor's words, which come with the end.
    fn last_words(&self) -> bool {
        let running = self.running.iter().map(|(_, step)| step);
        running.chain(&self.queue).any(|step| step.hook.phase.starts_with("emperor-"))
    }
}

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

    /// Everything else has ended: whether hooks keep the instance no longer. One that hangs does so for the time that daemons have.
    pub(super) fn hooks_ended(&mut self) -> bool {
        let mercy = self.last_settings.as_ref().map_or(0, |s| Ms::from(s.reload.mercy) * 1000);
        let mercy = self.instance.ending.as_ref().map_or(mercy, |ending| ending.mercy(mercy));
        let now = monotonic_ms();
        let end_at = *self.hooking.end_at.get_or_insert(now + mercy);
        if self.hooking.last_words() && now < end_at {
            return false;
        }
        if let Some((pid, _)) = &self.hooking.running {
            send_signal_to_group(*pid, SIGKILL);
        }
        true
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
        let mut effects = Effects::default();
        match step.hook.action.spawn(&mut effects) {
            Ok(Some(child)) => self.hooking.running = Some((child.id() as i32, step)),
            Ok(None) => self.effects(&effects),
            Err(HookError::Io { source, .. }) if source.kind() == ErrorKind::WouldBlock && step.until.is_none_or(|until| now < until) => {
                step.until.get_or_insert(now + PATIENCE);
                self.hooking.queue.push_front(step);
                self.hooking.look_at = Some(now + LOOK);
            }
            Err(error) => self.hook_failed(&step.hook, &error.to_string()),
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
