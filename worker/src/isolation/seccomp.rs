//! From a profile to the programs that the kernel runs at each system call.

use std::collections::BTreeMap;
use std::str::FromStr;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch, apply_filter,
    sock_filter,
};
use syscalls::Sysno;

use super::IsolationError;
use super::profile::{Answer, Condition, Profile, ProfileError, Rule, Test};

/// Whether this processor's table has a call of that name.
pub fn is_call(name: &str) -> bool {
    Sysno::from_str(name).is_ok()
}

/// From now on the calls of this process (it has one thread) and of all that it starts are judged by the profile. There is no way back.
pub fn enter(profile: &Profile) -> Result<(), IsolationError> {
    for program in programs(profile)? {
        apply_filter(&program).map_err(|e| IsolationError::Seccomp(e.to_string()))?;
    }
    Ok(())
}

/// One filter for what is answered by default, which lets everything pass that a rule is for, and before it one for each other answer. The
/// kernel asks all of them and takes the strictest.
///
/// # Errors
/// It cannot be expressed in the size that the kernel takes.
pub fn programs(profile: &Profile) -> Result<Vec<BpfProgram>, ProfileError> {
    let mut answers: Vec<Answer> =
        profile.rules.iter().map(|r| r.answer).filter(|a| *a != Answer::Allow && *a != profile.default).collect();
    answers.sort_unstable();
    answers.dedup();
    let mut all = vec![];
    for answer in answers {
        let rules = rules(profile.rules.iter().filter(|r| r.answer == answer))?;
        if !rules.is_empty() {
            all.push(program(rules, Answer::Allow, answer)?);
        }
    }
    if profile.default != Answer::Allow {
        all.push(program(rules(profile.rules.iter().filter(|r| r.answer != profile.default))?, profile.default, Answer::Allow)?);
    }
    Ok(all)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// An empty list of conditions means always, and wins over any other rule for the same call.
fn rules<'r>(chosen: impl Iterator<Item = &'r Rule>) -> Result<Rules, ProfileError> {
    let mut all: BTreeMap<i64, Option<Vec<SeccompRule>>> = BTreeMap::new();
    for rule in chosen {
        let numbers = rule.calls.iter().filter_map(|name| Sysno::from_str(name).ok()).map(|call| i64::from(call.id()));
        for number in numbers {
            let known = all.entry(number).or_insert_with(|| Some(vec![]));
            if rule.when.is_empty() {
                *known = None;
            } else if let Some(known) = known {
                known.push(conditions(&rule.when)?);
            }
        }
    }
    Ok(all.into_iter().map(|(number, rules)| (number, rules.unwrap_or_default())).collect())
}

fn conditions(when: &[Condition]) -> Result<SeccompRule, ProfileError> {
    let too_large = |e: seccompiler::BackendError| ProfileError::TooLarge(e.to_string());
    let each = when.iter().map(|condition| {
        let (operator, value) = match condition.test {
            Test::Equal(value) => (SeccompCmpOp::Eq, value),
            Test::NotEqual(value) => (SeccompCmpOp::Ne, value),
            Test::Less(value) => (SeccompCmpOp::Lt, value),
            Test::AtMost(value) => (SeccompCmpOp::Le, value),
            Test::Greater(value) => (SeccompCmpOp::Gt, value),
            Test::AtLeast(value) => (SeccompCmpOp::Ge, value),
            Test::Masked { mask, value } => (SeccompCmpOp::MaskedEq(mask), value),
        };
        let length = if condition.half { SeccompCmpArgLen::Dword } else { SeccompCmpArgLen::Qword };
        SeccompCondition::new(condition.argument, length, operator, value)
    });
    SeccompRule::new(each.collect::<Result<Vec<_>, _>>().map_err(too_large)?).map_err(too_large)
}

fn program(rules: Rules, otherwise: Answer, matched: Answer) -> Result<BpfProgram, ProfileError> {
    let too_large = |e: seccompiler::BackendError| ProfileError::TooLarge(e.to_string());
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(too_large)?;
    let filter = SeccompFilter::new(rules, action(otherwise), action(matched), architecture).map_err(too_large)?;
    let mut program = without_x32();
    program.extend(BpfProgram::try_from(filter).map_err(too_large)?);
    Ok(program)
}

fn action(answer: Answer) -> SeccompAction {
    match answer {
        Answer::Allow => SeccompAction::Allow,
        Answer::Errno(number) => SeccompAction::Errno(number.into()),
        Answer::Log => SeccompAction::Log,
        Answer::Trap => SeccompAction::Trap,
        Answer::KillThread => SeccompAction::KillThread,
        Answer::KillProcess => SeccompAction::KillProcess,
    }
}

/// The same calls have a second set of numbers, with this bit, where a kernel has the x32 ABI. It would be a way around every name.
const X32: u32 = 0x4000_0000;

/// `ld [number]; jge X32, 0, 1; ret ENOSYS`; what follows begins with loads of its own.
fn without_x32() -> BpfProgram {
    if !cfg!(target_arch = "x86_64") {
        return vec![];
    }
    const LOAD: u16 = 0x20;
    const JUMP_IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const ENOSYS: u32 = 0x0005_0000 | 38;
    vec![
        sock_filter { code: LOAD, jt: 0, jf: 0, k: 0 },
        sock_filter { code: JUMP_IF_AT_LEAST, jt: 0, jf: 1, k: X32 },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: ENOSYS },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Seccomp;

    /// Runs a program as the kernel would, on a call of this processor's.
    fn judge(program: &[sock_filter], call: &str, args: [u64; 6], bits: u32) -> u32 {
        let number = Sysno::from_str(call).expect("a call").id() as u32 | bits;
        let audit = if cfg!(target_arch = "x86_64") { 0xc000_003e_u32 } else { 0xc000_00b7 };
        let mut data = number.to_ne_bytes().to_vec();
        data.extend(audit.to_ne_bytes());
        data.extend([0; 8]);
        args.iter().for_each(|a| data.extend(a.to_ne_bytes()));
        let (mut at, mut a) = (0_usize, 0_u32);
        loop {
            let i = &program[at];
            at += 1;
            let jump = |yes: bool| usize::from(if yes { i.jt } else { i.jf });
            match i.code {
                0x20 => a = u32::from_ne_bytes(data[i.k as usize..i.k as usize + 4].try_into().expect("four")),
                0x54 => a &= i.k,
                0x05 => at += i.k as usize,
                0x15 => at += jump(a == i.k),
                0x25 => at += jump(a > i.k),
                0x35 => at += jump(a >= i.k),
                0x06 => return i.k,
                code => panic!("instruction {code:#x}"),
            }
        }
    }

    /// What the kernel does: the strictest, and of equals the one that was installed last.
    fn verdict(seccomp: &Seccomp, call: &str, args: [u64; 6], bits: u32) -> Option<u32> {
        let programs = programs(&seccomp.profile().expect("a profile")).expect("programs");
        let all: Vec<u32> = programs.iter().rev().map(|p| judge(p, call, args, bits)).collect();
        let strictest = all.iter().map(|v| (v & 0xffff_0000) as i32).min().expect("one");
        all.iter().find(|v| (**v & 0xffff_0000) as i32 == strictest).map(|v| *v & 0xffff).filter(|_| strictest != 0x7fff_0000)
    }

    #[test]
    fn the_default_refuses_its_list_and_nothing_else() {
        for call in ["mount", "ptrace", "bpf", "unshare", "setns", "keyctl", "kexec_load", "io_uring_setup", "perf_event_open"] {
            assert_eq!(verdict(&Seccomp::Default, call, [0; 6], 0), Some(1), "{call}");
        }
        for call in ["read", "execve", "clone", "socket", "ioctl", "memfd_create", "personality", "seccomp"] {
            assert_eq!(verdict(&Seccomp::Default, call, [0; 6], 0), None, "{call}");
        }
        assert_eq!(verdict(&Seccomp::Default, "clone3", [0; 6], 0), Some(38), "so that libc takes clone");
    }

    #[test]
    fn arguments_are_looked_at() {
        for profile in [Seccomp::Default, Seccomp::Strict] {
            let v = |call, args| verdict(&profile, call, args, 0);
            assert_eq!(v("clone", [0x0002_0000 | 17, 0, 0, 0, 0, 0]), Some(1), "a mount namespace");
            assert_eq!(v("clone", [0x1000_0000 | 17, 0, 0, 0, 0, 0]), Some(1), "a user namespace");
            assert_eq!(v("clone", [0x003d_0f00, 0, 0, 0, 0, 0]), None, "a thread");
            assert_eq!(v("ioctl", [0, 0x5412, 0, 0, 0, 0]), Some(1));
            assert_eq!(v("ioctl", [0, 0xffff_ffff_0000_5412, 0, 0, 0, 0]), Some(1), "the kernel looks at 32 bits");
            assert_eq!(v("personality", [0x0004_0000, 0, 0, 0, 0, 0]), Some(1));
            assert_eq!(v("personality", [0xffff_ffff, 0, 0, 0, 0, 0]), None);
            assert_eq!(v("socket", [40, 1, 0, 0, 0, 0]), Some(1));
            assert_eq!(v("socket", [10, 1, 0, 0, 0, 0]), None);
        }
    }

    #[test]
    fn strict_is_a_list_of_what_is_allowed() {
        for (call, answer) in
            [("read", None), ("execve", None), ("mount", Some(1)), ("mq_open", None), ("name_to_handle_at", Some(38)), ("clone3", Some(38))]
        {
            assert_eq!(verdict(&Seccomp::Strict, call, [0; 6].map(|_| 1), 0), answer, "{call}");
        }
        assert_eq!(verdict(&Seccomp::Strict, "socket", [17, 3, 0, 0, 0, 0], 0), Some(1), "raw packets");
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_other_numbers_of_the_same_calls_are_no_way_around() {
        assert_eq!(verdict(&Seccomp::Default, "mount", [0; 6], X32), Some(38));
        assert_eq!(verdict(&Seccomp::Default, "read", [0; 6], X32), Some(38));
    }

    #[test]
    fn answers_of_a_file_are_kept_apart() {
        let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW"}, {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            {"names": ["write"], "action": "SCMP_ACT_LOG"}, {"names": ["ptrace"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#;
        let file = Seccomp::File { path: "p.json".into(), profile: Profile::parse(text).expect("a profile") };
        let v = |call| verdict(&file, call, [0; 6], 0);
        assert_eq!((v("read"), v("mount"), v("clone3")), (None, Some(1), Some(38)));
        assert_eq!((v("write"), v("ptrace")), (Some(0), Some(0)), "logged, killed");
    }
}
