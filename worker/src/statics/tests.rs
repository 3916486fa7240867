use imperator_protocol::http::ranges::Span;
use imperator_protocol::vars::push;

use super::*;
use crate::settings::{Gzip, Mapping};
use entity::Content;

fn directory() -> tempfile::TempDir {
    let top = tempfile::tempdir().expect("directory");
    for directory in ["pub/dir", "pub2"] {
        std::fs::create_dir_all(top.path().join(directory)).expect("mkdir");
    }
    for (name, text) in [("pub/a.txt", "hello a"), ("pub/dir/index.html", "index"), ("pub2/a.txt", "other a"), ("pub2/two.txt", "two")] {
        std::fs::write(top.path().join(name), text).expect("write");
    }
    top
}

fn statics_of(settings: &Static) -> Statics {
    Statics::new(settings, &CacheSettings::default())
}

fn map(top: &tempfile::TempDir, prefix: &str, name: &str) -> Mapping {
    Mapping { prefix: prefix.into(), target: top.path().join(name).display().to_string() }
}

fn block(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![];
    for (name, value) in [("REQUEST_METHOD", method), ("PATH_INFO", path), ("REQUEST_URI", path)].iter().chain(more) {
        push(&mut block, name.as_bytes(), value.as_bytes());
    }
    block
}

fn asked(statics: &Statics, method: &str, path: &str, more: &[(&str, &str)]) -> Option<Answer> {
    let block = block(method, path, more);
    statics.answer(Vars::parse(&block).expect("sound"), &mut vec![]).expect("descriptors")
}

fn content(statics: &Statics, path: &str) -> Option<String> {
    asked(statics, "GET", path, &[]).map(|answer| text(&answer.entity))
}

fn text(entity: &Entity) -> String {
    let mut bytes = vec![0; usize::try_from(entity.length).expect("small")];
    match &entity.content {
        Content::Memory(kept) => bytes.copy_from_slice(kept),
        Content::File(file) => entity::read_at(file, &mut bytes, 0).expect("read"),
    }
    String::from_utf8(bytes).expect("text")
}

#[test]
fn places_are_tried_in_order_and_again() {
    let top = directory();
    let statics =
        statics_of(&Static { map: vec![map(&top, "/s", "pub"), map(&top, "/s", "pub2"), map(&top, "/s", "later")], ..Static::default() });
    for _ in 0..2 {
        assert_eq!(content(&statics, "/s/a.txt").as_deref(), Some("hello a"));
        assert_eq!(content(&statics, "/s/two.txt").as_deref(), Some("two"));
        assert_eq!(content(&statics, "/s/none").as_deref(), None);
    }
    std::fs::create_dir(top.path().join("later")).expect("mkdir");
    std::fs::write(top.path().join("later/none"), "late").expect("write");
    assert_eq!(content(&statics, "/s/none").as_deref(), Some("late"), "a directory that came later");
    std::fs::write(top.path().join("pub/two.txt"), "first").expect("write");
    assert_eq!(content(&statics, "/s/two.txt").as_deref(), Some("first"), "an earlier place has it by now");
    std::fs::remove_file(top.path().join("pub/a.txt")).expect("remove");
    assert_eq!(content(&statics, "/s/a.txt").as_deref(), Some("other a"));
}

#[test]
fn methods_and_names_that_are_the_apps() {
    let top = directory();
    let statics = statics_of(&Static {
        check: vec![top.path().join("pub").display().to_string()],
        skip_ext: vec![".txt".into()],
        index: vec!["none.html".into(), "index.html".into()],
        ..Static::default()
    });
    assert_eq!(content(&statics, "/dir").as_deref(), Some("index"));
    assert_eq!(content(&statics, "/dir/").as_deref(), Some("index"));
    std::os::unix::fs::symlink("a.txt", top.path().join("pub/link.html")).expect("link");
    for path in ["/", "/a.txt", "/link.html", "/dir/index.html\0", "/a.txt\0.png"] {
        assert!(content(&statics, path).is_none(), "{path:?}");
    }
    assert!(asked(&statics, "HEAD", "/dir", &[]).is_some_and(|answer| answer.head));
    for method in ["POST", "PUT", "get", ""] {
        assert!(asked(&statics, method, "/dir", &[]).is_none(), "{method}");
    }
}

#[test]
fn the_document_root_is_the_requests() {
    let top = directory();
    let statics = statics_of(&Static { check_docroot: true, ..Static::default() });
    for name in ["pub", "pub2", "pub"] {
        let root = top.path().join(name).display().to_string();
        let answer = asked(&statics, "GET", "/a.txt", &[("DOCUMENT_ROOT", &root)]).expect("there");
        assert_eq!(text(&answer.entity), if name == "pub" { "hello a" } else { "other a" });
    }
    for root in ["", "/nowhere", "relative/none"] {
        assert!(asked(&statics, "GET", "/a.txt", &[("DOCUMENT_ROOT", root)]).is_none(), "{root}");
    }
}

#[test]
fn compressed_forms_are_seen_as_soon_as_they_are_there() {
    let top = directory();
    let gzip = Gzip { all: true, ..Gzip::default() };
    let settings = Static { map: vec![map(&top, "/s", "pub"), map(&top, "/one", "pub/a.txt")], gzip, ..Static::default() };
    let statics = statics_of(&settings);
    let form = |path: &str, accept: &str| {
        let answer = asked(&statics, "GET", path, &[("HTTP_ACCEPT_ENCODING", accept)]).expect("there");
        assert_eq!(answer.plain.media_type.as_deref(), Some("text/plain"));
        assert_eq!(answer.coding.is_some(), answer.etag.is_some());
        (answer.coding.map(Coding::name), text(&answer.entity))
    };
    assert_eq!(form("/s/a.txt", "gzip, br"), (None, "hello a".into()));
    std::fs::write(top.path().join("pub/a.txt.gz"), "GZ").expect("write");
    for path in ["/s/a.txt", "/one"] {
        assert_eq!(form(path, "gzip, br"), (Some("gzip"), "GZ".into()));
    }
    std::fs::write(top.path().join("pub/a.txt.zst"), "ZST").expect("write");
    assert_eq!(form("/s/a.txt", "gzip, br, zstd"), (Some("zstd"), "ZST".into()));
    assert_eq!(form("/s/a.txt", "gzip;q=0"), (None, "hello a".into()));
    std::fs::remove_file(top.path().join("pub/a.txt.gz")).expect("remove");
    std::os::unix::fs::symlink("../pub2/a.txt", top.path().join("pub/a.txt.gz")).expect("link");
    for path in ["/s/a.txt", "/one"] {
        assert_eq!(form(path, "gzip"), (None, "hello a".into()), "it lies outside");
    }
}

#[test]
fn ranges_count_where_they_are_honoured() {
    let top = directory();
    let of = |honour_range, method: &str, more: &[(&str, &str)]| {
        let statics = statics_of(&Static { map: vec![map(&top, "/s", "pub")], honour_range, ..Static::default() });
        asked(&statics, method, "/s/a.txt", more).expect("there").action
    };
    let range = [("HTTP_RANGE", "bytes=0-1")];
    let part = Action::Part(Span { first: 0, last: 1 });
    assert_eq!((of(true, "GET", &range), of(false, "GET", &range), of(true, "HEAD", &range)), (part, Action::Whole, Action::Whole));
    assert_eq!(of(true, "GET", &[range[0], ("HTTP_IF_RANGE", "\"other\"")]), Action::Whole);
    assert_eq!(of(true, "GET", &[("HTTP_RANGE", "bytes=7-")]), Action::Unsatisfiable);
    assert!(matches!(of(true, "GET", &[("HTTP_RANGE", "bytes=0-0,2-2")]), Action::Several(parts) if parts.len() == 2));
    assert_eq!(of(true, "GET", &[range[0], ("HTTP_IF_NONE_MATCH", "*")]), Action::NotModified);
}

#[test]
fn many_bytes_in_several_ranges_are_the_whole_file() {
    let span = |first, last| Span { first, last };
    assert!(matches!(answer::parts(vec![span(0, 10), span(20, 30)]), Action::Several(_)));
    assert_eq!(answer::parts(vec![span(0, 10), span(20, 2 << 20)]), Action::Whole);
}
