use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::symlink;

use super::*;

/// A directory `pub` with things in it, and beside it what must never be seen.
struct Tree {
    top: tempfile::TempDir,
}

impl Tree {
    fn new() -> Self {
        let top = tempfile::tempdir().expect("directory");
        let at = |name: &str| top.path().join(name);
        for directory in ["pub/sub/deep", "pub-private", "out"] {
            std::fs::create_dir_all(at(directory)).expect("mkdir");
        }
        for (name, text) in [("pub/a.txt", "a"), ("pub/sub/b.txt", "b"), ("pub-private/key", "SECRET"), ("out/secret.txt", "SECRET")] {
            std::fs::write(at(name), text).expect("write");
        }
        for (link, to) in [
            ("pub/inside", "a.txt"),
            ("pub/sub/up", "../a.txt"),
            ("pub/outside", "../out/secret.txt"),
            ("pub/sibling", "../pub-private/key"),
            ("pub/directory", "../out"),
            ("pub/loop", "loop"),
            ("pub/dangling", "nowhere"),
            ("pub/magic", "/proc/self/root/etc/passwd"),
            ("pub/etc", "/etc/passwd"),
        ] {
            symlink(to, at(link)).expect("link");
        }
        symlink(at("pub/a.txt"), at("pub/absolute")).expect("link");
        symlink(at("out/secret.txt"), at("pub/absolute-outside")).expect("link");
        nix::unistd::mkfifo(&at("pub/fifo"), nix::sys::stat::Mode::S_IRWXU).expect("fifo");
        Self { top }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    fn content(&self, relative: &[u8], safe: &[PathBuf]) -> Result<String, Miss> {
        let found = open(&self.at("pub"), relative, safe)?;
        if !is_file(&found.stat) {
            return Ok("no file".into());
        }
        let mut text = String::new();
        File::from(found.file).read_to_string(&mut text).expect("read");
        Ok(text)
    }
}

#[test]
fn files_below_the_directory_are_found() {
    let tree = Tree::new();
    for (path, text) in [
        ("a.txt", "a"),
        ("/a.txt", "a"),
        ("///a.txt", "a"),
        ("sub/./b.txt", "b"),
        ("sub/../a.txt", "a"),
        ("inside", "a"),
        ("sub/up", "a"),
        ("absolute", "a"),
        ("../pub/a.txt", "a"),
        ("sub", "no file"),
        ("sub/", "no file"),
        ("", "no file"),
        ("/", "no file"),
        ("fifo", "no file"),
    ] {
        assert_eq!(tree.content(path.as_bytes(), &[]).as_deref(), Ok(text), "{path}");
    }
}

#[test]
fn what_lies_outside_is_not() {
    let tree = Tree::new();
    for path in [
        "../out/secret.txt",
        "../pub-private/key",
        "sub/../../out/secret.txt",
        "outside",
        "sibling",
        "directory/secret.txt",
        "absolute-outside",
        "etc",
        "magic",
        "..",
    ] {
        assert!(matches!(tree.content(path.as_bytes(), &[]), Err(Miss::Outside(_))), "{path}");
    }
    for path in ["none", "loop", "dangling", "a.txt/", "a.txt/x", "../none", "sub/none/b.txt", &"x".repeat(5000), &"x/".repeat(5000)] {
        assert_eq!(tree.content(path.as_bytes(), &[]), Err(Miss::Nothing), "{path}");
    }
}

#[test]
fn safe_directories_end_with_segments_too() {
    let tree = Tree::new();
    assert_eq!(tree.content(b"outside", &[tree.at("none"), tree.at("out")]).as_deref(), Ok("SECRET"));
    assert_eq!(tree.content(b"outside", &[tree.at("out/secret.txt")]).as_deref(), Ok("SECRET"), "a safe file");
    assert!(matches!(tree.content(b"sibling", &[tree.at("out")]), Err(Miss::Outside(_))));
    assert!(matches!(tree.content(b"sibling", &[tree.at("pub")]), Err(Miss::Outside(_))), "pub is no beginning of pub-private");
}

#[test]
fn a_target_can_be_a_file() {
    let tree = Tree::new();
    for relative in [&b""[..], b"/", b"/more", b"/more/still"] {
        let found = open(&tree.at("pub/a.txt"), relative, &[]).unwrap_or_else(|miss| panic!("{miss:?}"));
        assert!(is_file(&found.stat) && found.path == tree.at("pub/a.txt"));
    }
    assert_eq!(open(&tree.at("none"), b"a", &[]).err(), Some(Miss::Nothing));
}

#[test]
fn the_real_name_is_told_of_the_file_that_was_opened() {
    let tree = Tree::new();
    let found = open(&tree.at("pub"), b"inside", &[]).unwrap_or_else(|miss| panic!("{miss:?}"));
    let real = std::fs::canonicalize(tree.at("pub/a.txt")).expect("there");
    assert_eq!((found.by_link, resolved(&found.path, &found.stat)), (true, Some(real)));
    std::fs::remove_file(tree.at("pub/inside")).expect("remove");
    symlink("sub/b.txt", tree.at("pub/inside")).expect("link");
    assert_eq!(resolved(&found.path, &found.stat), None, "the name leads to another file by now");
}

#[test]
fn what_is_remembered_is_judged_anew() {
    let tree = Tree::new();
    let real = |name: &str| std::fs::canonicalize(tree.at(name)).expect("there");
    let of = |name: &str, safe: &[PathBuf]| open_remembered(&tree.at("pub"), real(name), safe).map(|found| found.stat.st_size);
    assert_eq!((of("pub/a.txt", &[]), of("out/secret.txt", &[tree.at("out")])), (Ok(1), Ok(6)));
    assert!(matches!(of("out/secret.txt", &[]), Err(Miss::Outside(_))) && of("pub/sub", &[]) == Err(Miss::Nothing));
    let before = real("pub/sub/b.txt");
    std::fs::rename(tree.at("pub/sub"), tree.at("moved")).expect("rename");
    symlink("../moved", tree.at("pub/sub")).expect("link");
    assert_eq!(open_remembered(&tree.at("pub"), before, &[]).err(), Some(Miss::Nothing), "a link by now");
}

#[test]
fn a_link_that_is_swapped_all_the_time_shows_nothing() {
    let tree = Tree::new();
    let (link, stop) = (tree.at("pub/swapped"), std::sync::atomic::AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for to in ["a.txt", "../out/secret.txt"].iter().cycle().take_while(|_| !stop.load(std::sync::atomic::Ordering::Relaxed)) {
                let next = tree.at("next");
                let _ = symlink(to, &next).and_then(|()| std::fs::rename(&next, &link));
            }
        });
        for _ in 0..3000 {
            assert_ne!(tree.content(b"swapped", &[]).as_deref(), Ok("SECRET"));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// Whatever a path holds: what is opened is one of the two files, or nothing.
#[test]
fn no_path_leads_out() {
    let tree = Tree::new();
    let words: [&[u8]; 24] = [
        b"..",
        b".",
        b"/",
        b"//",
        b"a.txt",
        b"sub",
        b"b.txt",
        b"inside",
        b"outside",
        b"sibling",
        b"directory",
        b"secret.txt",
        b"absolute",
        b"absolute-outside",
        b"loop",
        b"magic",
        b"etc",
        b"fifo",
        b"out",
        b"pub",
        b"pub-private",
        b"key",
        b"\xff",
        b" ",
    ];
    bolero::check!().with_iterations(5000).for_each(|input: &[u8]| {
        // Half of the inputs are bytes as they are, half choose words.
        let path = match input.split_first() {
            Some((first, rest)) if first % 2 == 0 => {
                rest.iter().flat_map(|&n| [words[usize::from(n) % words.len()], b"/"].concat()).collect()
            }
            _ => input.to_vec(),
        };
        if path.contains(&0) {
            return;
        }
        if let Ok(text) = tree.content(&path, &[]) {
            assert!(["a", "b", "no file"].contains(&text.as_str()), "{path:?} gave {text}");
        }
    });
}
