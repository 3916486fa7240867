//! Users, groups, and what a process may still do after it has given them up. The names of the configuration become numbers here, once,
//! in the master; [`imperator_worker::privileges`] carries the plan out in the process that gives something up.

mod borrowed;
pub mod files;
mod forced;
mod groups;
mod hierarchy;
mod identity;
mod isolation;
mod kernel;
mod limits;
mod plan;
mod policy;

pub use borrowed::as_app;
pub use forced::{FORCED_ENV, Forced};
pub use groups::{join_cgroups, leave_cgroup};
pub use hierarchy::Hierarchy;
pub use identity::{IdentityError, group, owner, user};
pub use isolation::{Isolated, group_of, isolated, needs_namespaces, report};
pub use kernel::Kernel;
pub use limits::{Group, instance_name};
pub use plan::{Place, joined, plan, take_at_once, wants_pid_namespace};
pub use policy::{Cell, Policy};
