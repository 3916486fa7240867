//! Who the app runs as, and what it may see.

use imperator_worker::settings::Settings;

use super::{Row, Status, add_text, flag, later, list, no_effect, refused, set_flag, set_text, text};
use crate::config::values;

const JAIL: &str = "FreeBSD jails are no part of Linux: use `chroot`, `unshare` or a container";
const NAMESPACE: &str = "use `unshare = fs,pid,uts,ipc` with `chroot = ROOT` and `exec-post-jail = hostname HOST`, or a container";
const REFORK: &str = "the zygote is a process of its own already";

pub const OPTIONS: &[Row] = &[
    text("uid", &[], "user (name or number) of the app", Status::Done(uid)),
    text("gid", &[], "group (name or number) of the app", Status::Done(gid)),
    text("immediate-uid", &[], "whom the master itself is to be, before anything else", set_text!(privileges.immediate_uid)),
    text("immediate-gid", &[], "group of the master itself, before anything else", set_text!(privileges.immediate_gid)),
    list("add-gid", &[], "one more group of the app", add_text!(privileges.add_gid)),
    flag("no-initgroups", &[], "leave the user's other groups out", set_flag!(privileges.no_initgroups)),
    flag("drop-after-init", &[], "drop privileges once the language has started", set_flag!(privileges.drop_after_init)),
    flag("drop-after-apps", &[], "drop privileges once the app is loaded", set_flag!(privileges.drop_after_apps)),
    flag("master-as-root", &[], "only the workers drop privileges", set_flag!(privileges.master_as_root)),
    text("chroot", &[], "the app sees only this directory", set_text!(privileges.chroot)),
    text("pivot-root", &["pivot_root"], "NEW OLD: another root file system", set_text!(privileges.pivot_root)),
    list("unshare", &[], "namespaces of its own: pid,net,ipc,uts,fs,user", add_text!(privileges.unshare)),
    list("unshare2", &[], "as unshare, after the hooks as root", add_text!(privileges.unshare2)),
    flag(
        "refork-post-jail",
        &["re-fork-post-jail"],
        "fork once more after unshare (a pid namespace needs it)",
        no_effect("a new pid namespace is entered by the fork that starts the app"),
    ),
    flag("refork", &["re-fork"], "fork once more after privileges are dropped", later(REFORK)),
    flag("refork-as-root", &["re-fork-as-root"], "fork once more before privileges are dropped", later(REFORK)),
    flag("jailed", &[], "somebody else has jailed us: do not do it again", set_flag!(privileges.jailed)),
    list("cap", &[], "capabilities to keep: net_bind_service,setuid, and so on", add_text!(privileges.cap)),
    list("cgroup", &[], "put the processes in this control group", add_text!(privileges.cgroup)),
    list("cgroup-opt", &[], "FILE=VALUE: set a limit in it", add_text!(privileges.cgroup_opt)),
    text("cgroup-dir-mode", &[], "mode of the group's directory", Status::Done(cgroup_dir_mode)),
    text("namespace", &["ns"], "ROOT: run in namespaces of its own, in that directory", refused(NAMESPACE)),
    list("namespace-keep-mount", &[], "a mount to keep in it", refused(NAMESPACE)),
    text("namespace-net", &["ns-net"], "join this network namespace", refused("use `setns = /run/netns/NAME`")),
    text(
        "setns",
        &[],
        "join the namespaces that this `setns-socket`, directory (/proc/PID/ns) or file (/run/netns/NAME) gives",
        set_text!(privileges.setns),
    ),
    text("setns-socket", &[], "hand the app's namespaces out on this unix socket", set_text!(privileges.setns_socket)).with_master(),
    list(
        "setns-socket-skip",
        &["setns-skip"],
        "a namespace not to hand out: net, uts, ipc, pid, cgroup or mnt",
        add_text!(privileges.setns_skip),
    ),
    flag("setns-preopen", &[], "hand out the master's namespaces in place of the app's", set_flag!(privileges.setns_preopen)),
    text(
        "fork-socket",
        &["fork-server"],
        "fork on request of an emperor",
        refused("leave it out: a vassal is always a program of its own"),
    ),
    text("jail", &[], "run in a jail", refused(JAIL)),
    list("jail-ip4", &[], "its IPv4 address", refused(JAIL)),
    list("jail-ip6", &[], "its IPv6 address", refused(JAIL)),
    text("jidfile", &["jid-file"], "write its number", refused(JAIL)),
    list("jail2", &["libjail"], "run in a jail, KEY=VALUE", refused(JAIL)),
    text("jail-attach", &[], "join a jail", refused(JAIL)),
    text("privileged-binary-patch", &[], "become another program before privileges are dropped", refused("use `emperor-wrapper`")),
    text("unprivileged-binary-patch", &[], "become another program after privileges are dropped", refused("use `emperor-wrapper`")),
    text("privileged-binary-patch-arg", &[], "as privileged-binary-patch, with arguments", refused("use `emperor-wrapper`")),
    text("unprivileged-binary-patch-arg", &[], "as unprivileged-binary-patch, with arguments", refused("use `emperor-wrapper`")),
];

/// As in uWSGI the name must be known now: a misspelt user must not leave the app running as root.
fn uid(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    let Some(user) = values::text(value)? else { return Ok(()) };
    let known = match user.parse::<u32>() {
        Ok(0) => return Err("user 0 is root: leave the option out to stay root".into()),
        Ok(_) => true,
        Err(_) => matches!(nix::unistd::User::from_name(&user), Ok(Some(_))),
    };
    if !known {
        return Err(format!("there is no user `{user}`"));
    }
    settings.privileges.uid = Some(user);
    Ok(())
}

fn gid(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    let Some(group) = values::text(value)? else { return Ok(()) };
    let known = match group.parse::<u32>() {
        Ok(0) => return Err("group 0 is root: leave the option out to stay in it".into()),
        Ok(_) => true,
        Err(_) => matches!(nix::unistd::Group::from_name(&group), Ok(Some(_))),
    };
    if !known {
        return Err(format!("there is no group `{group}`"));
    }
    settings.privileges.gid = Some(group);
    Ok(())
}

fn cgroup_dir_mode(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    settings.privileges.cgroup_dir_mode = Some(values::octal(value.map_or("", values::without_comment))?);
    Ok(())
}
