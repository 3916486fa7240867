//! The master's side of hooks: what a phase is, and what `unix_signal` makes of a signal.
//!
//! Parser and actions are `imperator_worker::hooks`, because zygote and workers run phases too.

pub use imperator_worker::hooks::{Action, Effects, Hook, HookError, Hooks, Reaction, fatal};

use crate::master::Order;

/// The order that a signal of `unix_signal` stands for.
pub fn order(reaction: Reaction) -> Order {
    match reaction {
        Reaction::GracefulStop => Order::GracefulStop,
        Reaction::Stop => Order::Stop,
        Reaction::Reload => Order::Reload,
        Reaction::BrutalReload => Order::BrutalReload,
        Reaction::PauseOrResume => Order::PauseOrResume,
        Reaction::Report => Order::Report,
    }
}

/// What `signal` was made to mean by the hooks so far; the last word counts.
pub fn reaction(signals: &[(i32, Reaction)], signal: i32) -> Option<Order> {
    signals.iter().rev().find(|(number, _)| *number == signal).map(|(_, reaction)| order(*reaction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_on_a_signal_counts() {
        let signals = [(15, Reaction::Stop), (1, Reaction::Reload), (15, Reaction::GracefulStop)];
        assert_eq!(reaction(&signals, 15), Some(Order::GracefulStop));
        assert_eq!(reaction(&signals, 3), None);
    }
}
