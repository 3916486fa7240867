//! The values of the user's own metrics, in shared memory.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;

use imperator_sys::shm::SharedCells;

use super::Definition;

/// Metrics that one instance can define: two pages of values.
pub const MOST: usize = 1024;

/// One cell a metric. A name keeps its cell over reloads, so that workers of two generations count in the same.
pub struct Metrics {
    cells: SharedCells,
    slots: HashMap<String, usize>,
    names: Vec<String>,
}

impl Metrics {
    /// A segment without metrics.
    ///
    /// # Errors
    /// There is no memory.
    pub fn create() -> io::Result<Self> {
        Ok(Self { cells: SharedCells::create("imperator-metrics", MOST)?, slots: HashMap::new(), names: vec![] })
    }

    /// The segment behind `memfd`, in which `names` have the first cells, in that order.
    ///
    /// # Errors
    /// It is smaller than it has to be.
    pub fn open(memfd: OwnedFd, names: Vec<String>) -> io::Result<Self> {
        let cells = SharedCells::open(memfd)?;
        if cells.cells().len() < names.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the metrics are more than their segment"));
        }
        let slots = names.iter().cloned().enumerate().map(|(slot, name)| (name, slot)).collect();
        Ok(Self { cells, slots, names })
    }

    /// Gives a cell to each definition that has none, with its initial value.
    ///
    /// # Errors
    /// There is room for [`MOST`] names, over all reloads.
    pub fn define<'d>(&mut self, definitions: impl Iterator<Item = &'d Definition>) -> io::Result<()> {
        for definition in definitions.filter(|d| d.alias.is_none()) {
            if self.slots.contains_key(&definition.name) {
                continue;
            }
            let slot = self.names.len();
            let Some(cell) = self.cells.cells().get(slot) else {
                return Err(io::Error::other(format!("metric = {}: {MOST} are the most", definition.name)));
            };
            cell.store(definition.initial as u64, Relaxed);
            self.slots.insert(definition.name.clone(), slot);
            self.names.push(definition.name.clone());
        }
        Ok(())
    }

    /// The order of the cells.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The value of the cell of that name.
    pub fn get(&self, name: &str) -> Option<i64> {
        Some(self.cells.cells().get(*self.slots.get(name)?)?.load(Relaxed) as i64)
    }

    /// Changes a value, atomically for all processes; whether there is one of that name and `change` gave a new value.
    pub fn update(&self, name: &str, change: impl Fn(i64) -> Option<i64>) -> bool {
        let cell = self.slots.get(name).and_then(|slot| self.cells.cells().get(*slot));
        let change = |old: u64| change(old as i64).map(|new| new as u64);
        cell.is_some_and(|cell| cell.fetch_update(Relaxed, Relaxed, change).is_ok())
    }
}

impl AsFd for Metrics {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.cells.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn definition(line: &str) -> Definition {
        Definition::parse(line).unwrap()
    }

    #[test]
    fn a_name_keeps_its_cell_and_its_value() {
        let mut one = Metrics::create().unwrap();
        one.define([definition("name=a,initial_value=-3"), definition("b")].iter()).unwrap();
        assert!(one.update("a", |n| n.checked_add(5)) && !one.update("c", Some) && !one.update("b", |_| None));
        let mut two = Metrics::open(one.as_fd().try_clone_to_owned().unwrap(), one.names().to_vec()).unwrap();
        two.define([definition("c"), definition("name=a,initial_value=9")].iter()).unwrap();
        assert_eq!((two.get("a"), two.get("b"), two.get("c"), two.get("d")), (Some(2), Some(0), Some(0), None));
        assert_eq!(two.names(), ["a", "b", "c"]);
    }

    #[test]
    fn there_is_an_end_to_the_room() {
        let mut metrics = Metrics::create().unwrap();
        let many: Vec<Definition> = (0..=MOST).map(|n| definition(&format!("m{n}"))).collect();
        assert!(metrics.define(many[..MOST].iter()).is_ok());
        assert!(metrics.define(many.iter()).unwrap_err().to_string().contains("m1024"));
    }
}
