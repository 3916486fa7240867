//! Users, groups, and what a process may still do after it has given them up.

mod identity;

pub use identity::{IdentityError, owner, user};
