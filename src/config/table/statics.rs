//! Files.

use imperator_worker::pattern::Pattern;
use imperator_worker::settings::{Expiry, Mapping, ServeMode, Settings, Subject};

use super::{Row, Status, add_text, flag, int, list, long, maybe_text, refused, set_flag, set_number, set_some_number, text};
use crate::config::values;

macro_rules! map {
    ($field:ident) => {
        Status::Done(|settings, value| {
            if let Some(text) = values::text(value)? {
                settings.statics.$field.push(Mapping::parse(&text)?);
            }
            Ok(())
        })
    };
}

macro_rules! expires {
    ($subject:ident, $from_mtime:literal) => {
        Status::Done(|settings, value| {
            if let Some(text) = values::text(value)? {
                settings.statics.expires.push(expiry(Subject::$subject, $from_mtime, &text)?);
            }
            Ok(())
        })
    };
}

pub const OPTIONS: &[Row] = &[
    list("static-map", &[], "/PREFIX=DIRECTORY: files below a path", map!(map)),
    list("static-map2", &[], "as static-map, the prefix being a directory too", map!(map2)),
    list("check-static", &["static-check"], "a directory in which to look for files first", add_text!(statics.check)),
    flag("check-static-docroot", &[], "look in the request's DOCUMENT_ROOT too", set_flag!(statics.check_docroot)),
    list("static-index", &[], "the file that stands for a directory", add_text!(statics.index)),
    list("static-safe", &[], "a directory that links may lead to", add_text!(statics.safe)),
    list("mimefile", &["mime-file"], "a file of MIME types, instead of /etc/mime.types", add_text!(statics.mimefile)),
    list("static-skip-ext", &[], "leave paths and files that end so to the app", add_text!(statics.skip_ext)),
    int("static-cache-paths", &[], "seconds to remember the file of a path, in a cache", super::set_number!(cache.static_paths)),
    text("static-cache-paths-name", &[], "the cache for it (the default one)", super::set_text!(cache.static_paths_name)),
    list("static-expires", &[], "REGEX SECONDS: an Expires header by file", expires!(File, false)),
    list("static-expires-mtime", &[], "as static-expires, from the file's time", expires!(File, true)),
    list("static-expires-type", &[], "TYPE=SECONDS: an Expires header by MIME type", expires!(Type, false)),
    list("static-expires-type-mtime", &[], "as static-expires-type, from the file's time", expires!(Type, true)),
    list("static-expires-uri", &[], "REGEX SECONDS: an Expires header by REQUEST_URI", expires!(Uri, false)),
    list("static-expires-uri-mtime", &[], "as static-expires-uri, from the file's time", expires!(Uri, true)),
    list("static-expires-path-info", &[], "REGEX SECONDS: an Expires header by PATH_INFO", expires!(PathInfo, false)),
    list("static-expires-path-info-mtime", &[], "as static-expires-path-info, from the file's time", expires!(PathInfo, true)),
    list("static-gzip", &[], "REGEX: send FILE.br, FILE.zst or FILE.gz where one is there and the client takes it", Status::Done(gzip)),
    flag("static-gzip-all", &[], "as static-gzip, for every file", set_flag!(statics.gzip.all)),
    list("static-gzip-dir", &["static-gzip-prefix"], "as static-gzip, for files whose path starts so", add_text!(statics.gzip.directories)),
    list("static-gzip-ext", &["static-gzip-suffix"], "as static-gzip, for files whose name ends so", add_text!(statics.gzip.suffixes)),
    flag("honour-range", &[], "answer Range with parts of files", set_flag!(statics.honour_range)),
    int(
        "offload-threads",
        &["offload-thread"],
        "threads a worker that send what its peers do not take at once (1, started when needed; 0: workers wait)",
        set_some_number!(request.offload_threads),
    ),
    long(
        "offload-ahead",
        &[],
        "bytes on disk that the apps of a worker may be ahead of slow clients, all together (256 MiB); 0: an app waits 256 KiB ahead",
        set_number!(request.offload_ahead),
    ),
    int("offload-timeout", &[], "seconds that a peer may read nothing of what they send (60)", set_number!(request.offload_timeout)),
    text(
        "file-serve-mode",
        &["fileserve-mode"],
        "who sends files: we, or the front end told by x-sendfile or x-accel-redirect",
        Status::Done(serve_mode),
    ),
    flag("disable-sendfile", &[], "files are read and written, not sent by sendfile()", set_flag!(request.disable_sendfile)),
    maybe_text("check-cache", &[], "answer from a cache by PATH_INFO", refused("let nginx or the app cache")),
];

/// `REGEX SECONDS`, or `TYPE=SECONDS`.
fn expiry(subject: Subject, from_mtime: bool, text: &str) -> Result<Expiry, String> {
    let (separator, form) = if subject == Subject::Type { ('=', "TYPE=SECONDS") } else { (' ', "REGEX SECONDS") };
    let (pattern, seconds) = text.rsplit_once(separator).ok_or_else(|| format!("`{text}` has to be {form}"))?;
    let pattern = pattern.trim();
    let digits = !seconds.is_empty() && seconds.bytes().all(|byte| byte.is_ascii_digit());
    let seconds =
        seconds.parse().ok().filter(|_| digits).ok_or_else(|| format!("`{seconds}` is no number of seconds: `{text}` has to be {form}"))?;
    if subject != Subject::Type {
        Pattern::new(pattern).map_err(|error| error.to_string())?;
    }
    Ok(Expiry { subject, pattern: pattern.into(), seconds, from_mtime })
}

fn gzip(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    if let Some(text) = values::text(value)? {
        Pattern::new(&text).map_err(|error| error.to_string())?;
        settings.statics.gzip.patterns.push(text);
    }
    Ok(())
}

fn serve_mode(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    settings.statics.serve_mode = match values::text(value)?.map(|mode| mode.to_ascii_lowercase()).as_deref() {
        None => ServeMode::Ourselves,
        Some("x-sendfile" | "xsendfile") => ServeMode::XSendfile,
        Some("x-accel-redirect" | "xaccelredirect" | "nginx") => ServeMode::XAccelRedirect,
        Some(other) => return Err(format!("`{other}` is no mode: write x-sendfile, or x-accel-redirect for nginx")),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_case_of_a_serve_mode_does_not_count() {
        let mut settings = Settings::default();
        for (text, mode) in
            [("X-Sendfile", ServeMode::XSendfile), ("X-Accel-Redirect", ServeMode::XAccelRedirect), ("NGINX", ServeMode::XAccelRedirect)]
        {
            serve_mode(&mut settings, Some(text)).expect("a mode");
            assert_eq!(settings.statics.serve_mode, mode);
        }
        assert!(serve_mode(&mut settings, Some("x-typo")).is_err());
    }

    #[test]
    fn an_expiry_is_a_pattern_and_seconds() {
        let by_file = expiry(Subject::File, true, r"a b\.css$ 60").expect("sound");
        assert_eq!((by_file.pattern.as_str(), by_file.seconds, by_file.from_mtime), (r"a b\.css$", 60, true));
        let by_type = expiry(Subject::Type, false, "text/css=7").expect("sound");
        assert_eq!((by_type.pattern.as_str(), by_type.seconds), ("text/css", 7));
        for (subject, wrong) in [
            (Subject::File, "foo"),
            (Subject::File, "( 3"),
            (Subject::Uri, "x many"),
            (Subject::Uri, "x "),
            (Subject::PathInfo, "x -1"),
            (Subject::Type, "text/css"),
            (Subject::Type, "text/css=+1"),
        ] {
            assert!(expiry(subject, false, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn modes_have_several_names() {
        let mode = |value| {
            let mut settings = Settings::default();
            serve_mode(&mut settings, Some(value)).map(|()| settings.statics.serve_mode)
        };
        assert_eq!(
            (mode("nginx"), mode("xsendfile"), mode("")),
            (Ok(ServeMode::XAccelRedirect), Ok(ServeMode::XSendfile), Ok(ServeMode::Ourselves))
        );
        assert!(mode("x-typo").is_err_and(|text| text.contains("x-typo")));
    }
}
