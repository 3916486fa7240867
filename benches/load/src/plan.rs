//! What the command line asks for.

use std::time::Duration;

pub const USAGE: &str = "usage: imperator-load [OPTION]... ADDRESS
  ADDRESS            host:port, or the path of a unix socket
  --protocol P       uwsgi (a connection a request), http (keep-alive) or http-close
  --clients N        8
  --requests N       of all clients together; without it --seconds counts
  --seconds S        2
  --timeout S        how long an answer may take, 20
  --path PATH        /
  --modifier1 N      of uwsgi packets, 0
  --body BYTES       POST a body of that length; it must come back as it went
  --length BYTES     length that each answer's body must have
  --text TEXT        what each answer's body must contain
  --stall N          before and during the run, N connections that stop in mid-head";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    Uwsgi,
    /// Keep-alive.
    Http,
    /// `Connection: close`.
    HttpClose,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// A client.
    Requests(usize),
    Time(Duration),
}

/// What a body has to be.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Expected {
    pub length: Option<usize>,
    pub text: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    pub address: String,
    pub protocol: Protocol,
    pub clients: usize,
    pub limit: Limit,
    pub timeout: Duration,
    pub path: String,
    pub modifier1: u8,
    /// Bytes; `None`: GET.
    pub body: Option<usize>,
    pub expected: Expected,
    pub stall: usize,
}

impl Plan {
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut plan = Self {
            address: String::new(),
            protocol: Protocol::Uwsgi,
            clients: 8,
            limit: Limit::Time(Duration::from_secs(2)),
            timeout: Duration::from_secs(20),
            path: "/".into(),
            modifier1: 0,
            body: None,
            expected: Expected::default(),
            stall: 0,
        };
        let mut requests = None;
        while let Some(arg) = args.next() {
            let Some(option) = arg.strip_prefix("--") else {
                plan.address = arg;
                continue;
            };
            let value = args.next().ok_or_else(|| format!("--{option} needs a value"))?;
            match option {
                "protocol" => plan.protocol = protocol(&value)?,
                "clients" => plan.clients = number(option, &value)?.max(1),
                "requests" => requests = Some(number(option, &value)?),
                "seconds" => plan.limit = Limit::Time(seconds(option, &value)?),
                "timeout" => plan.timeout = seconds(option, &value)?,
                "path" => plan.path = value,
                "modifier1" => plan.modifier1 = value.parse().map_err(|_| format!("--modifier1 {value}: not a number from 0 to 255"))?,
                "body" => plan.body = Some(number(option, &value)?),
                "length" => plan.expected.length = Some(number(option, &value)?),
                "text" => plan.expected.text = Some(value.into_bytes()),
                "stall" => plan.stall = number(option, &value)?,
                _ => return Err(format!("no such option: --{option}")),
            }
        }
        if let Some(requests) = requests {
            plan.limit = Limit::Requests(requests.div_ceil(plan.clients));
        }
        if plan.address.is_empty() { Err("which address?".into()) } else { Ok(plan) }
    }
}

fn protocol(value: &str) -> Result<Protocol, String> {
    match value {
        "uwsgi" => Ok(Protocol::Uwsgi),
        "http" => Ok(Protocol::Http),
        "http-close" => Ok(Protocol::HttpClose),
        _ => Err(format!("no such protocol: {value}")),
    }
}

fn number(option: &str, value: &str) -> Result<usize, String> {
    value.parse().map_err(|_| format!("--{option} {value}: not a number"))
}

fn seconds(option: &str, value: &str) -> Result<Duration, String> {
    let seconds = value.parse().map_err(|_| format!("--{option} {value}: not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).ok().filter(|d| !d.is_zero()).ok_or_else(|| format!("--{option} {value}: out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(args: &[&str]) -> Result<Plan, String> {
        Plan::parse(args.iter().map(ToString::to_string))
    }

    #[test]
    fn requests_are_shared_out_and_go_before_seconds() {
        let plan = plan(&["--requests", "10", "--clients", "4", "--seconds", "9", "/s"]).expect("sound");
        assert_eq!((plan.limit, plan.address.as_str()), (Limit::Requests(3), "/s"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (args, message) in [
            (&["--clients", "x", "/s"][..], "--clients x: not a number"),
            (&["--seconds", "-1", "/s"], "--seconds -1: out of range"),
            (&["--protocol", "ftp", "/s"], "no such protocol: ftp"),
            (&["--bodies", "1", "/s"], "no such option: --bodies"),
            (&["/s", "--stall"], "--stall needs a value"),
            (&[], "which address?"),
        ] {
            assert_eq!(plan(args), Err(message.to_string()));
        }
    }
}
