//! `isolate` and its parts: what an app's processes may still do and see.

use serde::{Deserialize, Serialize};

use crate::isolation::profile::Profile;

/// `isolate`: a set of parts that go together.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    #[default]
    Off,
    /// What hardly any app notices.
    Default,
    /// That, a process and file-system view of its own, and only the files that it names.
    Strict,
}

/// `seccomp`: which system calls are refused.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Seccomp {
    Off,
    Default,
    Strict,
    /// As it was when the configuration was read.
    File {
        path: String,
        profile: Profile,
    },
}

/// As configured; [`Isolation::measures`] says what it comes to.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(default)]
pub struct Isolation {
    pub level: Level,
    /// `require-isolation`: what the kernel lacks ends the start.
    pub required: bool,
    pub no_new_privs: Option<bool>,
    pub seccomp: Option<Seccomp>,
    pub private_tmp: Option<bool>,
    /// `private-tmp-size`, bytes; `None`: half of the memory, tmpfs's own default.
    pub tmp_size: Option<u64>,
    pub landlock: Option<bool>,
    pub read: Vec<String>,
    pub write: Vec<String>,
    pub exec: Vec<String>,
    /// `hide-path`.
    pub hide: Vec<String>,
    pub group: GroupLimits,
    /// What the emperor demands of this vassal.
    pub forced: Option<Box<Isolation>>,
    pub made: Made,
}

/// What the emperor has done already, before it started this vassal.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(default)]
pub struct Made {
    /// By their names in `unshare`.
    pub namespaces: Vec<String>,
    pub tmp: bool,
    /// Its own `hide-path`s.
    pub hidden: bool,
    pub proc: bool,
    /// Files, system calls and capabilities, for the master too.
    pub sealed: bool,
}

/// `cgroup-memory` and its kin: limits of a control group that is made for the instance.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(default)]
pub struct GroupLimits {
    /// What the group is called: made of the configuration's name and place.
    pub name: String,
    /// `cgroup-parent`: a group below our own, or from the root of the hierarchy if it begins with `/`; `None`: `imperator`.
    pub parent: Option<String>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Thousandths of a processor: 500 is `50%`.
    pub cpu_milli: Option<u32>,
    pub pids: Option<u64>,
}

impl GroupLimits {
    pub fn any(&self) -> bool {
        self.memory.is_some() || self.cpu_milli.is_some() || self.pids.is_some()
    }
}

/// What an [`Isolation`] comes to, part by part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Measures {
    pub no_new_privs: bool,
    /// All of them hold.
    pub seccomp: Vec<Seccomp>,
    pub private_tmp: bool,
    /// Only named files.
    pub files: bool,
    /// No signal and no abstract socket of others.
    pub scope: bool,
    /// Names for `unshare`.
    pub namespaces: Vec<&'static str>,
    /// No capability at all, unless `cap` names some.
    pub drop_capabilities: bool,
    pub hide: Vec<String>,
    pub required: bool,
}

impl Measures {
    pub fn any(&self) -> bool {
        *self != Self { required: self.required, ..Self::default() }
    }
}

impl Isolation {
    /// The set that `isolate` names, each part replaced by what was said of it alone, and then whatever the emperor demands beyond that.
    pub fn measures(&self) -> Measures {
        let own = self.own_measures();
        let Some(forced) = self.forced.as_ref().map(|f| f.own_measures()) else { return own };
        Measures {
            no_new_privs: own.no_new_privs || forced.no_new_privs,
            seccomp: union(forced.seccomp, own.seccomp),
            private_tmp: own.private_tmp || forced.private_tmp,
            files: own.files || forced.files,
            scope: own.scope || forced.scope,
            namespaces: union(forced.namespaces, own.namespaces),
            drop_capabilities: own.drop_capabilities || forced.drop_capabilities,
            hide: union(forced.hide, own.hide),
            required: own.required || forced.required,
        }
    }

    fn own_measures(&self) -> Measures {
        let (some, strict) = (self.level >= Level::Default, self.level == Level::Strict);
        let seccomp = self.seccomp.clone().unwrap_or(if some { Seccomp::Default } else { Seccomp::Off });
        let private_tmp = self.private_tmp.unwrap_or(some);
        let named = !self.read.is_empty() || !self.write.is_empty() || !self.exec.is_empty();
        let files = self.landlock.unwrap_or(strict || named);
        let mut namespaces = vec![];
        if some || private_tmp || !self.hide.is_empty() {
            namespaces.push("fs");
        }
        if some {
            namespaces.push("ipc");
        }
        if strict {
            namespaces.extend(["uts", "pid"]);
        }
        Measures {
            no_new_privs: self.no_new_privs.unwrap_or(some),
            seccomp: Some(seccomp).filter(|s| *s != Seccomp::Off).into_iter().collect(),
            private_tmp,
            files,
            scope: self.landlock.unwrap_or(some),
            namespaces,
            drop_capabilities: some,
            hide: self.hide.clone(),
            required: self.required,
        }
    }

    /// What the emperor above demands and what this one does, as one demand.
    pub fn and_from_above(mut self, above: &Self) -> Self {
        self.level = self.level.max(above.level);
        self.required |= above.required;
        self.no_new_privs = strictest(self.no_new_privs, above.no_new_privs);
        self.private_tmp = strictest(self.private_tmp, above.private_tmp);
        self.landlock = strictest(self.landlock, above.landlock);
        self.seccomp = match (self.seccomp.take(), &above.seccomp) {
            (own @ Some(Seccomp::Strict | Seccomp::File { .. }), _) => own,
            (own, None | Some(Seccomp::Off)) => own,
            (_, above) => above.clone(),
        };
        self.hide = union(self.hide, above.hide.clone());
        self
    }
}

fn strictest(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (a, b) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (a, b) => a.or(b),
    }
}

fn union<T: PartialEq>(mut all: Vec<T>, more: Vec<T>) -> Vec<T> {
    for one in more {
        if !all.contains(&one) {
            all.push(one);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_asked_for_by_itself() {
        assert!(!Isolation::default().measures().any());
        assert!(!Isolation { required: true, ..Isolation::default() }.measures().any());
    }

    #[test]
    fn one_line_is_a_sound_set_and_each_part_can_be_said_alone() {
        let strict = Isolation { level: Level::Strict, ..Isolation::default() };
        let m = strict.measures();
        assert!(m.no_new_privs && m.private_tmp && m.files && m.scope && m.drop_capabilities);
        assert_eq!((m.seccomp, m.namespaces), (vec![Seccomp::Default], vec!["fs", "ipc", "uts", "pid"]));
        let open = Isolation { landlock: Some(false), private_tmp: Some(false), seccomp: Some(Seccomp::Off), ..strict };
        let m = open.measures();
        assert!(!m.files && !m.scope && !m.private_tmp && m.seccomp.is_empty() && m.no_new_privs);
        let named = Isolation { read: vec!["/srv".into()], ..Isolation::default() };
        assert!(named.measures().files);
        assert_eq!(Isolation { hide: vec!["/run".into()], ..Isolation::default() }.measures().namespaces, ["fs"]);
    }

    #[test]
    fn a_vassal_may_tighten_what_the_emperor_demands_and_not_loosen_it() {
        let demand = Isolation { level: Level::Strict, required: true, ..Isolation::default() };
        let loose = Isolation {
            no_new_privs: Some(false),
            seccomp: Some(Seccomp::Off),
            private_tmp: Some(false),
            landlock: Some(false),
            forced: Some(Box::new(demand.clone())),
            ..Isolation::default()
        };
        assert_eq!(loose.measures(), demand.measures());
        let tighter = Isolation { seccomp: Some(Seccomp::Strict), ..loose };
        assert_eq!(tighter.measures().seccomp, [Seccomp::Default, Seccomp::Strict]);
    }

    #[test]
    fn demands_add_up_over_emperors() {
        let above = Isolation { private_tmp: Some(true), seccomp: Some(Seccomp::Strict), ..Isolation::default() };
        let own = Isolation { private_tmp: Some(false), level: Level::Default, seccomp: Some(Seccomp::Off), ..Isolation::default() };
        let both = own.and_from_above(&above);
        assert_eq!((both.private_tmp, both.level, both.seccomp), (Some(true), Level::Default, Some(Seccomp::Strict)));
    }
}
