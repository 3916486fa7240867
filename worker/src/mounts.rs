//! Which mount point a path belongs to (`manage-script-name`).

/// The longest of `mounts` that is `path` or a parent of it at a `/`; its index, and how many bytes of the path are the
/// SCRIPT_NAME. A slash at the end of a mount point does not count; the mount point `/` (or ``) matches every path and takes nothing off it.
pub fn choose<'m>(mounts: impl IntoIterator<Item = &'m [u8]>, path: &[u8]) -> Option<(usize, usize)> {
    let mut best = None;
    for (index, mount) in mounts.into_iter().enumerate() {
        let mount = mount.strip_suffix(b"/").unwrap_or(mount);
        let below = path.starts_with(mount) && matches!(path.get(mount.len()), None | Some(b'/'));
        if (below || mount.is_empty()) && best.is_none_or(|(_, length)| mount.len() > length) {
            best = Some((index, mount.len()));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mount_at_a_slash_wins() {
        let mounts: [&[u8]; 3] = [b"/shop", b"/shop/admin/", b"/"];
        let choice = |path: &str| choose(mounts, path.as_bytes());
        assert_eq!(choice("/shop/admin/x"), Some((1, 11)));
        assert_eq!(choice("/shop/admin"), Some((1, 11)));
        assert_eq!(choice("/shop"), Some((0, 5)));
        assert_eq!(choice("/shop/"), Some((0, 5)));
        assert_eq!(choice("/shopping"), Some((2, 0)));
        assert_eq!(choice(""), Some((2, 0)));
        assert_eq!(choose([&b"/a"[..]], b"/b"), None);
    }
}
