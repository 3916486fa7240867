//! Profiles of system calls: our own two, and files in the formats that people have.

use serde::{Deserialize, Serialize};

use super::calls;
use crate::settings::Seccomp;

/// Which calls are answered how.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// For calls that no rule is for.
    pub default: Answer,
    pub rules: Vec<Rule>,
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Names; those that this kernel's table has not are left out.
    pub calls: Vec<String>,
    pub answer: Answer,
    /// All of them have to hold; none: always.
    pub when: Vec<Condition>,
}

/// What becomes of a call.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    Allow,
    Errno(u16),
    /// Allowed, and written to the audit log.
    Log,
    Trap,
    KillThread,
    KillProcess,
}

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub argument: u8,
    pub test: Test,
    /// Only the lower 32 bits are looked at: an `int` of the caller's, whose upper half may hold anything.
    pub half: bool,
}

#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    Equal(u64),
    NotEqual(u64),
    Less(u64),
    AtMost(u64),
    Greater(u64),
    AtLeast(u64),
    Masked { mask: u64, value: u64 },
}

/// Why a file is no profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    #[error("it is no JSON: {0}")]
    Json(String),
    #[error("neither a list of calls to refuse ([\"ptrace\", ...]) nor an object with defaultAction, as Docker, Podman and OCI have it")]
    Shape,
    #[error("there is no action {0:?}; known are SCMP_ACT_ALLOW, _ERRNO, _LOG, _TRAP, _KILL, _KILL_THREAD, _KILL_PROCESS")]
    Action(String),
    #[error("there is no comparison {0:?}")]
    Comparison(String),
    #[error("argument {0}: a system call has 0 to 5")]
    Argument(u64),
    #[error("no system call is named {0:?}")]
    NoCall(String),
    #[error("it is too large for the kernel: {0}")]
    TooLarge(String),
}

const EPERM: u16 = 1;
const ENOSYS: u16 = 38;

impl Seccomp {
    /// The rules that it stands for; none if it is off.
    pub fn profile(&self) -> Option<Profile> {
        match self {
            Self::Off => None,
            Self::Default => Some(Profile::sane()),
            Self::Strict => Some(Profile::strict()),
            Self::File { profile, .. } => Some(profile.clone()),
        }
    }

    /// As it was configured.
    pub fn name(&self) -> &str {
        match self {
            Self::Off => "off",
            Self::Default => "default",
            Self::Strict => "strict",
            Self::File { path, .. } => path,
        }
    }
}

impl Profile {
    /// `seccomp = default`: everything but a list.
    fn sane() -> Self {
        Self { default: Answer::Allow, rules: denials() }
    }

    /// `seccomp = strict`: a list and nothing else.
    fn strict() -> Self {
        let mut rules = denials();
        let half = |test| Condition { argument: 0, test, half: true };
        rules.push(rule(&["socket", "socketpair"], EPERM, calls::FAMILIES.map(|family| half(Test::NotEqual(family))).to_vec()));
        rules.push(Rule { calls: words(calls::ALLOWED), answer: Answer::Allow, when: vec![] });
        Self { default: Answer::Errno(ENOSYS), rules }
    }

    /// A list of names, which are refused beside those of `default`; or an object as Docker, Podman and OCI runtimes have it.
    ///
    /// # Errors
    /// It is neither, or has something in it that is not known: a profile that is not understood must not pass for one that is.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let value: serde_json::Value = serde_json::from_str(text).map_err(|e| ProfileError::Json(e.to_string()))?;
        if let serde_json::Value::Array(names) = &value {
            let names =
                names.iter().map(|n| n.as_str().map(ToOwned::to_owned).ok_or(ProfileError::Shape)).collect::<Result<Vec<_>, _>>()?;
            if let Some(unknown) = names.iter().find(|name| !super::seccomp::is_call(name)) {
                return Err(ProfileError::NoCall(unknown.clone()));
            }
            let mut profile = Self::sane();
            profile.rules.push(Rule { calls: names, answer: Answer::Errno(EPERM), when: vec![] });
            return Ok(profile);
        }
        super::oci::parse(&value)
    }

    /// The names of all calls that are refused, whatever their arguments are; for people.
    pub fn refused(&self) -> Vec<String> {
        let always = |answer: Answer| answer != Answer::Allow && answer != Answer::Log;
        let denied = self.rules.iter().filter(|r| always(r.answer) && r.when.is_empty()).flat_map(|r| r.calls.iter().cloned());
        let mut all: Vec<String> = denied.filter(|name| super::seccomp::is_call(name)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

fn denials() -> Vec<Rule> {
    let mut rules = vec![rule(&words(calls::DENIED), EPERM, vec![])];
    for flag in calls::CLONE_NAMESPACES {
        rules.push(rule(&["clone"], EPERM, vec![Condition { argument: 0, test: Test::Masked { mask: flag, value: flag }, half: false }]));
    }
    // Its flags are in memory, where no filter looks: without it libc takes `clone`.
    rules.push(rule(&["clone3"], ENOSYS, vec![]));
    for request in calls::TERMINAL_IOCTLS {
        rules.push(rule(&["ioctl"], EPERM, vec![Condition { argument: 1, test: Test::Equal(request), half: true }]));
    }
    rules.push(rule(&["socket", "socketpair"], EPERM, vec![Condition { argument: 0, test: Test::Equal(calls::VSOCK), half: true }]));
    let others = calls::PERSONALITIES.map(|p| Condition { argument: 0, test: Test::NotEqual(p), half: true });
    rules.push(rule(&["personality"], EPERM, others.to_vec()));
    rules
}

fn rule(calls: &[impl AsRef<str>], errno: u16, when: Vec<Condition>) -> Rule {
    Rule { calls: calls.iter().map(|c| c.as_ref().to_owned()).collect(), answer: Answer::Errno(errno), when }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_refuses_more_than_the_default() {
        let profile = Profile::parse(r#"["mlock", "mlockall"]"#).expect("a profile");
        let refused = profile.refused();
        assert!(["mlock", "mlockall", "mount", "ptrace"].iter().all(|name| refused.contains(&(*name).to_owned())), "{refused:?}");
        assert_eq!(Profile::parse(r#"["no_such_call"]"#), Err(ProfileError::NoCall("no_such_call".into())));
        assert_eq!(Profile::parse("7"), Err(ProfileError::Shape));
        assert!(matches!(Profile::parse("{"), Err(ProfileError::Json(_))));
    }

    #[test]
    fn nothing_is_both_allowed_and_refused() {
        let (denied, allowed) = (words(calls::DENIED), words(calls::ALLOWED));
        let both: Vec<_> = denied.iter().filter(|name| allowed.contains(name)).collect();
        assert!(both.is_empty(), "{both:?}");
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_lists_are_of_calls_that_there_are() {
        // Calls of other architectures, or of 32-bit programs.
        let elsewhere = "umount stime ustat_ riscv_hwprobe vm86 vm86old rt_tgsigqueueinfo_ open_tree_attr cachestat_ map_shadow_stack_";
        let unknown: Vec<_> = words(calls::DENIED)
            .into_iter()
            .chain(words(calls::ALLOWED))
            .filter(|name| !crate::isolation::seccomp::is_call(name) && !elsewhere.split(' ').any(|e| e == name))
            .collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}
