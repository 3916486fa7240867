//! Internal routing: rules over requests and responses.

use imperator_worker::settings::Settings;

use super::{Row, Status, flag, later, list, refused};
use crate::config::values;

const RULES: &str = "rules can decide who may read what: write them in the front end, or keep the instance on uWSGI until they are here";

pub const OPTIONS: &[Row] = &[
    list("route", &[], "rule over requests: by PATH_INFO", refused(RULES)),
    list("route-host", &[], "rule over requests: by HTTP_HOST", refused(RULES)),
    list("route-uri", &[], "rule over requests: by REQUEST_URI", refused(RULES)),
    list("route-qs", &[], "rule over requests: by QUERY_STRING", refused(RULES)),
    list("route-remote-addr", &[], "rule over requests: by REMOTE_ADDR", refused(RULES)),
    list("route-user-agent", &[], "rule over requests: by HTTP_USER_AGENT", refused(RULES)),
    list("route-remote-user", &[], "rule over requests: by REMOTE_USER", refused(RULES)),
    list("route-referer", &[], "rule over requests: by HTTP_REFERER", refused(RULES)),
    list("route-label", &[], "rule over requests: name this place in the list", refused(RULES)),
    list("route-if", &[], "rule over requests: if a condition holds", refused(RULES)),
    list("route-if-not", &[], "rule over requests: unless a condition holds", refused(RULES)),
    list("route-run", &[], "rule over requests: always", refused(RULES)),
    list("error-route", &[], "rule over errors: by PATH_INFO", refused(RULES)),
    list("error-route-host", &[], "rule over errors: by HTTP_HOST", refused(RULES)),
    list("error-route-uri", &[], "rule over errors: by REQUEST_URI", refused(RULES)),
    list("error-route-qs", &[], "rule over errors: by QUERY_STRING", refused(RULES)),
    list("error-route-remote-addr", &[], "rule over errors: by REMOTE_ADDR", refused(RULES)),
    list("error-route-user-agent", &[], "rule over errors: by HTTP_USER_AGENT", refused(RULES)),
    list("error-route-remote-user", &[], "rule over errors: by REMOTE_USER", refused(RULES)),
    list("error-route-referer", &[], "rule over errors: by HTTP_REFERER", refused(RULES)),
    list("error-route-label", &[], "rule over errors: name this place in the list", refused(RULES)),
    list("error-route-if", &[], "rule over errors: if a condition holds", refused(RULES)),
    list("error-route-if-not", &[], "rule over errors: unless a condition holds", refused(RULES)),
    list("error-route-run", &[], "rule over errors: always", refused(RULES)),
    list("error-route-status", &[], "rule over errors: by the response's status", refused(RULES)),
    list("response-route", &[], "rule over responses: by PATH_INFO", refused(RULES)),
    list("response-route-host", &[], "rule over responses: by HTTP_HOST", refused(RULES)),
    list("response-route-uri", &[], "rule over responses: by REQUEST_URI", refused(RULES)),
    list("response-route-qs", &[], "rule over responses: by QUERY_STRING", refused(RULES)),
    list("response-route-remote-addr", &[], "rule over responses: by REMOTE_ADDR", refused(RULES)),
    list("response-route-user-agent", &[], "rule over responses: by HTTP_USER_AGENT", refused(RULES)),
    list("response-route-remote-user", &[], "rule over responses: by REMOTE_USER", refused(RULES)),
    list("response-route-referer", &[], "rule over responses: by HTTP_REFERER", refused(RULES)),
    list("response-route-label", &[], "rule over responses: name this place in the list", refused(RULES)),
    list("response-route-if", &[], "rule over responses: if a condition holds", refused(RULES)),
    list(
        "response-route-if-not",
        &[],
        "rule over responses: unless a condition holds; so far only `empty:${VAR} static:${VAR}`",
        Status::Done(file_of_the_app),
    ),
    list("response-route-run", &[], "rule over responses: always", refused(RULES)),
    list("response-route-status", &[], "rule over responses: by the response's status", refused(RULES)),
    list("final-route", &[], "rule over finished requests: by PATH_INFO", refused(RULES)),
    list("final-route-host", &[], "rule over finished requests: by HTTP_HOST", refused(RULES)),
    list("final-route-uri", &[], "rule over finished requests: by REQUEST_URI", refused(RULES)),
    list("final-route-qs", &[], "rule over finished requests: by QUERY_STRING", refused(RULES)),
    list("final-route-remote-addr", &[], "rule over finished requests: by REMOTE_ADDR", refused(RULES)),
    list("final-route-user-agent", &[], "rule over finished requests: by HTTP_USER_AGENT", refused(RULES)),
    list("final-route-remote-user", &[], "rule over finished requests: by REMOTE_USER", refused(RULES)),
    list("final-route-referer", &[], "rule over finished requests: by HTTP_REFERER", refused(RULES)),
    list("final-route-label", &[], "rule over finished requests: name this place in the list", refused(RULES)),
    list("final-route-if", &[], "rule over finished requests: if a condition holds", refused(RULES)),
    list("final-route-if-not", &[], "rule over finished requests: unless a condition holds", refused(RULES)),
    list("final-route-run", &[], "rule over finished requests: always", refused(RULES)),
    list("final-route-status", &[], "rule over finished requests: by the response's status", refused(RULES)),
    flag("router-list", &["routers-list"], "print the actions", later(RULES)),
    list("geoip-country", &[], "a GeoIP database for rules", later(RULES)),
    list("geoip-city", &[], "a GeoIP database for rules", later(RULES)),
    flag("geoip-use-disk", &[], "do not load it into memory", later(RULES)),
];

/// uWSGI's recipe for X-Sendfile: `empty:${VAR} static:${VAR}`, where `collect-header` sets VAR.
fn file_of_the_app(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    let Some(rule) = values::text(value)? else { return Ok(()) };
    let variable = rule.split_once(' ').and_then(|(condition, action)| {
        let variable = condition.strip_prefix("empty:${")?.strip_suffix('}')?;
        (action.trim_start().strip_prefix("static:${")?.strip_suffix('}')? == variable).then(|| variable.to_owned())
    });
    match variable {
        Some(variable) => settings.request.file_variable = Some(variable),
        None => return Err(format!("`{rule}` is not done yet, only `empty:${{VAR}} static:${{VAR}}` is: {RULES}")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipe_for_files_of_apps_is_understood_and_nothing_else() {
        let mut settings = Settings::default();
        file_of_the_app(&mut settings, Some("empty:${X_SENDFILE} static:${X_SENDFILE}")).expect("the recipe");
        assert_eq!(settings.request.file_variable.as_deref(), Some("X_SENDFILE"));
        for other in ["empty:${A} static:${B}", "empty:${A} break:403", "empty:${A}", "equal:${A};1 static:${A}"] {
            assert!(file_of_the_app(&mut settings, Some(other)).is_err(), "{other}");
        }
    }
}
