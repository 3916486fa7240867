//! Packets of syslog in the old style (RFC 3164).

/// uWSGI's default for `rsyslog`: daemon.notice.
const REMOTE_PRIORITY: u8 = 29;
const INFO: u8 = 6;

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp", "audit", "alert", "clock",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

/// What stands before a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    priority: u8,
    ident: String,
}

impl Header {
    /// `IDENT[,FACILITY]`; daemon if none is given, as in uWSGI.
    pub fn local(arg: &str) -> Result<Self, String> {
        let (ident, facility) = arg.split_once(',').unwrap_or((arg, "daemon"));
        let number = FACILITIES.iter().position(|f| *f == facility).ok_or_else(|| format!("there is no facility {facility:?}"))?;
        let ident = if ident.is_empty() { "uwsgi" } else { ident };
        Ok(Self { priority: (number as u8) * 8 + INFO, ident: ident.into() })
    }

    /// For another host: its lines say whose they are.
    pub fn remote(ident: Option<&str>, priority: Option<&str>) -> Result<Self, String> {
        let priority = match priority {
            None => REMOTE_PRIORITY,
            Some(text) => text.parse().ok().filter(|p| *p < 192).ok_or_else(|| format!("{text:?} is no priority (0 to 191)"))?,
        };
        let ident = match ident.filter(|i| !i.is_empty()) {
            Some(ident) => ident.to_owned(),
            None => format!("{} uwsgi", nix::unistd::gethostname().unwrap_or_default().to_string_lossy()),
        };
        Ok(Self { priority, ident })
    }

    /// `message` without its line end, at `epoch` seconds.
    pub fn packet(&self, message: &[u8], epoch: i64) -> Vec<u8> {
        let mut packet = format!("<{}>", self.priority).into_bytes();
        imperator_sys::localtime::strftime(c"%b %e %H:%M:%S", epoch, &mut packet);
        packet.extend_from_slice(format!(" {}: ", self.ident).as_bytes());
        packet.extend_from_slice(message);
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_and_packets() {
        assert_eq!(Header::local("app").map(|h| h.priority), Ok(30));
        assert_eq!(Header::local("app,local7").map(|h| h.priority), Ok(190));
        assert!(Header::local("app,nonsense").is_err());
        let header = Header::remote(Some("me"), None).expect("default");
        let packet = String::from_utf8(header.packet(b"hello", 1_795_252_671)).expect("text");
        assert!(packet.starts_with("<29>Nov 2") && packet.ends_with(" me: hello"), "{packet}");
    }
}
