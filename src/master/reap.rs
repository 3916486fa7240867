//! The deaths of children.

use imperator_worker::control::ToWorker;
use imperator_worker::log::diag::say;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::decide::{Event, How, Stage};
use super::running::Master;

impl Master {
    /// Reaps all that ended: zygotes, workers, and orphans that became ours.
    pub(super) fn reap(&mut self) {
        loop {
            let (pid, how) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid.as_raw(), How::Exited(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid.as_raw(), How::Killed(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            self.buried(pid, how);
        }
    }

    fn buried(&mut self, pid: i32, how: How) {
        if self.inside.ended(pid) || self.daemon_ended(pid) || self.cron_ended(pid) || self.alarm_ended(pid) || self.hook_ended(pid, how) {
            return;
        }
        if let Some(generation) = self.instance.zygote_of(pid) {
            self.on_zygote(generation); // its last words
            if let Some(zygote) = self.runtimes.get_mut(&generation).and_then(|r| r.zygote.take()) {
                self.poll.remove(&zygote);
            }
            self.tell_of_zygote(generation, pid, how);
            return self.tell(Event::ZygoteGone { generation });
        }
        if self.instance.worker_of(pid).is_none() {
            // Perhaps one whose first words are still unread.
            let forking: Vec<_> = self.runtimes.iter().flat_map(|(g, r)| r.workers.keys().map(|w| (*g, *w))).collect();
            forking
                .into_iter()
                .filter(|(g, w)| self.is_forking(*g, *w))
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(|(g, w)| self.on_worker(g, w));
        }
        let Some((generation, worker)) = self.instance.worker_of(pid) else { return };
        self.on_worker(generation, worker);
        self.tally_end(generation, worker, how);
        if let Some(runtime) = self.runtimes.get_mut(&generation) {
            runtime.note_end(worker);
            if let Some(control) = runtime.workers.remove(&worker) {
                self.poll.remove(&control);
            }
        }
        if how == How::Killed(nix::libc::SIGSEGV) {
            self.crashed(worker, pid);
        }
        self.tell(Event::WorkerGone { generation, worker, how });
        self.rouse();
    }

    /// How one ended that was loading the app: nobody else says it.
    fn tell_of_zygote(&self, generation: u64, pid: i32, how: How) {
        let loads = self.instance.generations.iter().any(|g| g.number == generation && g.stage == Stage::Loading);
        let how = match how {
            How::Exited(code) => format!("ended with exit code {code}"),
            How::Killed(signal) => format!("was killed by signal {signal}"),
            How::Vanished => return,
        };
        if loads && self.instance.ending.is_none() {
            say(&format!("the zygote of generation {generation} (pid: {pid}) {how}"));
        }
    }

    /// A worker that ended may have been the only one that was woken for a connection: the others look for themselves.
    fn rouse(&self) {
        if self.instance.paused || self.instance.ending.is_some() {
            return;
        }
        for generation in self.instance.generations.iter().filter(|g| g.stage != Stage::Draining) {
            let Some(runtime) = self.runtimes.get(&generation.number) else { continue };
            let accepting = generation.workers.iter().filter(|s| s.running().is_some_and(|r| r.accepting && r.leaving.is_none()));
            for control in accepting.filter_map(|s| runtime.workers.get(&s.id)) {
                // One whose queue is full has enough to read, and looks anyway.
                let _ = control.send(&ToWorker::Pause(false), &[]);
            }
        }
    }
}
