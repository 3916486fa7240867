//! Files.

use super::{Spec, add_text, flag, int, later, list, maybe_text, no_effect, refused, text};

const NGINX: &str = "let nginx serve these files";
const EXPIRES: &str = "let nginx serve these files, with `expires`";

pub static OPTIONS: &[Spec] = &[
    list("static-map", &[], "/PREFIX=DIRECTORY: files below a path", add_text!(statics.map)),
    list("static-map2", &[], "as static-map, the prefix being a directory too", add_text!(statics.map2)),
    list("check-static", &["static-check"], "a directory in which to look for files first", add_text!(statics.check)),
    flag("check-static-docroot", &[], "look in DOCUMENT_ROOT first", refused("name the directory by `check-static`")),
    list("static-index", &[], "the file that stands for a directory", add_text!(statics.index)),
    list("static-safe", &[], "a directory that links may lead to", add_text!(statics.safe)),
    list("mimefile", &["mime-file"], "a file of MIME types", add_text!(statics.mimefile)),
    list("static-skip-ext", &[], "never serve files that end so", refused("keep such files out of the served directories")),
    int("static-cache-paths", &[], "seconds to remember where a file is", later("the file system's own cache is fast")),
    text("static-cache-paths-name", &[], "the cache for it", later("the file system's own cache is fast")),
    list("static-expires", &[], "REGEX SECONDS: an Expires header by file", later(EXPIRES)),
    list("static-expires-mtime", &[], "as static-expires, from the file's time", later(EXPIRES)),
    list("static-expires-type", &[], "TYPE=SECONDS: an Expires header by MIME type", later(EXPIRES)),
    list("static-expires-type-mtime", &[], "as static-expires-type, from the file's time", later(EXPIRES)),
    list("static-expires-uri", &[], "REGEX SECONDS: an Expires header by REQUEST_URI", later(EXPIRES)),
    list("static-expires-uri-mtime", &[], "as static-expires-uri, from the file's time", later(EXPIRES)),
    list("static-expires-path-info", &[], "REGEX SECONDS: an Expires header by PATH_INFO", later(EXPIRES)),
    list("static-expires-path-info-mtime", &[], "as static-expires-path-info, from the file's time", later(EXPIRES)),
    list("static-gzip", &[], "REGEX: send FILE.gz where it is there", later(NGINX)),
    flag("static-gzip-all", &[], "send FILE.gz wherever it is there", later(NGINX)),
    list("static-gzip-dir", &["static-gzip-prefix"], "send FILE.gz in this directory", later(NGINX)),
    list("static-gzip-ext", &["static-gzip-suffix"], "send FILE.gz for files that end so", later(NGINX)),
    flag("honour-range", &[], "answer Range", later(NGINX)),
    int("offload-threads", &["offload-thread"], "threads that send files", no_effect("what would block a worker is always sent beside it")),
    text(
        "file-serve-mode",
        &["fileserve-mode"],
        "how files are sent: by us, or by nginx (x-accel-redirect)",
        no_effect("files are sent by us"),
    ),
    flag("disable-sendfile", &[], "no sendfile()", no_effect("the kernel decides")),
    maybe_text("check-cache", &[], "answer from a cache by PATH_INFO", refused("let nginx or the app cache")),
];
