//! Which sinks get a line.

use regex::bytes::Regex;

use super::LogError;

/// The decision for one stream of lines. Sinks are numbers here.
#[derive(Debug, Default)]
pub(super) struct Router {
    drain: Vec<Regex>,
    filter: Vec<Regex>,
    routes: Vec<(usize, Regex)>,
    /// What takes lines that no route takes.
    rest: Vec<usize>,
}

impl Router {
    pub fn new(rest: Vec<usize>) -> Self {
        Self { rest, ..Self::default() }
    }

    /// `log-drain`: lines to drop; `log-filter`: the only ones to keep.
    pub fn with_selection(mut self, drain: &[String], filter: &[String]) -> Result<Self, LogError> {
        self.drain = drain.iter().map(|r| pattern("log-drain", r, r)).collect::<Result<_, _>>()?;
        self.filter = filter.iter().map(|r| pattern("log-filter", r, r)).collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// `id regex` lines of `option`; `find` knows the sinks of an id.
    ///
    /// # Errors
    /// No regular expression, or an id that neither `logger` nor `req-logger` defines.
    pub fn with_routes(mut self, option: &'static str, lines: &[String], find: impl Fn(&str) -> Vec<usize>) -> Result<Self, LogError> {
        for line in lines {
            let (id, regex) = line
                .trim()
                .split_once(' ')
                .ok_or_else(|| LogError::new(option, line, "expected a logger's id, a blank and a regular expression"))?;
            let regex = pattern(option, line, regex.trim_start())?;
            let sinks = find(id);
            if sinks.is_empty() {
                return Err(LogError::new(option, line, format!("no logger or req-logger has the id {id:?}")));
            }
            self.routes.extend(sinks.into_iter().map(|s| (s, regex.clone())));
        }
        Ok(self)
    }

    /// The sinks of a line (without its end); none if it is dropped.
    pub fn sinks(&self, line: &[u8]) -> Vec<usize> {
        if self.drain.iter().any(|r| r.is_match(line)) || (!self.filter.is_empty() && !self.filter.iter().any(|r| r.is_match(line))) {
            return vec![];
        }
        let routed: Vec<usize> = self.routes.iter().filter(|(_, r)| r.is_match(line)).map(|(sink, _)| *sink).collect();
        if routed.is_empty() { self.rest.clone() } else { routed }
    }
}

fn pattern(option: &'static str, line: &str, regex: &str) -> Result<Regex, LogError> {
    Regex::new(regex).map_err(|e| LogError::new(option, line, e))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn find(id: &str) -> Vec<usize> {
        match id {
            "bad" => vec![3],
            "app" => vec![4, 5],
            _ => vec![],
        }
    }

    fn strings(all: &[&str]) -> Vec<String> {
        all.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn a_routed_line_goes_nowhere_else() {
        let router = Router::new(vec![0]).with_routes("log-route", &strings(&["bad /status/", "app ^SAY"]), find).unwrap();
        assert_eq!(router.sinks(b"x /status/ y"), [3]);
        assert_eq!(router.sinks(b"SAY /status/"), [3, 4, 5]);
        assert_eq!(router.sinks(b"other \xff"), [0]);
    }

    #[test]
    fn drained_or_not_filtered_lines_are_dropped() {
        let router = Router::new(vec![0]).with_selection(&strings(&["/health"]), &strings(&["/h", "/w"])).unwrap();
        assert_eq!((router.sinks(b"/health").len(), router.sinks(b"/other").len(), router.sinks(b"/work")), (0, 0, vec![0]));
    }

    #[test]
    fn bad_lines_are_named() {
        for bad in ["nosuchid x", "bad (", "alone"] {
            let error = Router::new(vec![0]).with_routes("log-route", &strings(&[bad]), find).unwrap_err().to_string();
            assert!(error.starts_with("log-route = ") && error.contains(bad), "{error}");
        }
    }
}
