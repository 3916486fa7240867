//! What this kernel, and this process's rights, have of what isolation needs.

use std::path::Path;

use imperator_sys::caps;
use imperator_worker::isolation::landlock;
use imperator_worker::settings::Measures;

/// What is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// Version of landlock's interface; 0: none.
    pub landlock: i32,
    pub seccomp: bool,
    /// This process may make namespaces and mounts.
    pub may_mount: bool,
}

impl Kernel {
    /// This one, for this process.
    pub fn here() -> Self {
        let known = ["x86_64", "aarch64", "riscv64"].contains(&std::env::consts::ARCH);
        Self {
            landlock: landlock::version(),
            seccomp: known && Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
            may_mount: caps::has(caps::SYS_ADMIN),
        }
    }

    /// What of the measures cannot be had here: each with the reason, for people. `needed`: namespaces that this process has to make itself.
    pub fn lacks(&self, measures: &Measures, needed: bool) -> Vec<String> {
        let mut lacks = vec![];
        if self.landlock == 0 && (measures.files || measures.scope) {
            lacks.push("landlock (Linux 5.13 with lsm=landlock): files are kept by their permissions only".to_owned());
        } else if self.landlock < landlock::SCOPES && measures.scope {
            let text =
                format!("landlock's scopes (6, Linux 6.12; this one has {}): signals and abstract sockets of the same user", self.landlock);
            lacks.push(text);
        }
        if !self.seccomp && !measures.seccomp.is_empty() {
            lacks.push("seccomp: no system call is refused".to_owned());
        }
        if !self.may_mount && needed {
            lacks.push("namespaces and private mounts: this process is not root, and user namespaces are refused to it".to_owned());
        }
        lacks
    }

    /// The measures without what is not there.
    pub fn limit(&self, mut measures: Measures) -> Measures {
        measures.files &= self.landlock > 0;
        measures.scope &= self.landlock >= landlock::SCOPES;
        if !self.seccomp {
            measures.seccomp.clear();
        }
        if !self.may_mount {
            measures.namespaces.clear();
            measures.private_tmp = false;
            measures.hide.clear();
        }
        measures
    }
}

#[cfg(test)]
mod tests {
    use imperator_worker::settings::{Isolation, Level};

    use super::*;

    #[test]
    fn what_is_missing_is_said_once_and_left_out() {
        let strict = Isolation { level: Level::Strict, ..Isolation::default() }.measures();
        let all = Kernel { landlock: 7, seccomp: true, may_mount: true };
        assert_eq!((all.lacks(&strict, true), all.limit(strict.clone())), (vec![], strict.clone()));
        let none = Kernel { landlock: 0, seccomp: false, may_mount: false };
        assert_eq!(none.lacks(&strict, true).len(), 3);
        let rest = none.limit(strict.clone());
        assert!(!rest.files && rest.namespaces.is_empty() && rest.no_new_privs && rest.drop_capabilities);
        let old = Kernel { landlock: 3, ..all };
        assert!(old.lacks(&strict, true)[0].contains("this one has 3") && old.limit(strict).files);
        assert_eq!(none.lacks(&Isolation::default().measures(), false), Vec::<String>::new());
    }
}
