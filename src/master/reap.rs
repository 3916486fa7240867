//! The deaths of children.

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::decide::{Event, How};
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
        if self.inside.ended(pid) {
            return;
        }
        if let Some(generation) = self.instance.zygote_of(pid) {
            self.on_zygote(generation); // its last words
            if let Some(zygote) = self.runtimes.get_mut(&generation).and_then(|r| r.zygote.take()) {
                self.poll.remove(&zygote);
            }
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
        if let Some(runtime) = self.runtimes.get_mut(&generation) {
            runtime.note_end(worker);
            if let Some(control) = runtime.workers.remove(&worker) {
                self.poll.remove(&control);
            }
        }
        self.tell(Event::WorkerGone { generation, worker, how });
    }
}
