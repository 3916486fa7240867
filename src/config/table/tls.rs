//! TLS, and instances that announce themselves to routers.

use super::{Row, flag, int, later, list, maybe_int, maybe_text, text};

const TLS: &str = "let nginx terminate TLS";
const SUBSCRIBE: &str = "name the instance in nginx's upstream";

pub const OPTIONS: &[Row] = &[
    flag("ssl-verbose", &[], "log TLS errors", later(TLS)),
    maybe_int("ssl-verify-depth", &[], "length of certificate chains", later(TLS)),
    maybe_text("ssl-sessions-use-cache", &["ssl-session-use-cache"], "keep sessions in a cache", later(TLS)),
    int("ssl-sessions-timeout", &["ssl-session-timeout"], "seconds that a session lives", later(TLS)),
    list("sni", &[], "NAME CERTIFICATE,KEY: a certificate by name", later(TLS)),
    list("sni-regexp", &[], "a certificate by expression", later(TLS)),
    text("sni-dir", &[], "a directory of certificates", later(TLS)),
    text("sni-dir-ciphers", &[], "their ciphers", later(TLS)),
    flag("ssl-enable3", &["ssl-enable-sslv3"], "SSL 3", later(TLS)),
    flag("ssl-enable-tlsv1", &[], "TLS 1.0", later(TLS)),
    list("ssl-option", &[], "an option of OpenSSL", later(TLS)),
    text("ssl-tmp-dir", &[], "a directory for its files", later(TLS)),
    list("subscribe-to", &["st", "subscribe"], "SERVER:KEY: announce ourselves to a router", later(SUBSCRIBE)).with_master(),
    list("subscribe2", &[], "the same by keys", later(SUBSCRIBE)).with_master(),
    int("subscribe-freq", &[], "seconds between announcements", later(SUBSCRIBE)),
    text("subscribe-with-modifier1", &[], "modifier1 to announce", later(SUBSCRIBE)),
    text("subscription-algo", &[], "how a router chooses a node", later(SUBSCRIBE)),
    flag("subscription-dotsplit", &[], "look for parent domains too", later(SUBSCRIBE)),
    int("subscription-tolerance", &[], "seconds before a silent node is dropped", later(SUBSCRIBE)),
    int("subscription-tolerance-inactive", &[], "the same for inactive nodes", later(SUBSCRIBE)),
    int("subscription-mountpoints", &["subscription-mountpoint"], "nodes by path", later(SUBSCRIBE)),
    flag("subscription-vassal-required", &[], "nodes must be vassals", later(SUBSCRIBE)),
    text("subscription-notify-socket", &[], "where routers tell us of it", later(SUBSCRIBE)),
    text("notify-socket", &[], "a socket for notices", later(SUBSCRIBE)),
    flag("subscription-clear-on-shutdown", &[], "forget nodes at the end", later(SUBSCRIBE)),
    flag("unsubscribe-on-graceful-reload", &[], "take ourselves off during reloads", later(SUBSCRIBE)),
    flag("start-unsubscribed", &[], "announce nothing until told so", later(SUBSCRIBE)),
    text("subscriptions-sign-check", &[], "nodes must sign", later(SUBSCRIBE)),
    int("subscriptions-sign-check-tolerance", &[], "seconds that clocks may differ", later(SUBSCRIBE)),
    list("subscriptions-sign-skip-uid", &[], "a user that need not sign", later(SUBSCRIBE)),
    list("subscriptions-credentials-check", &[], "a directory of users that may announce", later(SUBSCRIBE)),
    flag("subscriptions-use-credentials", &[], "send who we are", later(SUBSCRIBE)),
    int("weight", &[], "our share of requests", later(SUBSCRIBE)),
    flag("auto-weight", &[], "our share by the number of workers", later(SUBSCRIBE)),
];
