//! Static files as clients see them.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use support::{Answer, Server, exchange, http, packet, stats, uwsgi, wait_for};

const APP: &str = "def application(env, start_response):
    start_response('200 OK', [('Content-Type', 'text/x-app')])
    return [b'app']
";

fn site(options: &str) -> Server {
    let mut server = Server::new();
    server.write("app.py", APP);
    server.write("pub/a.txt", "hello a");
    server.write("pub/dir/index.html", "<i>index</i>");
    server.write("out/secret.txt", "SECRET");
    server.start_ini(&format!("http-socket = 127.0.0.1:{{port}}\nsocket = {{sock}}\nwsgi-file = app.py\nmimefile = /nowhere\n{options}"));
    server.ready("{sock}");
    server
}

/// One GET over HTTP with these header lines.
fn get(server: &Server, target: &str, headers: &str) -> Answer {
    request(server, "GET", target, headers)
}

fn request(server: &Server, method: &str, target: &str, headers: &str) -> Answer {
    let text = format!("{method} {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    Answer::parse(&exchange(&server.fill("127.0.0.1:{port}"), text.as_bytes()).expect("an answer")).expect("a head")
}

fn names(answer: &Answer) -> String {
    answer.head.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect::<Vec<_>>().join(" ")
}

#[test]
fn headers_come_in_uwsgis_order_with_ours_behind_them() {
    let server = site("static-map = /s={dir}/pub\nhonour-range = true\nstatic-gzip-all = true\nstatic-expires = \\.txt$ 1000\n");
    server.write("pub/a.txt.gz", "GZ");
    let order = "Content-Type Content-Length Last-Modified ETag Accept-Ranges Vary Cache-Control";
    let answer = get(&server, "/s/a.txt", "");
    assert_eq!((names(&answer), answer.text()), (format!("Expires {order}"), "hello a".into()));
    assert_eq!(answer.header("cache-control"), Some("max-age=1000"));
    let answer = get(&server, "/s/a.txt", "Accept-Encoding: gzip\r\n");
    assert_eq!((names(&answer), answer.text()), (format!("Expires Content-Encoding {order}"), "GZ".into()));
    let answer = get(&server, "/s/a.txt", "Range: bytes=1-2\r\n");
    let with_range = order.replace("Last-Modified", "Content-Range Last-Modified");
    assert_eq!((answer.status, names(&answer), answer.text()), (206, format!("Expires {with_range}"), "el".into()));
    let whole = request(&server, "HEAD", "/s/a.txt", "Range: bytes=1-2\r\n");
    assert_eq!((whole.status, whole.header("content-length"), whole.text()), (200, Some("7"), String::new()));
    assert_eq!(get(&server, "/s/none", "").text(), "app");
}

#[test]
fn each_family_of_expiries_adds_its_header_where_uwsgi_has_it() {
    let lines = ["static-expires-type-mtime = text/plain=9", "static-expires-type = text/plain=8000", "static-expires-uri = v=1 3000"];
    let more = "static-expires-path-info = ^/s 5000\nstatic-expires-path-info = a 1\nstatic-expires = txt 1000\nstatic-expires = a 1\n";
    let server = site(&format!("static-map = /s={{dir}}/pub\n{}\n{more}", lines.join("\n")));
    let answer = get(&server, "/s/a.txt?v=1", "");
    assert_eq!(names(&answer), "Expires Expires Expires Content-Type Expires Content-Length Last-Modified ETag Cache-Control");
    assert_eq!(answer.header("cache-control"), Some("max-age=1000"), "what the first of them says");
    let dates = answer.head.lines().filter_map(|line| line.strip_prefix("Expires: "));
    let times: Vec<_> = dates.map(|date| httpdate::parse_http_date(date).expect("a date")).collect();
    let after: Vec<_> = times.iter().map(|time| time.duration_since(times[0]).expect("the first is the earliest").as_secs()).collect();
    assert_eq!(after, [0, 4000, 2000, 7000]);
}

#[test]
fn paths_that_are_remembered_in_a_cache_are_as_safe_as_others() {
    let server = site(
        "static-map = /s={dir}/pub\ncache2 = name=other,items=10\ncache2 = name=paths,items=10\n\
         static-cache-paths = 30\nstatic-cache-paths-name = paths\nstats = {dir}/stats\nstatic-safe = {dir}/out\n",
    );
    let caches = || {
        let all = stats(&server.fill("{dir}/stats")).expect("statistics")["caches"].clone();
        let number = |cache: usize, what: &str| all[cache][what].as_u64().expect("a number");
        (number(0, "items"), number(1, "items"), number(1, "hits"))
    };
    for _ in 0..3 {
        assert_eq!(get(&server, "/s/a.txt", "").text(), "hello a");
    }
    assert_eq!(caches(), (0, 1, 2), "remembered once, in the cache of that name");
    assert_eq!(get(&server, "/s/none", "").text(), "app");
    assert_eq!(caches().1, 1, "what is not found is not remembered");
    // The name leads elsewhere now; a path in the cache is no leave to open what no directory allows.
    std::fs::remove_file(server.path("pub/a.txt")).expect("remove");
    std::os::unix::fs::symlink("/etc/passwd", server.path("pub/a.txt")).expect("link");
    wait_for("the app", || (get(&server, "/s/a.txt", "").text() == "app").then_some(()));
}

#[test]
fn a_client_that_has_the_file_is_told_so() {
    let server = site("static-map = /s={dir}/pub\nstatic-gzip-all = true\nstatic-expires-type = text/plain=60\n");
    let answer = get(&server, "/s/a.txt", "");
    let (tag, date) = (answer.header("etag").expect("a tag").to_owned(), answer.header("last-modified").expect("a date").to_owned());
    assert!(!tag.starts_with("W/"));
    for condition in [
        format!("If-None-Match: {tag}"),
        format!("If-None-Match: \"x\", W/{tag}"),
        "If-None-Match: *".into(),
        format!("If-Modified-Since: {date}"),
        "If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT\r\nIf-None-Match: *".into(),
    ] {
        let answer = get(&server, "/s/a.txt", &format!("{condition}\r\n"));
        assert_eq!((answer.status, answer.text()), (304, String::new()), "{condition}");
        assert_eq!(names(&answer), "Expires Last-Modified ETag Vary Cache-Control", "{condition}");
        assert_eq!(answer.header("etag"), Some(tag.as_str()));
    }
    for condition in
        [format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {date}"), format!("If-Match: {tag}"), "If-Modified-Since: soon".into()]
    {
        assert_eq!(get(&server, "/s/a.txt", &format!("{condition}\r\n")).text(), "hello a", "{condition}");
    }
    assert_eq!(get(&server, "/s/a.txt", "If-Match: \"x\"\r\n").status, 412);
    server.write("pub/a.txt", "changed");
    let answer = get(&server, "/s/a.txt", &format!("If-None-Match: {tag}\r\n"));
    assert_eq!((answer.status, answer.text()), (200, "changed".into()), "a replaced file is another one at once");
}

#[test]
fn several_ranges_are_several_parts() {
    let server = site("static-map = /s={dir}/pub\nhonour-range = true\n");
    // As long as this file's last change is a moment ago it is read from the disk, later from memory.
    for _ in 0..2 {
        let answer = get(&server, "/s/a.txt", "Range: bytes=0-0,2-3,-1\r\n");
        let kind = answer.header("content-type").expect("a type").to_owned();
        let boundary = kind.strip_prefix("multipart/byteranges; boundary=").expect("a boundary");
        let part = |range: &str, text: &str| {
            format!("\r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes {range}/7\r\n\r\n{text}")
        };
        let expected = [part("0-0", "h"), part("2-3", "ll"), part("6-6", "a"), format!("\r\n--{boundary}--\r\n")].concat();
        assert_eq!((answer.status, answer.text()), (206, expected.clone()));
        assert_eq!(answer.header("content-length"), Some(expected.len().to_string().as_str()));
        std::thread::sleep(Duration::from_millis(2500));
    }
    let answer = get(&server, "/s/a.txt", "Range: bytes=9-\r\n");
    assert_eq!((answer.status, answer.header("content-range"), answer.text()), (416, Some("bytes */7"), String::new()));
    let outdated = get(&server, "/s/a.txt", "Range: bytes=0-1\r\nIf-Range: \"old\"\r\n");
    assert_eq!((outdated.status, outdated.text()), (200, "hello a".into()));
}

#[test]
fn a_file_kept_in_memory_is_the_file_on_the_disk() {
    let server = site("static-map = /s={dir}/pub\n");
    // Old enough to be kept, and asked for until it is.
    std::thread::sleep(Duration::from_millis(2500));
    for _ in 0..3 {
        assert_eq!(get(&server, "/s/a.txt", "").text(), "hello a");
    }
    std::fs::write(server.path("pub/a.txt"), "HELLO A").expect("write");
    assert_eq!(get(&server, "/s/a.txt", "").text(), "HELLO A", "changed in place, of the same length");
    server.write("pub/a.txt", "replaced");
    assert_eq!(get(&server, "/s/a.txt", "").text(), "replaced");
    std::fs::remove_file(server.path("pub/a.txt")).expect("remove");
    assert_eq!(get(&server, "/s/a.txt", "").text(), "app");
    std::os::unix::fs::symlink("../out/secret.txt", server.path("pub/a.txt")).expect("link");
    assert_eq!(get(&server, "/s/a.txt", "").text(), "app");
    server.wait_log("security error: ");
}

#[test]
fn a_directory_that_becomes_a_link_counts_within_a_second() {
    let server = site("static-map = /s={dir}/pub\n");
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(get(&server, "/s/dir/index.html", "").text(), "<i>index</i>");
    // The file is the same, but it is not below the directory any more.
    std::fs::rename(server.path("pub/dir"), server.path("out/dir")).expect("rename");
    std::os::unix::fs::symlink("../out/dir", server.path("pub/dir")).expect("link");
    wait_for("the link to count", || (get(&server, "/s/dir/index.html", "").text() == "app").then_some(()));
}

#[test]
fn the_front_end_can_be_told_where_the_file_is() {
    for (mode, header) in [("x-sendfile", "X-Sendfile"), ("nginx", "X-Accel-Redirect")] {
        let server = site(&format!("static-map = /s={{dir}}/pub\nfile-serve-mode = {mode}\n"));
        std::os::unix::fs::symlink("a.txt", server.path("pub/link")).expect("link");
        let answer = uwsgi(&server.sock(), "/s/link").expect("an answer");
        let real = std::fs::canonicalize(server.path("pub/a.txt")).expect("there");
        assert_eq!((answer.status, answer.text(), answer.header(header)), (200, String::new(), real.to_str()), "{mode}");
        assert_eq!(names(&answer), format!("Content-Type {header} Last-Modified ETag"));
    }
}

#[test]
fn our_own_errors_have_the_pages_of_the_configuration() {
    let mut server = Server::new();
    server.write("e500.html", "<h1>broken</h1>");
    server.write("app.py", "def application(env, start_response):\n    raise Exception('x')\n");
    server.start_ini("http-socket = 127.0.0.1:{port}\nwsgi-file = app.py\nerror-page-500 = {dir}/none\nerror-page-500 = {dir}/e500.html\n");
    let answer = wait_for("an answer", || http(&server.fill("127.0.0.1:{port}"), "/").ok());
    assert_eq!((answer.status, answer.text(), answer.header("content-type")), (500, "<h1>broken</h1>".into(), Some("text/html")));
}

#[test]
fn what_is_wrong_with_an_option_ends_the_start_and_is_told_by_check() {
    for (line, part) in [
        ("static-map = /s", "/PREFIX=/DIRECTORY"),
        ("static-expires = foo", "REGEX SECONDS"),
        ("static-expires-uri-mtime = ( 3", "regular expression"),
        ("static-expires-type = text/css", "TYPE=SECONDS"),
        ("static-gzip = (", "regular expression"),
        ("file-serve-mode = x-typo", "x-accel-redirect"),
    ] {
        let server = Server::new();
        let ini = server.write("app.ini", &format!("[uwsgi]\nhttp-socket = 127.0.0.1:{{port}}\n{line}\n"));
        for arguments in [vec!["check"], vec!["--ini"]] {
            let done = Command::new(env!("CARGO_BIN_EXE_imperator")).args(arguments).arg(&ini).stdin(Stdio::null()).output().expect("run");
            let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
            assert_eq!(done.status.code(), Some(1), "{line}: {said}");
            assert!(said.contains("app.ini:3: ") && said.contains(part), "{line}: {said}");
        }
    }
}

#[test]
fn directories_that_are_missing_are_told_once() {
    let server = site("static-map = /s={dir}/later\nprocesses = 3\n");
    assert_eq!(get(&server, "/s/x", "").text(), "app");
    server.write("later/x", "late");
    assert_eq!(get(&server, "/s/x", "").text(), "late");
    assert_eq!(server.log().matches("does not exist yet").count(), 1);
}

#[test]
fn curl_resumes_a_download() {
    let server = site("static-map = /s={dir}/pub\nhonour-range = true\n");
    let content: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(server.path("pub/big.bin"), &content).expect("write");
    std::fs::write(server.path("part.bin"), &content[..500_001]).expect("write");
    let url = server.fill("http://127.0.0.1:{port}/s/big.bin");
    let curl = |more: &[&str]| {
        Command::new("curl").args(["-sS", "-f"]).args(more).arg(&url).current_dir(server.dir.path()).status().expect("curl")
    };
    assert!(curl(&["-C", "-", "-o", "part.bin"]).success());
    assert_eq!(std::fs::read(server.path("part.bin")).expect("read"), content);
    // The second time there is nothing to do.
    assert!(curl(&["-z", "part.bin", "-o", "new.bin"]).success());
    let since = std::fs::metadata(server.path("part.bin")).and_then(|m| m.modified()).expect("a time");
    assert!(since <= SystemTime::now() && !server.path("new.bin").exists(), "304");
}

/// A tree full of ways out, and a server with every kind of place over it.
fn trap() -> Server {
    let mut server = Server::new();
    server.write("app.py", APP);
    for (name, text) in [
        ("pub/a.txt", "public"),
        ("pub/sub/b.txt", "public"),
        ("pub/sub/deep/c.txt", "public"),
        ("pub/zipped.txt", "public"),
        ("pub/index-of-links/x", "public"),
        ("pub-private/key", "SECRET"),
        ("pub/one.txt", "public"),
        ("safe/ok.txt", "public"),
        ("safe-not/key", "SECRET"),
        ("out/secret.txt", "SECRET"),
        ("out/index.html", "SECRET"),
    ] {
        server.write(name, text);
    }
    for (link, to) in [
        ("link", "../out/secret.txt"),
        ("linkdir", "../out"),
        ("chain", "link"),
        ("chaindir", "sub/../linkdir"),
        ("absolute", "{dir}/out/secret.txt"),
        ("absolutedir", "{dir}/out"),
        ("up", ".."),
        ("rootlink", "/"),
        ("proc", "/proc/self/root"),
        ("procself", "/proc/self"),
        ("cwd", "/proc/self/cwd"),
        ("etc", "/etc/passwd"),
        ("sibling", "../pub-private/key"),
        ("siblingdir", "{dir}/pub-private"),
        ("safelink", "../safe"),
        ("safesibling", "../safe-not/key"),
        ("zipped.txt.gz", "../out/secret.txt"),
        ("zipped.txt.br", "{dir}/out/secret.txt"),
        ("index-of-links/index.html", "../../out/index.html"),
        ("device", "/dev/zero"),
        ("null", "/dev/null"),
        ("loop", "loop"),
        ("dangling", "nowhere"),
    ] {
        std::os::unix::fs::symlink(server.fill(to), server.path("pub").join(link)).expect("link");
    }
    std::os::unix::fs::symlink("../out/secret.txt", server.path("safe/escape")).expect("link");
    nix::unistd::mkfifo(&server.path("pub/fifo"), nix::sys::stat::Mode::S_IRWXU).expect("fifo");
    let _socket = std::os::unix::net::UnixListener::bind(server.path("pub/socket")).expect("a socket");
    server.start_ini(
        "http-socket = 127.0.0.1:{port}\nsocket = {sock}\nwsgi-file = app.py\ndisable-logging = true\nstatic-index = index.html\nstatic-gzip-all = true\n\
         static-map = /s={dir}/pub\nstatic-map = /t/={dir}/pub\nstatic-map = /one={dir}/pub/one.txt\nstatic-map2 = /sub={dir}/pub\n\
         check-static = {dir}/pub\ncheck-static-docroot = true\nstatic-safe = {dir}/safe\nhonour-range = true\n",
    );
    server.ready("{sock}");
    server
}

/// What a way out is made of: each with each.
fn generated() -> Vec<String> {
    let mut found = vec![];
    for place in ["/s/", "/t/", "/one/", "/sub/", "/"] {
        for way in [
            "..",
            "%2e%2e",
            ".%2E",
            "sub/../..",
            "sub/deep/../../..",
            "./..",
            "up",
            "procself/cwd",
            "rootlink/{dir}",
            "proc/{dir}",
            "..//",
            "linkdir/..",
        ] {
            for slash in ["/", "%2f", "//", "/./"] {
                for end in ["out/secret.txt", "pub-private/key"] {
                    found.push(format!("{place}{way}{slash}{end}"));
                }
            }
        }
    }
    for length in [200, 255, 256, 1000, 4095, 4096, 5000, 20_000] {
        found.push(format!("/s/{}/../../out/secret.txt", "x".repeat(length)));
        found.push(format!("/s/{}../out/secret.txt", "sub/../".repeat(length / 7)));
        found.push(format!("/s/{}../out/secret.txt", "./".repeat(length / 2)));
        found.push(format!("/s/{}/out/secret.txt", "../".repeat(length / 3)));
    }
    found
}

#[test]
fn no_request_leads_out_of_the_directories() {
    let server = trap();
    let abs = server.path("out/secret.txt").display().to_string();
    let listed = include_str!("fixtures/static/traversal.txt").lines().filter(|line| !line.starts_with('#')).map(str::to_owned);
    let attempts: Vec<_> = listed.chain(generated()).map(|line| server.fill(&line).replace("{abs}", &abs)).collect();
    assert!(attempts.len() >= 600, "{}", attempts.len());
    for target in &attempts {
        let bytes = target.as_bytes();
        let http = [b"GET ", bytes, b" HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip, br\r\n\r\n"].concat();
        refused(target, &exchange(&server.fill("127.0.0.1:{port}"), &http).unwrap_or_default());
        let root = server.path("pub").display().to_string();
        for path in [bytes.to_vec(), decoded(bytes)] {
            // Names and values of a packet are bytes: the client's helper takes text only, so that this one is put in by hand.
            let mut sent = packet("/", &[("DOCUMENT_ROOT", &root), ("HTTP_ACCEPT_ENCODING", "gzip, br")]);
            imperator_protocol::vars::push(&mut sent, b"PATH_INFO", &path);
            let length = u16::try_from(sent.len() - 4).expect("it fits");
            sent[1..3].copy_from_slice(&length.to_le_bytes());
            refused(target, &exchange(&server.sock(), &sent).expect("an answer"));
        }
    }
    for (path, body) in [
        ("/s/a.txt", "public"),
        ("/t/sub/b.txt", "public"),
        ("/one", "public"),
        ("/sub/b.txt", "public"),
        ("/s/safelink/ok.txt", "public"),
        ("/s/..a", "app"),
    ] {
        assert_eq!(get(&server, path, "").text(), body, "{path} still works");
    }
    let told = server.log().matches("security error: ").count();
    assert!((1..=40).contains(&told), "{told} lines of security: some, and no flood");
}

fn refused(target: &str, answer: &[u8]) {
    for secret in [&b"SECRET"[..], b"root:", b"PATH=", b"app.ini\0"] {
        assert!(!answer.windows(secret.len()).any(|window| window == secret), "{target} gave {}", String::from_utf8_lossy(answer));
    }
}

fn decoded(target: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (mut out, mut at) = (vec![], 0);
    while at < target.len() {
        let pair = target.get(at + 1).zip(target.get(at + 2)).filter(|_| target[at] == b'%');
        match pair.and_then(|(&high, &low)| digit(high).zip(digit(low))) {
            Some((high, low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            None => {
                out.push(target[at]);
                at += 1;
            }
        }
    }
    out
}

#[test]
fn a_target_may_be_flipped_by_a_link() {
    let server = Server::new();
    for (name, text) in [("one/a", "1"), ("two/a", "2")] {
        server.write(name, text);
    }
    flip(server.dir.path(), "one");
    let mut server = server;
    server.write("app.py", APP);
    server.start_ini("http-socket = 127.0.0.1:{port}\nsocket = {sock}\nwsgi-file = app.py\nstatic-map = /s={dir}/current\n");
    server.ready("{sock}");
    assert_eq!(get(&server, "/s/a", "").text(), "1");
    flip(server.dir.path(), "two");
    assert_eq!(get(&server, "/s/a", "").text(), "2", "deployments flip a link");
}

fn flip(top: &Path, to: &str) {
    std::os::unix::fs::symlink(to, top.join("next")).expect("link");
    std::fs::rename(top.join("next"), top.join("current")).expect("rename");
}
