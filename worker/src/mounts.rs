//! Which app answers a request: mount points, SCRIPT_NAME, virtual hosts. Pure functions over bytes.

use crate::settings::RequestSettings;

/// What the choice looks at.
#[derive(Default)]
pub struct Ask<'r> {
    pub app_id: Option<&'r [u8]>,
    pub script_name: Option<&'r [u8]>,
    pub path_info: &'r [u8],
    pub host: Option<&'r [u8]>,
    pub server_name: Option<&'r [u8]>,
    pub modifier1: u8,
}

/// The choice.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer<'r> {
    /// What the apps are looked up by, without a slash at the end: also the key of an app that the request itself names.
    pub key: Vec<u8>,
    /// The app whose mount point that is.
    pub app: Option<usize>,
    /// SCRIPT_NAME and PATH_INFO, where they are to be replaced.
    pub moved: Option<(&'r [u8], &'r [u8])>,
}

/// Chooses among apps mounted at `points`.
pub fn choose<'r>(points: &[Vec<u8>], settings: &RequestSettings, ask: &Ask<'r>) -> Answer<'r> {
    if let Some(id) = ask.app_id.filter(|id| !id.is_empty()) {
        return Answer { key: id.to_vec(), app: find(points, id), moved: None };
    }
    let moved = moved(points, settings, ask);
    let script_name = match moved {
        Some((script, _)) => script,
        None if settings.ignore_script_name => b"",
        None => ask.script_name.unwrap_or_default(),
    };
    let key = match virtual_host(settings, ask) {
        Some(host) => [host, b"|", trim(script_name)].concat(),
        None => trim(script_name).to_vec(),
    };
    Answer { app: find(points, &key), key, moved }
}

fn virtual_host<'r>(settings: &RequestSettings, ask: &Ask<'r>) -> Option<&'r [u8]> {
    (settings.vhost || settings.vhost_host).then(|| ask.host.filter(|h| !h.is_empty()).or(ask.server_name).unwrap_or_default())
}

/// How PATH_INFO is cut: at the longest mount point (`manage-script-name`), or at the front end's SCRIPT_NAME (modifier1 30).
fn moved<'r>(points: &[Vec<u8>], settings: &RequestSettings, ask: &Ask<'r>) -> Option<(&'r [u8], &'r [u8])> {
    if ask.modifier1 == 30 {
        let script = ask.script_name?;
        return below(ask.path_info, script).then(|| (script, &ask.path_info[trim(script).len()..]));
    }
    if !settings.manage_script_name || ask.path_info.len() < 2 {
        return None;
    }
    let host = virtual_host(settings, ask);
    let longest = points
        .iter()
        .filter_map(|point| in_host(point, host))
        .map(trim)
        .filter(|point| below(ask.path_info, point))
        .map(<[u8]>::len)
        .max()?;
    Some(ask.path_info.split_at(longest))
}

/// The path of a mount point, if it is one of that host's.
fn in_host<'p>(point: &'p [u8], host: Option<&[u8]>) -> Option<&'p [u8]> {
    match host {
        None => Some(point),
        Some(host) => point.strip_prefix(host)?.strip_prefix(b"|"),
    }
}

/// Whether `path` is `point` or below it (`/shopping` is not below `/shop`).
fn below(path: &[u8], point: &[u8]) -> bool {
    path.strip_prefix(trim(point)).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

fn find(points: &[Vec<u8>], key: &[u8]) -> Option<usize> {
    points.iter().position(|point| trim(point) == trim(key))
}

/// Without slashes at the end, which do not count; `/` is ``.
fn trim(point: &[u8]) -> &[u8] {
    let end = point.iter().rposition(|b| *b != b'/').map_or(0, |at| at + 1);
    &point[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(points: &[&str]) -> Vec<Vec<u8>> {
        points.iter().map(|p| p.as_bytes().to_vec()).collect()
    }

    fn managed() -> RequestSettings {
        RequestSettings { manage_script_name: true, ..RequestSettings::default() }
    }

    #[test]
    fn the_longest_mount_point_is_cut_off_the_path() {
        let points = points(&["", "/shop", "/shop/admin/"]);
        let ask = |path: &'static str| choose(&points, &managed(), &Ask { path_info: path.as_bytes(), ..Ask::default() });
        let cases: [(&str, usize, &str, &str); 4] = [
            ("/shop/admin/x", 2, "/shop/admin", "/x"),
            ("/shop", 1, "/shop", ""),
            ("/shopping", 0, "", "/shopping"),
            ("/shop//x", 1, "/shop", "//x"),
        ];
        for (path, app, script, info) in cases {
            let answer = ask(path);
            assert_eq!((answer.app, answer.moved), (Some(app), Some((script.as_bytes(), info.as_bytes()))), "{path}");
        }
        assert_eq!(ask("/").moved, None);
    }

    #[test]
    fn the_front_ends_script_name_chooses_and_nothing_is_cut() {
        let points = points(&["/one", "/two"]);
        let ask = Ask { script_name: Some(b"/two"), path_info: b"/two/x", ..Ask::default() };
        assert_eq!(choose(&points, &RequestSettings::default(), &ask), Answer { key: b"/two".to_vec(), app: Some(1), moved: None });
        let ignored = RequestSettings { ignore_script_name: true, ..RequestSettings::default() };
        assert_eq!(choose(&points, &ignored, &ask).app, None);
    }

    #[test]
    fn modifier_30_cuts_the_front_ends_script_name() {
        let ask = |path: &'static [u8]| Ask { script_name: Some(b"/a"), path_info: path, modifier1: 30, ..Ask::default() };
        let points = points(&["/a"]);
        assert_eq!(choose(&points, &RequestSettings::default(), &ask(b"/a/b")).moved, Some((&b"/a"[..], &b"/b"[..])));
        assert_eq!(choose(&points, &RequestSettings::default(), &ask(b"/ab")).moved, None);
    }

    #[test]
    fn an_app_id_beats_everything_and_hosts_are_part_of_the_key() {
        let points = points(&["", "x.test|/a"]);
        let id = Ask { app_id: Some(b"x.test|/a"), ..Ask::default() };
        assert_eq!(choose(&points, &RequestSettings::default(), &id).app, Some(1));
        let settings = RequestSettings { vhost: true, ..managed() };
        let ask = Ask { host: Some(b"x.test"), server_name: Some(b"y"), path_info: b"/a/b", ..Ask::default() };
        let answer = choose(&points, &settings, &ask);
        assert_eq!((answer.app, answer.moved), (Some(1), Some((&b"/a"[..], &b"/b"[..]))));
    }
}
