//! `mount` and `umount`: arguments and flags by name.

use nix::mount::{MntFlags, MsFlags};

use super::Action;

/// `TYPE SOURCE TARGET [FLAGS [DATA]]`.
pub(super) fn mount(text: &str) -> Option<Action> {
    let mut words = text.split_whitespace();
    let (kind, source, target) = (words.next()?, words.next()?, words.next()?);
    let mut flags = MsFlags::empty();
    for name in words.next().unwrap_or("").split(',').filter(|n| !n.is_empty()) {
        flags |= mount_flag(name)?;
    }
    let data = words.next().unwrap_or("").to_owned();
    Some(Action::Mount { kind: kind.into(), source: source.into(), target: target.into(), flags, data })
}

/// `TARGET [FLAGS]`.
pub(super) fn umount(text: &str) -> Option<Action> {
    let mut words = text.split_whitespace();
    let target = words.next()?.into();
    let mut flags = MntFlags::empty();
    for name in words.next().unwrap_or("").split(',').filter(|n| !n.is_empty()) {
        flags |= match name {
            "force" => MntFlags::MNT_FORCE,
            "detach" => MntFlags::MNT_DETACH,
            "expire" => MntFlags::MNT_EXPIRE,
            "nofollow" => MntFlags::UMOUNT_NOFOLLOW,
            _ => return None,
        };
    }
    Some(Action::Umount { target, flags })
}

fn mount_flag(name: &str) -> Option<MsFlags> {
    Some(match name {
        "bind" => MsFlags::MS_BIND,
        "recursive" | "rec" => MsFlags::MS_REC,
        "readonly" | "rdonly" | "ro" => MsFlags::MS_RDONLY,
        "remount" => MsFlags::MS_REMOUNT,
        "move" => MsFlags::MS_MOVE,
        "private" => MsFlags::MS_PRIVATE,
        "slave" => MsFlags::MS_SLAVE,
        "shared" => MsFlags::MS_SHARED,
        "unbindable" => MsFlags::MS_UNBINDABLE,
        "noatime" => MsFlags::MS_NOATIME,
        "nodiratime" => MsFlags::MS_NODIRATIME,
        "relatime" => MsFlags::MS_RELATIME,
        "strictatime" => MsFlags::MS_STRICTATIME,
        "nodev" => MsFlags::MS_NODEV,
        "noexec" => MsFlags::MS_NOEXEC,
        "nosuid" => MsFlags::MS_NOSUID,
        "dirsync" => MsFlags::MS_DIRSYNC,
        "sync" | "synchronous" => MsFlags::MS_SYNCHRONOUS,
        "silent" => MsFlags::MS_SILENT,
        "mandlock" => MsFlags::MS_MANDLOCK,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_names() {
        let Some(Action::Mount { target, flags, .. }) = mount("none /a /b bind,rec,ro") else { panic!("parses") };
        assert_eq!((target.to_str(), flags), (Some("/b"), MsFlags::MS_BIND | MsFlags::MS_REC | MsFlags::MS_RDONLY));
        assert!(mount("none /a /b nosuch").is_none());
        let Some(Action::Umount { flags, .. }) = umount("/x detach") else { panic!("parses") };
        assert_eq!(flags, MntFlags::MNT_DETACH);
    }
}
