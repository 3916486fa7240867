//! What a browser asks for, and whether it may have it. Pure: bytes in, a decision out.

use imperator_protocol::http::{Framing, Head, Places, parse_head};

use super::access::Access;

/// Bytes of a request's head. Cookies of other servers on the same host come with it, so it is not small.
pub const LONGEST_HEAD: usize = 16 * 1024;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Page,
    /// `ps`.
    Estate,
    /// `why`, of this vassal.
    Why(String),
    Act(Act, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Reload,
    Stop,
    Start,
}

/// A request that is fulfilled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub wanted: Wanted,
    /// HEAD.
    pub only_head: bool,
}

/// One that is not: the status, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub why: String,
}

fn refuse<T>(status: u16, why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { status, why: why.into() })
}

/// Reads a whole head.
///
/// # Errors
/// What the client is told instead.
pub fn read(bytes: &[u8], access: &Access) -> Result<Asked, Refusal> {
    let mut places = Places::default();
    let head = match parse_head(bytes, LONGEST_HEAD, &mut places) {
        Ok(Some(head)) => head,
        Ok(None) => return refuse(400, "this is no whole request"),
        Err(error) => return refuse(error.status(), error.to_string()),
    };
    let host = text(&head, b"host").unwrap_or_default();
    if !access.is_ours(host) {
        return refuse(421, "this dashboard is not known by that name: emperor-dashboard-host names those that it is");
    }
    let wanted = route(head.target())?;
    check_method(&head, &wanted)?;
    if wanted != Wanted::Page {
        check_site(&head)?;
        if !access.is_known(head.header(b"authorization")) {
            return refuse(401, "emperor-dashboard-secret: the secret is missing or wrong");
        }
    }
    if let Wanted::Act(..) = wanted {
        check_act(&head, host, access)?;
    }
    Ok(Asked { only_head: head.method() == b"HEAD", wanted })
}

fn text<'b>(head: &Head<'b>, name: &[u8]) -> Option<&'b str> {
    head.header(name).and_then(|value| std::str::from_utf8(value).ok())
}

fn route(target: &[u8]) -> Result<Wanted, Refusal> {
    let path = target.split(|b| *b == b'?').next().unwrap_or_default();
    let Some(path) = decoded(path) else { return refuse(400, "a path with a broken escape") };
    let known = match path.as_str() {
        "/" => Some(Wanted::Page),
        "/estate.json" => Some(Wanted::Estate),
        _ => path.strip_prefix("/vassal/").and_then(of_vassal),
    };
    known.map_or_else(|| refuse(404, "there are /, /estate.json and /vassal/NAME.json"), Ok)
}

/// Names may hold slashes: the ending tells what is wanted of it.
fn of_vassal(rest: &str) -> Option<Wanted> {
    if let Some(name) = rest.strip_suffix(".json") {
        return Some(Wanted::Why(name.into()));
    }
    let (name, verb) = rest.rsplit_once('/')?;
    let act = match verb {
        "reload" => Act::Reload,
        "stop" => Act::Stop,
        "start" => Act::Start,
        _ => return None,
    };
    Some(Wanted::Act(act, name.into()))
}

/// Escapes undone once; `None`: a broken one, or no UTF-8.
fn decoded(path: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            out.push(*first);
            continue;
        }
        let (escape, after) = rest.split_at_checked(2)?;
        let digit = |byte: u8| (byte as char).to_digit(16);
        out.push((digit(escape[0])? * 16 + digit(escape[1])?) as u8);
        rest = after;
    }
    String::from_utf8(out).ok()
}

fn check_method(head: &Head<'_>, wanted: &Wanted) -> Result<(), Refusal> {
    match (head.method(), wanted) {
        (b"POST", Wanted::Act(..)) | (b"GET" | b"HEAD", Wanted::Page | Wanted::Estate | Wanted::Why(_)) => Ok(()),
        (_, Wanted::Act(..)) => refuse(405, "only POST does something"),
        _ => refuse(405, "GET"),
    }
}

/// A browser says which site's page asks: another's has no business with our data, whatever it does with the answer.
fn check_site(head: &Head<'_>) -> Result<(), Refusal> {
    match head.header(b"sec-fetch-site") {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => refuse(403, "a page of another site asks"),
    }
}

/// Something is to be done: only for our own page, by somebody who knows the secret.
fn check_act(head: &Head<'_>, host: &str, access: &Access) -> Result<(), Refusal> {
    if !access.actions || access.secret.is_none() {
        return refuse(403, "this dashboard only shows: emperor-dashboard-actions = true lets it do something");
    }
    let origin = text(head, b"origin").unwrap_or_default();
    let from = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    if !from.is_some_and(|from| from.eq_ignore_ascii_case(host)) {
        return refuse(403, "Origin and Host differ: not our own page, or a proxy that does not pass Host on");
    }
    if !matches!(head.framing(), Framing::None | Framing::Length(0)) {
        return refuse(413, "a request without a body is enough");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::access::Secret;
    use super::*;

    const SECRET: &str = "0123456789abcdef";

    fn access() -> Access {
        Access { address: Some(([127, 0, 0, 1], 5000).into()), ..Access::default() }
    }

    fn acting() -> Access {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("secret");
        std::fs::write(&path, SECRET).expect("write");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("chmod");
        Access { secret: Some(Secret::read(path.to_str().expect("UTF-8")).expect("a secret")), actions: true, ..access() }
    }

    fn ask(line: &str, fields: &str, access: &Access) -> Result<Asked, u16> {
        let head = format!("{line} HTTP/1.1\r\nHost: localhost:5000\r\n{fields}\r\n");
        read(head.as_bytes(), access).map_err(|r| r.status)
    }

    fn wanted(line: &str) -> Result<Wanted, u16> {
        ask(line, "", &access()).map(|a| a.wanted)
    }

    #[test]
    fn paths_are_routed() {
        assert_eq!(wanted("GET /"), Ok(Wanted::Page));
        assert_eq!(wanted("GET /?x"), Ok(Wanted::Page));
        assert_eq!(wanted("GET /estate.json"), Ok(Wanted::Estate));
        assert_eq!(wanted("GET /vassal/a.ini.json"), Ok(Wanted::Why("a.ini".into())));
        assert_eq!(wanted("GET /vassal/%2Fsrv%2F%C3%A4%20%25.ini.json"), Ok(Wanted::Why("/srv/ä %.ini".into())));
        assert_eq!(wanted("GET /vassal//srv/a.ini.json"), Ok(Wanted::Why("/srv/a.ini".into())));
        for (line, status) in [
            ("GET /etc/passwd", 404),
            ("GET /vassal/a.ini", 404),
            ("GET /vassal/%zz.json", 400),
            ("GET /vassal/%ff.json", 400),
            ("POST /", 405),
            ("DELETE /estate.json", 405),
            ("GET /vassal/a.ini/stop", 405),
            ("POST /vassal/a.ini/dance", 404),
            ("GET", 400),
        ] {
            assert_eq!(wanted(line), Err(status), "{line}");
        }
        assert!(ask("HEAD /", "", &access()).expect("HEAD").only_head);
    }

    #[test]
    fn another_name_or_site_is_refused() {
        let read = |head: &str| read(head.as_bytes(), &access()).map_err(|r| r.status).map(|a| a.wanted);
        assert_eq!(read("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n"), Err(421));
        assert_eq!(read("GET / HTTP/1.0\r\n\r\n"), Err(421));
        assert_eq!(read("GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"), Err(400));
        assert_eq!(ask("GET /estate.json", "Sec-Fetch-Site: cross-site\r\n", &access()), Err(403));
        assert_eq!(ask("GET /estate.json", "Sec-Fetch-Site: same-site\r\n", &access()), Err(403));
        assert!(ask("GET /estate.json", "Sec-Fetch-Site: same-origin\r\n", &access()).is_ok());
        assert!(ask("GET /", "Sec-Fetch-Site: cross-site\r\n", &access()).is_ok(), "a link may lead to the page");
    }

    #[test]
    fn with_a_secret_the_data_are_for_those_who_know_it() {
        let access = acting();
        assert!(ask("GET /", "", &access).is_ok(), "the page itself says nothing");
        assert_eq!(ask("GET /estate.json", "", &access), Err(401));
        assert_eq!(ask("GET /vassal/a.ini.json", "Authorization: Bearer guess\r\n", &access), Err(401));
        assert!(ask("GET /estate.json", &format!("Authorization: Bearer {SECRET}\r\n"), &access).is_ok());
    }

    #[test]
    fn something_is_done_only_for_our_own_page_with_the_secret_and_by_option() {
        let line = "POST /vassal/a.ini/stop";
        let secret = format!("Authorization: Bearer {SECRET}\r\n");
        let origin = "Origin: http://localhost:5000\r\n";
        let all = format!("{secret}{origin}Content-Length: 0\r\n");
        assert_eq!(ask(line, &all, &acting()).map(|a| a.wanted), Ok(Wanted::Act(Act::Stop, "a.ini".into())));
        assert_eq!(ask(line, origin, &acting()), Err(401));
        assert_eq!(ask(line, &secret, &acting()), Err(403));
        assert_eq!(ask(line, &format!("{secret}Origin: http://localhost:5001\r\n"), &acting()), Err(403));
        assert_eq!(ask(line, &format!("{secret}Origin: null\r\n"), &acting()), Err(403));
        assert_eq!(ask(line, &format!("{all}Sec-Fetch-Site: cross-site\r\n"), &acting()), Err(403));
        assert_eq!(ask(line, &format!("{secret}{origin}Content-Length: 5\r\n"), &acting()), Err(413));
        assert_eq!(ask(line, &all, &Access { actions: false, ..acting() }), Err(403));
        assert_eq!(ask(line, &all, &Access { secret: None, ..acting() }), Err(403));
        assert_eq!(ask(line, &all, &access()), Err(403));
    }

    proptest::proptest! {
        #[test]
        fn no_request_is_too_odd(bytes: Vec<u8>, path in "/vassal/[a-z%/.]{0,20}") {
            let _ = read(&bytes, &access());
            let _ = wanted(&format!("GET {path}"));
        }
    }
}
