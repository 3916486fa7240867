//! The reader as a whole. What has no other remark was run on uWSGI 2.0.31.

use super::testing::Place;

fn ini(body: &str) -> Place {
    Place::new(&[("x.ini", &format!("[uwsgi]\n{body}"))])
}

/// The list of a file with this body.
fn shown(body: &str) -> Vec<String> {
    ini(body).shown(&["x.ini"])
}

fn refused(body: &str) -> String {
    ini(body).refused(&["x.ini"])
}

// -- order

#[test]
fn environment_then_command_line_then_bare_files() {
    let place = Place::new(&[("a.ini", "[uwsgi]\na = 1\n"), ("b.ini", "[uwsgi]\nb = 2\n"), ("c.ini", "[uwsgi]\nc = 3\n")]).with_env(&[
        ("HOME", "/root"),
        ("UWSGI_INI", "c.ini"),
        ("UWSGI_CHMOD_SOCKET", "660"),
        ("UWSGI_", "x"),
        ("XUWSGI_A", "x"),
        ("UWSGI_RELOADS", "1"),
        ("UWSGI_EMPEROR_FD", "3"),
        ("UWSGI_ORIGINAL_PROC_NAME", "x"),
    ]);
    assert_eq!(
        place.shown(&["b.ini", "--ini", "a.ini", "-M", "--processes", "3"]),
        ["ini = c.ini", "c = 3", "chmod-socket = 660", "ini = a.ini", "a = 1", "master = true", "processes = 3", "b = 2"]
    );
}

#[test]
fn files_and_includes_are_spliced_in_where_they_stand() {
    let place = Place::new(&[("x.ini", "[uwsgi]\na = 1\ninclude = sub/y.ini\nb = 2\n"), ("sub/y.ini", "[uwsgi]\nc = %n-%N\n")]);
    assert_eq!(place.shown(&["--ini", "x.ini"]), ["ini = x.ini", "a = 1", "include = sub/y.ini", "c = y-x", "b = 2"]);
}

#[test]
fn a_placeholder_takes_the_first_definition_wherever_it_was_made() {
    let place = ini("x = file\ny = %(x)\n").with_env(&[("UWSGI_X", "env")]);
    assert_eq!(place.shown(&["x.ini"]), ["x = env", "x = file", "y = env"]);
    assert_eq!(ini("x = file\ny = %(x)\n").shown(&["x.ini", "--set-ph", "x=cli"]), ["set-ph = x=cli", "x = cli", "x = file", "y = cli"]);
}

#[test]
fn inherited_keys_stand_at_the_end() {
    let place = Place::new(&[
        ("x.ini", "[uwsgi]\ninherit = in%(her)it.ini\nprocesses = 1\nher = her\n"),
        ("inherit.ini", "[uwsgi]\nprocesses = 2\ninherit = more.ini\nif-env = NOPE\nno = 1\nendif =\n"),
        ("more.ini", "[uwsgi]\nmore = %(her)\n"),
    ]);
    // uWSGI leaves `%(her)` in more.ini as it is
    assert_eq!(
        place.shown(&["x.ini"]),
        [
            "inherit = in%(her)it.ini".replace("%(her)", "her").as_str(),
            "processes = 1",
            "her = her",
            "processes = 2",
            "inherit = more.ini",
            "if-env = NOPE",
            "endif = ",
            "more = her"
        ]
    );
}

// -- files

#[test]
fn a_named_section_and_another_of_the_same_file() {
    let place = Place::new(&[
        ("m.ini", "[uwsgi]\na = no\n[prod]\nini = :common\nx = %x %X\n[common]\nc = %x-%X-%o\n"),
        ("y.ini", "[prod]\ny = 1\n"),
    ]);
    assert_eq!(place.shown(&["--ini", "m.ini:prod"]), ["ini = m.ini:prod", "ini = :common", "c = common-prod-m.ini", "x = prod prod"]);
}

/// uWSGI takes the file that was read last, here y.ini.
#[test]
fn the_same_file_is_the_one_that_says_so() {
    let files = [
        ("m.ini", "[uwsgi]\ninclude = y.ini\nini = :other\nini = :own\n[own]\na = m\n"),
        ("y.ini", "[uwsgi]\n[own]\na = y\n[other]\nb = y\n"),
    ];
    assert_eq!(Place::new(&files).shown(&["m.ini"]), ["include = y.ini", "ini = :other", "b = y", "ini = :own", "a = m"]);
}

#[test]
fn an_absent_section_is_an_error_that_names_it_and_the_file() {
    let place = Place::new(&[
        ("x.ini", "[production]\na = 1\n"),
        ("bare.ini", "a = 1\n"),
        ("x.yaml", "a: 1\n"),
        ("x.xml", "<a/>"),
        ("x.json", "{}"),
    ]);
    for (args, section, file) in [
        (&["--ini", "x.ini:prodution"][..], "prodution", "x.ini"),
        (&["x.ini"], "uwsgi", "x.ini"),
        (&["bare.ini"], "uwsgi", "bare.ini"),
        (&["--yaml", "x.yaml:sec"], "sec", "x.yaml"),
        (&["x.xml"], "uwsgi", "x.xml"),
        (&["x.json"], "uwsgi", "x.json"),
    ] {
        let error = place.refused(args);
        assert!(error.contains(section) && error.contains(file), "{error}");
    }
    assert!(ini("a = 1\nini = :nope\n").refused(&["x.ini"]).starts_with("x.ini:3: there is no section [nope] in x.ini"));
    assert!(ini("").refused(&["--ini", ":nope"]).contains("nope"));
}

#[test]
fn a_file_without_any_line_is_a_vassal_without_options() {
    let place = Place::new(&[("x.ini", "\n; nothing\n")]);
    assert!(place.shown(&["x.ini"]).is_empty());
    assert!(place.warnings(&["x.ini"])[0].contains("x.ini is empty"));
}

#[test]
fn unreadable_files_are_named_with_the_line_that_asks_for_them() {
    for line in [
        "ini = absent.ini",
        "include = absent.ini",
        "inherit = absent.ini",
        "yaml = absent.yaml",
        "x = @(absent.ini)",
        "for-readline = absent.ini\nendfor",
    ] {
        let error = refused(&format!("a = 1\n{line}\n"));
        assert!(error.starts_with("x.ini:3: ") && error.contains("absent."), "{error}");
    }
    assert!(refused("ini =\n").starts_with("x.ini:2:"));
    assert!(ini("").refused(&["absent.ini"]).contains("command line: `config`: cannot read absent.ini"));
}

#[test]
fn bare_words_are_told_by_their_ending() {
    let place = ini("");
    for word in [":9090", "app.py", "x.ini:uwsgi", "noext", "-"] {
        let error = place.refused(&[word]);
        assert!(error.contains(&format!("unable to load configuration from {word}:")), "{error}");
    }
    assert!(place.refused(&["x.ini:uwsgi"]).contains("--ini x.ini:uwsgi"));
    assert!(place.refused(&["app.py"]).contains("--wsgi-file app.py"));
    assert!(place.refused(&[":9090"]).contains("--socket :9090"));
    assert!(refused("include = noext\n").contains("unable to load configuration from noext"));
}

#[test]
fn commands_and_descriptors_are_files_without_letters() {
    let place = Place::new(&[("x.ini", "[uwsgi]\na = %p-%n-%k\n")]);
    assert_eq!(place.shown(&["--ini", "exec://cat x.ini"]), ["ini = exec://cat x.ini", "a = --8"]);
    assert!(place.refused(&["--ini", "http://localhost/x.ini"]).contains("not fetched"));
}

#[test]
fn yaml_xml_and_json_say_the_same_as_ini() {
    let place = Place::new(&[
        ("c.ini", "[uwsgi]\nname = %n\nmaster = 1\nenv = A=%(name)\nenv = B\n"),
        ("c.yaml", "uwsgi:\n  name: %n\n  master: 1\n  env:\n    - A=%(name)\n    - B\n"),
        ("c.xml", "<uwsgi><name>%n</name><master/><env>A=%(name)</env><env>B</env></uwsgi>"),
        ("c.json", r#"{"uwsgi": {"name": "%n", "master": true, "env": ["A=%(name)", "B"]}}"#),
    ]);
    for file in ["c.ini", "c.yaml", "c.xml", "c.json"] {
        assert_eq!(place.shown(&[file]), ["name = c", "master = 1", "env = A=c", "env = B"], "{file}");
        place.write("main.ini", format!("[uwsgi]\ninclude = {file}\n").as_bytes());
        assert_eq!(place.shown(&["main.ini"])[1], "name = c");
    }
}

#[test]
fn a_broken_file_is_named_with_its_line() {
    let place = Place::new(&[("x.xml", "<uwsgi>\n<a></uwsgi>"), ("x.yaml", "uwsgi:\n  a: {}\n"), ("x.json", "{\n]")]);
    assert!(place.refused(&["x.xml"]).starts_with("x.xml:2: "));
    assert!(place.refused(&["x.yaml"]).starts_with("x.yaml:2: "));
    assert!(place.refused(&["x.json"]).starts_with("x.json:2: "));
}

#[test]
fn bytes_that_are_not_utf8_are_replaced_and_told() {
    let place = Place::new(&[]);
    place.write("x.ini", b"[uwsgi]\na = \xe9\n");
    assert_eq!(place.shown(&["x.ini"]), ["a = \u{fffd}"]);
    assert!(place.warnings(&["x.ini"])[0].contains("UTF-8"));
}

#[test]
fn a_file_that_includes_itself_comes_to_an_end() {
    assert!(refused("include = x.ini\n").contains("include itself"));
    assert!(refused("ini = x.ini\nini = x.ini\n").contains("include itself"));
    let fan = Place::new(&[("x.ini", "[uwsgi]\nfor-times = 20000\ninclude = y.ini\nendfor\n"), ("y.ini", "[uwsgi]\n")]);
    assert!(fan.refused(&["x.ini"]).contains("more than 10000 files"));
    assert!(refused("for-times = 90000\na = 1\nb = 1\nc = 1\nendfor\n").contains("more than 200000 options"));
    assert!(refused("inherit = x.ini\n").contains("include itself"));
}

#[test]
fn injected_text_stands_around_the_files_and_does_not_move_their_lines() {
    let place = Place::new(&[("x.ini", "[uwsgi]\na = 1\nset = bad\n"), ("before", "[uwsgi]\nb = 0\n"), ("after", "\n[uwsgi]\nc = %n\n")]);
    let error = place.refused(&["--inject-before", "before", "--inject-after", "after", "x.ini"]);
    assert!(error.starts_with("x.ini:3: "), "{error}");
    place.write("x.ini", b"[uwsgi]\na = 1");
    assert_eq!(place.shown(&["--inject-before", "before", "--inject-after", "after", "x.ini"])[2..], ["b = 0", "a = 1", "c = x"]);
}

// -- variables

#[test]
fn set_gives_an_option_or_a_variable() {
    assert_eq!(
        shown("set = colour=red\nset = processes=2\nset-ph = base=/srv\nx = %(colour) %(base) %(processes)\nset = d=\n"),
        [
            "set = colour=red",
            "colour = red",
            "set = processes=2",
            "processes = 2",
            "set-ph = base=/srv",
            "base = /srv",
            "x = red /srv 2",
            "set = d=",
            "d = "
        ]
    );
    assert_eq!(ini("").shown(&["-S", "a=1", "--set=b=2"]), ["set = a=1", "a = 1", "set = b=2", "b = 2"]);
}

/// uWSGI keeps these blanks, and does not expand what `set` gives.
#[test]
fn set_is_stripped_and_expanded() {
    let place = ini("set-ph = a = b \nset = h=$(HOME)\nx = %(a) %(h)\n").with_env(&[("HOME", "/root")]);
    assert_eq!(place.shown(&["x.ini"]), ["set-ph = a = b", "a = b", "set = h=$(HOME)", "h = /root", "x = b /root"]);
}

#[test]
fn set_acts_at_once_for_what_acts_at_once() {
    let place = Place::new(&[("x.ini", "[uwsgi]\nset = ini=y.ini\nb = 1\n"), ("y.ini", "[uwsgi]\na = 1\n")]);
    assert_eq!(place.shown(&["x.ini"]), ["set = ini=y.ini", "ini = y.ini", "a = 1", "b = 1"]);
    assert!(refused("set = if-env=HOME\n").contains("`if-env`"));
}

#[test]
fn bad_assignments_are_refused() {
    for line in ["set = noeq", "set-placeholder = x", "set", "set = =d", "declare-option = bad", "resolve = x"] {
        assert!(refused(&format!("{line}\n")).starts_with("x.ini:2: `"), "{line}");
    }
    let error = refused("set-ph = processes=3\n");
    assert!(error.contains("`processes` is an option"), "{error}");
}

#[test]
fn strict_and_the_names_that_are_known_are_told() {
    let reading =
        ini("strict = true\nset-ph = v=1\nbase = /\nx = %(base) %(n + 1)\ndeclare-option = pool=env=$1\nif-opt = flavour=1\nendif\n")
            .read(&["x.ini"])
            .expect("reads");
    assert!(reading.strict);
    assert_eq!(reading.variables, ["pool", "v"]);
    for name in ["base", "n", "flavour"] {
        assert!(reading.referenced.iter().any(|known| known == name), "{name}");
    }
    assert!(!ini("strict = false ; x\n").read(&["x.ini"]).expect("reads").strict);
    assert!(ini("").read(&["--strict"]).expect("reads").strict);
}

#[test]
fn resolve_gives_an_address() {
    assert_eq!(shown("resolve = ip=127.0.0.1\nenv = IP=%(ip)\n"), ["resolve = ip=127.0.0.1", "ip = 127.0.0.1", "env = IP=127.0.0.1"]);
}

// -- declared options

#[test]
fn a_declared_option_is_applied_before_everything_else() {
    let place = ini("threads = 5\ndeclare-option = pool=threads=$1;env=POOL=$2\npool = 3 blue\n");
    assert_eq!(
        place.shown(&["x.ini"]),
        ["threads = 3", "env = POOL=blue", "threads = 5", "declare-option = pool=threads=$1;env=POOL=$2", "pool = 3 blue"]
    );
}

#[test]
fn one_of_declare_option2_or_used_before_its_declaration_is_applied_in_its_place() {
    let place = ini("print = first\npool = 1\ndeclare-option2 = pool=print=[$1];set=z=$1\npool = $(HOME)\nprint = second %(z)\n")
        .with_env(&[("HOME", "/root")]);
    assert_eq!(
        place.shown(&["x.ini"]),
        [
            "print = first",
            "pool = 1",
            "print = [1]",
            "declare-option2 = pool=print=[$1];set=z=$1",
            "pool = /root",
            "print = [/root]",
            "print = second %(z)",
            "z = 1",
            "z = /root"
        ]
    );
    assert_eq!(shown("pool = 1\ndeclare-option = pool=print=$1\n"), ["pool = 1", "print = 1", "declare-option = pool=print=$1"]);
}

#[test]
fn declared_options_may_be_used_on_the_command_line_and_by_each_other() {
    let place = ini("");
    assert_eq!(
        place.shown(&["--declare-option", "a=print=<$1>", "--declare-option=b=a=$1$1", "--b", "x"])[..2],
        ["print = <xx>", "declare-option = a=print=<$1>"]
    );
    assert!(refused("declare-option = a=a=$1\na = 1\n").contains("do not come to an end"));
    assert!(ini("declare-option = a=nope=$1\na = 1\n").warnings(&["x.ini"])[0].contains("`nope`"));
}

// -- blocks

#[test]
fn each_line_of_a_loop_is_run_for_all_items() {
    assert_eq!(
        shown("for = 1 2\na%(_) = %(_)\nb = %(_)%(_)\nset = v%(_)=3\nendfor =\nc = %(_)\n"),
        [
            "for = 1 2",
            "a%(_) = 1",
            "a%(_) = 2",
            "b = 11",
            "b = 22",
            "set = v1=3",
            "v1 = 3",
            "set = v2=3",
            "v2 = 3",
            "endfor = ",
            "c = %(_)"
        ]
    );
    assert_eq!(shown("for =\na = %(_)\nend\nb = 1\n"), ["for = ", "end = ", "b = 1"]);
}

#[test]
fn conditions_keep_or_drop_their_lines() {
    let place = ini("if-env = HOME\na = %(_)\nendfor\nif-env = NOPE\nb = 1\nendif\nfoo = 1\nfoo = 2\nif-opt = foo=1\nc = %(_)\nend-if\nif-opt = foo=2\nd = 1\nendif\nif-opt = later\ne = 1\nendif\nlater = 1\n")
        .with_env(&[("HOME", "/root")]);
    assert_eq!(
        place.shown(&["x.ini"]),
        [
            "if-env = HOME",
            "a = /root",
            "endfor = ",
            "if-env = NOPE",
            "endif = ",
            "foo = 1",
            "foo = 2",
            "if-opt = foo=1",
            "c = 1",
            "end-if = ",
            "if-opt = foo=2",
            "endif = ",
            "if-opt = later",
            "endif = ",
            "later = 1"
        ]
    );
}

#[test]
fn a_line_of_if_not_opt_may_end_the_condition() {
    let place = ini("if-not-opt = b\na = 1\nb = 1\nc = 1\nendif\nd = 1\nif-not-opt = b=2\ne = %(_)\nendif\n");
    assert_eq!(place.shown(&["x.ini"]), ["if-not-opt = b", "a = 1", "b = 1", "endif = ", "d = 1", "if-not-opt = b=2", "e = 1", "endif = "]);
    let warnings = place.warnings(&["x.ini"]);
    assert!(warnings[0].starts_with("x.ini:5: `c` is ignored: `if-not-opt = b` (line 2)"), "{warnings:?}");
}

#[test]
fn a_loop_without_items_swallows_a_block_as_a_condition_does() {
    assert_eq!(shown("for =\nif-env = HOME\nendif\na = 1\n"), ["for = ", "endif = ", "a = 1"]);
}

#[test]
fn a_reload_is_told_by_the_environment() {
    let body = "if-reload\na = 1\nendif\nif-not-reload\nb = 1\nendif\n";
    assert_eq!(shown(body)[2..], ["if-not-reload = ", "b = 1", "endif = "]);
    assert_eq!(ini(body).with_env(&[("UWSGI_RELOADS", "3")]).shown(&["x.ini"])[..3], ["if-reload = ", "a = 1", "endif = "]);
}

#[test]
fn an_included_file_does_not_see_the_item() {
    let place = Place::new(&[
        ("x.ini", "[uwsgi]\nfor = a b\ninclude = %(_).ini\nendfor\n"),
        ("a.ini", "[uwsgi]\nv = %(_)\n"),
        ("b.ini", "[uwsgi]\nw = 1\n"),
    ]);
    assert_eq!(place.shown(&["x.ini"]), ["for = a b", "include = a.ini", "v = %(_)", "include = b.ini", "w = 1", "endfor = "]);
}

/// uWSGI takes these as they are written: one turn of the loop, no such file.
#[test]
fn what_is_known_is_expanded_before_it_acts() {
    let place = Place::new(&[
        ("x.ini", "[uwsgi]\nwords = a b\nfor = %(words) $(MORE)\nv = %(_)\nendfor\nd = sub\ninclude = %(d)/y.ini\nif-file = %(d)/y.ini\nw = 1\nendif\n"),
        ("sub/y.ini", "[uwsgi]\ny = 1\n"),
    ])
    .with_env(&[("MORE", "c d")]);
    let list = place.shown(&["x.ini"]);
    assert_eq!(list[1..7], ["for = %(words) $(MORE)", "v = a", "v = b", "v = c", "v = d", "endfor = "]);
    assert_eq!(list[8..], ["include = sub/y.ini", "y = 1", "if-file = %(d)/y.ini", "w = 1", "endif = "]);
}

#[test]
fn nesting_is_refused_where_uwsgi_refuses_it_and_told_where_it_does_not() {
    let place = ini("if-env = HOME\nx = 1\nif-env = PATH\nendif\nendif\n").with_env(&[("HOME", "/root")]);
    let error = place.refused(&["x.ini"]);
    assert!(error.starts_with("x.ini:4: `if-env` inside the block of `if-env` (line 2)"), "{error}");
    let place = ini("if-env = NOPE\nx = 1\nfor = 1 2\ny = 1\nendif\nz = 1\nendif\n");
    assert_eq!(place.shown(&["x.ini"]), ["if-env = NOPE", "endif = ", "z = 1", "endif = "]);
    let warnings = place.warnings(&["x.ini"]);
    assert!(warnings[0].starts_with("x.ini:4: `for` inside the block of `if-env` (line 2)"), "{warnings:?}");
    assert!(warnings[1].starts_with("x.ini:8: `endif` ends no block"), "{warnings:?}");
}

/// uWSGI repeats or swallows the rest of the list without a word.
#[test]
fn a_block_that_is_left_open_is_an_error() {
    assert!(refused("a = 1\nfor = a b\nx = 1\n").starts_with("x.ini:3: the block of `for` is never ended; add `endfor =`"));
    assert!(refused("if-env = NOPE\nx = 1\n").contains("add `endif =`"));
    assert!(ini("").refused(&["--for", "a"]).contains("never ended"));
    // a block does not reach into another file
    let place = Place::new(&[("x.ini", "[uwsgi]\ninclude = y.ini\nendif\n"), ("y.ini", "[uwsgi]\nif-env = NOPE\n")]);
    assert!(place.refused(&["x.ini"]).starts_with("y.ini:2: "));
}

#[test]
fn blocks_work_on_the_command_line() {
    let place = ini("").with_env(&[("HOME", "/root")]);
    assert_eq!(
        place.shown(&["--if-env", "HOME", "--env", "H=%(_)", "--endif", "--if-reload", "-M", "--endif"]),
        ["if-env = HOME", "env = H=/root", "endif = true", "if-reload = true", "endif = true"]
    );
}

// -- the rest of what acts at once

#[test]
fn exit_ends_the_reading() {
    for (body, code) in [("exit = 4\nini = absent.ini\n", 4), ("exit\n", 0), ("exit = 0x\n", 0)] {
        assert_eq!(ini(body).read(&["x.ini"]).expect("reads").exit, Some(code), "{body}");
    }
    let place = ini("");
    assert_eq!(place.read(&["--exit=3", "--ini", "absent.ini"]).expect("reads").exit, Some(3));
    assert_eq!(place.read(&["--exit"]).expect("reads").exit, Some(1));
    assert_eq!(place.read(&["x.ini"]).expect("reads").exit, None);
}

#[test]
fn lists_of_forbidden_and_allowed_keys() {
    assert!(refused("blacklist = processes foo\nmaster = 1\nfoo = 1\n").contains("`foo` is forbidden by the blacklist"));
    assert!(refused("whitelist = socket foo\nfoo = 1\nmaster = 1\n").starts_with("x.ini:4: `master` is forbidden by the whitelist"));
    assert_eq!(shown("blacklist = a\nend-blacklist =\na = 1\n").len(), 3);
    // uWSGI's whitelist forbids its own end
    assert_eq!(shown("whitelist = a\na = 1\nend-whitelist =\nb = 1\n").len(), 4);
}

// -- what is told

#[test]
fn warnings_have_file_and_line() {
    let warnings = ini("a = 1\nprocesses = %((2 * 2) + 1)\nenv = X=$(NOT_THERE)\nenv = Y=$(date)\n").warnings(&["x.ini"]);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("x.ini:3: `processes`: arithmetic has no brackets"), "{warnings:?}");
    assert!(warnings[1].starts_with("x.ini:4: `env`: $(NOT_THERE) is not in the environment"), "{warnings:?}");
    let warnings = ini("").warnings(&["--proc", "2"]);
    assert!(warnings[0].starts_with("command line: `--proc` is taken for `--processes`"), "{warnings:?}");
}

#[test]
fn placeholders_without_an_end_are_told_with_their_line() {
    let error = refused("b = 1\na = <%(a)>\n");
    assert!(error.starts_with("x.ini:3: `a`: the placeholders"), "{error}");
}

#[test]
fn an_ordinary_file_gives_no_warning() {
    let body = "# web\nbase = /srv/app\nchdir = %(base)\nsocket = %(base)/%n.sock\nmaster = true\nprocesses = %(%k * 2)\nlog-format = %(addr) - %(user) [%(ltime)] \"%(method) %(uri)\"\nvacuum\n";
    assert!(ini(body).warnings(&["x.ini"]).is_empty());
}
