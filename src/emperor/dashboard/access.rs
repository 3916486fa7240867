//! Who may see and do what: names by which this server may be called, the secret, and whether anything can be done at all.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, bail};

/// Fewer characters could be guessed.
const SHORTEST_SECRET: usize = 16;
/// Bytes of a file with a secret.
const LONGEST_SECRET: u64 = 1024;

#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The address that is listened on; `None`: a unix socket.
    pub address: Option<SocketAddr>,
    /// `emperor-dashboard-host`: what else browsers may call it.
    pub names: Vec<String>,
    pub secret: Option<Secret>,
    /// `emperor-dashboard-actions`.
    pub actions: bool,
}

impl Access {
    /// Whether a request for this `Host` was meant for us. A page of another site can make a name of its own mean our address, and would be let
    /// read our answers; but it cannot make its name be one of ours. Ports do not matter: tunnels and proxies change them.
    pub fn is_ours(&self, host: &str) -> bool {
        let name = without_port(host);
        if let Ok(ip) = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return ip.is_loopback() || self.address.is_some_and(|own| own.ip() == ip || own.ip().is_unspecified());
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        std::iter::once("localhost").chain(self.names.iter().map(String::as_str)).any(|own| own.eq_ignore_ascii_case(name))
    }

    /// Whether an `Authorization` is that of one who knows the secret; with none to know, anybody is.
    pub fn is_known(&self, authorization: Option<&[u8]>) -> bool {
        let Some(secret) = &self.secret else { return true };
        let bearer = authorization.and_then(|value| {
            let (scheme, token) = value.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
        });
        bearer.is_some_and(|token| secret.is(token))
    }
}

/// `[::1]:80`, `name:80` and the same without a port.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) => name,
        _ => host,
    }
}

/// What a viewer must know.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// The first line of a file that only its owner may read.
    ///
    /// # Errors
    /// It cannot be read, others can read it, or what is in it is too short or cannot be typed.
    pub fn read(path: &str) -> anyhow::Result<Self> {
        use std::io::Read;
        use std::os::unix::fs::MetadataExt;
        let file = std::fs::File::open(path).with_context(|| format!("emperor-dashboard-secret = {path}"))?;
        let mode = file.metadata().with_context(|| format!("emperor-dashboard-secret = {path}"))?.mode();
        if mode & 0o077 != 0 {
            bail!("emperor-dashboard-secret = {path}: others than its owner may read it or write to it: chmod 600 {path}");
        }
        let mut text = String::new();
        file.take(LONGEST_SECRET).read_to_string(&mut text).with_context(|| format!("emperor-dashboard-secret = {path}"))?;
        Self::parse(&text).with_context(|| format!("emperor-dashboard-secret = {path}"))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let line = text.lines().next().unwrap_or_default().trim();
        if line.len() < SHORTEST_SECRET || !line.bytes().all(|b| b.is_ascii_graphic()) {
            bail!(
                "its first line has to be {SHORTEST_SECRET} letters, digits or signs of ASCII at least, without blanks: `openssl rand -hex 16` makes one"
            );
        }
        Ok(Self(line.into()))
    }

    /// Takes as long for a guess that is nearly right.
    fn is(&self, guess: &[u8]) -> bool {
        let differences = self.0.iter().zip(guess).fold(0, |all, (a, b)| all | (a ^ b));
        self.0.len() == guess.len() && std::hint::black_box(differences) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Access {
        Access { address: Some(address.parse().expect("an address")), names: vec!["apps.example.org".into()], ..Access::default() }
    }

    #[test]
    fn only_our_own_names_are_answered() {
        let access = at("10.1.2.3:5000");
        for host in
            ["localhost", "LOCALHOST:9", "localhost.", "127.0.0.1:5000", "127.8.8.8", "[::1]:80", "10.1.2.3", "Apps.Example.Org:443"]
        {
            assert!(access.is_ours(host), "{host}");
        }
        for host in
            ["", "evil.example", "10.1.2.4", "localhost.evil.example", "127.0.0.1.nip.io", "example.org", "[::2]", "localhost:x", "0x7f.1"]
        {
            assert!(!access.is_ours(host), "{host}");
        }
        assert!(at("0.0.0.0:5000").is_ours("192.168.1.7:5000") && !at("0.0.0.0:5000").is_ours("evil.example"));
        assert!(Access::default().is_ours("localhost") && !Access::default().is_ours("10.1.2.3"));
    }

    #[test]
    fn a_secret_has_to_be_known_whole() {
        let open = Access::default();
        assert!(open.is_known(None));
        let access = Access { secret: Some(Secret::parse("0123456789abcdef\n").expect("a secret")), ..Access::default() };
        assert!(access.is_known(Some(b"Bearer 0123456789abcdef")) && access.is_known(Some(b"bearer 0123456789abcdef")));
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdeg",
            "Bearer 0123456789abcdef0",
            "Basic 0123456789abcdef",
        ] {
            assert!(!access.is_known(Some(wrong.as_bytes())), "{wrong}");
        }
        assert!(!access.is_known(None));
    }

    #[test]
    fn a_secret_that_others_can_read_or_guess_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        for text in ["", "short", "fifteen letters", "sixteen letters and blanks"] {
            assert!(Secret::parse(text).is_err(), "{text}");
        }
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("secret");
        std::fs::write(&path, "0123456789abcdef\n").expect("write");
        let read = |mode| {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("chmod");
            Secret::read(path.to_str().expect("UTF-8"))
        };
        assert!(read(0o644).expect_err("readable").to_string().contains("chmod 600"));
        assert!(read(0o600).is_ok());
    }
}
