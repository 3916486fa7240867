//! A zygote that is no new program: for Lua the master's own executable is the one that is wanted, and it is in memory already.
//!
//! The fork goes on as a zygote where an exec would bring the same program once more, with pages of its own for everything that start-up writes to
//! (relocations, libraries' data, heap). But memory goes along: so only where master and zygote are the same user with the same rights. Where the
//! zygote gives something up, it is executed, and nothing of the master's memory is within its reach.

use std::convert::Infallible;

use anyhow::{Context, Result};
use imperator_sys::process;
use imperator_sys::seqpacket::SeqPacket;
use imperator_worker::log::diag::say;
use imperator_worker::privileges::Plan;
use nix::unistd::Pid;

use super::spawn::{Recipe, environment, put_by_hooks};

impl Recipe<'_> {
    /// Whether the zygote may go on in a copy of the master's memory.
    pub fn may_go_on(&self) -> bool {
        !self.settings.wants_python() && *self.plan == Plan::default()
    }

    /// Goes on as the zygote. Returns only if that fails before anything of the master's was given away.
    ///
    /// # Errors
    /// An environment variable that cannot be set; no /proc.
    pub fn go_on(&self, control: &SeqPacket, master: Pid) -> Result<Infallible> {
        let boot = self.record(Some(control), master.as_raw(), self.plan)?;
        self.take_environment()?;
        Ok(process::start_over(|| match imperator_lua::run(boot) {
            Ok(code) => code & 0xff,
            Err(error) => {
                say(&format!("*** {error:#} ***"));
                1
            }
        })?)
    }

    fn take_environment(&self) -> Result<()> {
        let mut env = environment(self.start, self.settings);
        put_by_hooks(self.start, &mut env);
        imperator_sys::environ::replace(&env).context("the app's environment")
    }
}
