//! Writing a store to disk.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use crate::Cache;

impl Cache {
    /// Writes the store to disk and waits for it, so not for a thread that others wait for. Nothing without a store. Should somebody have cut the file short (an access to what is missing ends a
    /// process with SIGBUS), it gets its size back, and this is an error.
    pub fn sync(&self) -> io::Result<()> {
        if self.definition.store.is_none() {
            return Ok(());
        }
        let file = File::from(self.memory.segment.as_fd().try_clone_to_owned()?);
        let bytes = file.metadata()?.len();
        if bytes < self.memory.layout.total as u64 {
            file.set_len(self.memory.layout.total as u64)?;
            return Err(io::Error::other(format!("the store file was cut to {bytes} bytes by somebody")));
        }
        self.memory.segment.sync()
    }
}
