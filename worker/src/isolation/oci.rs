//! Profiles as Docker (`--security-opt seccomp=FILE`), Podman and OCI runtimes (`linux.seccomp`) have them.

use serde::Deserialize;
use serde_json::Value;

use super::profile::{Answer, Condition, Profile, ProfileError, Rule, Test};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    default_action: String,
    default_errno_ret: Option<u16>,
    #[serde(default)]
    syscalls: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    /// Old files of Docker's have `name`.
    name: Option<String>,
    #[serde(default)]
    names: Vec<String>,
    action: String,
    errno_ret: Option<u16>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Option<Only>,
    #[serde(default)]
    excludes: Option<Only>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u64,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// For whom a group is meant.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Only {
    caps: Vec<String>,
    arches: Vec<String>,
    min_kernel: Option<String>,
}

const EPERM: u16 = 1;

pub(super) fn parse(value: &Value) -> Result<Profile, ProfileError> {
    if value.get("defaultAction").is_none() {
        return Err(ProfileError::Shape);
    }
    let file = File::deserialize(value).map_err(|e| ProfileError::Json(e.to_string()))?;
    let default = answer(&file.default_action, file.default_errno_ret)?;
    let mut rules = vec![];
    for group in file.syscalls {
        let ours = group.includes.as_ref().is_none_or(Only::includes) && !group.excludes.as_ref().is_some_and(Only::excludes);
        if !ours {
            continue;
        }
        let answer = answer(&group.action, group.errno_ret)?;
        let calls: Vec<String> = group.names.into_iter().chain(group.name).collect();
        let args = group.args.unwrap_or_default();
        for when in alternatives(&args)? {
            rules.push(Rule { calls: calls.clone(), answer, when });
        }
    }
    Ok(Profile { default, rules })
}

/// As runc has it: conditions on different arguments have to hold together; if one argument is named twice, one of all is enough.
fn alternatives(args: &[Argument]) -> Result<Vec<Vec<Condition>>, ProfileError> {
    let conditions = args.iter().map(Argument::condition).collect::<Result<Vec<_>, _>>()?;
    let mut seen = [false; 6];
    let twice = conditions.iter().any(|c| std::mem::replace(&mut seen[usize::from(c.argument)], true));
    Ok(if twice { conditions.into_iter().map(|c| vec![c]).collect() } else { vec![conditions] })
}

impl Argument {
    fn condition(&self) -> Result<Condition, ProfileError> {
        let argument = u8::try_from(self.index).ok().filter(|n| *n < 6).ok_or(ProfileError::Argument(self.index))?;
        let test = match self.op.as_str() {
            "SCMP_CMP_EQ" => Test::Equal(self.value),
            "SCMP_CMP_NE" => Test::NotEqual(self.value),
            "SCMP_CMP_LT" => Test::Less(self.value),
            "SCMP_CMP_LE" => Test::AtMost(self.value),
            "SCMP_CMP_GT" => Test::Greater(self.value),
            "SCMP_CMP_GE" => Test::AtLeast(self.value),
            "SCMP_CMP_MASKED_EQ" => Test::Masked { mask: self.value, value: self.value_two },
            other => return Err(ProfileError::Comparison(other.into())),
        };
        Ok(Condition { argument, test, half: false })
    }
}

impl Only {
    /// A group for processes with capabilities is not for ours, which have none, nor one for another processor or a later kernel.
    fn includes(&self) -> bool {
        self.caps.is_empty() && (self.arches.is_empty() || self.is_ours()) && self.min_kernel.as_deref().is_none_or(has_kernel)
    }

    /// `excludes` by capabilities are for processes with them.
    fn excludes(&self) -> bool {
        !self.arches.is_empty() && self.is_ours()
    }

    fn is_ours(&self) -> bool {
        let ours = if cfg!(target_arch = "x86_64") {
            ["amd64", "x86_64"]
        } else if cfg!(target_arch = "aarch64") {
            ["arm64", "aarch64"]
        } else {
            [std::env::consts::ARCH; 2]
        };
        self.arches.iter().any(|arch| ours.contains(&arch.as_str()))
    }
}

fn has_kernel(wanted: &str) -> bool {
    let release = nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned()).unwrap_or_default();
    version(&release) >= version(wanted)
}

fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn answer(action: &str, errno: Option<u16>) -> Result<Answer, ProfileError> {
    Ok(match action {
        "SCMP_ACT_ALLOW" => Answer::Allow,
        "SCMP_ACT_ERRNO" => Answer::Errno(errno.unwrap_or(EPERM)),
        "SCMP_ACT_LOG" => Answer::Log,
        "SCMP_ACT_TRAP" => Answer::Trap,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Answer::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Answer::KillProcess,
        other => return Err(ProfileError::Action(other.into())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKER: &str = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "archMap": [{"architecture": "SCMP_ARCH_X86_64"}], "syscalls": [
        {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}], "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["futex_wait"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
        {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]}
    ]}"#;

    #[test]
    fn dockers_own_format_is_understood() {
        let profile = Profile::parse(DOCKER).expect("a profile");
        assert_eq!(profile.default, Answer::Errno(1));
        let calls: Vec<(&str, Answer, usize)> = profile.rules.iter().map(|r| (r.calls[0].as_str(), r.answer, r.when.len())).collect();
        let expected = [
            ("read", Answer::Allow, 0),
            ("clone", Answer::Allow, 1),
            ("clone3", Answer::Errno(38), 0),
            ("ptrace", Answer::Allow, 0),
            ("personality", Answer::Allow, 1),
            ("personality", Answer::Allow, 1),
        ];
        assert_eq!(calls, expected);
        assert_eq!(profile.rules[1].when[0].test, Test::Masked { mask: 2_114_060_288, value: 0 });
    }

    #[test]
    fn what_is_not_understood_is_no_profile() {
        let text = |action: &str| format!(r#"{{"defaultAction": "{action}", "syscalls": []}}"#);
        assert!(Profile::parse(&text("SCMP_ACT_LOG")).is_ok());
        assert_eq!(Profile::parse(&text("SCMP_ACT_NOTIFY")), Err(ProfileError::Action("SCMP_ACT_NOTIFY".into())));
        let wrong = |args: &str| {
            format!(
                r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{args}]}}]}}"#
            )
        };
        assert_eq!(Profile::parse(&wrong(r#"{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}"#)), Err(ProfileError::Argument(6)));
        assert_eq!(Profile::parse(&wrong(r#"{"index": 0, "value": 0, "op": "~"}"#)), Err(ProfileError::Comparison("~".into())));
        assert!(matches!(Profile::parse(r#"{"defaultAction": 7}"#), Err(ProfileError::Json(_))));
        assert_eq!(Profile::parse(r#"{"syscalls": []}"#), Err(ProfileError::Shape));
    }
}
