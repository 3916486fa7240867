//! How lines for daemons and cron are read.

use imperator_worker::settings::{Alarm, AlarmDeed, Cron, Daemon, Descriptor, DescriptorDeed};

use super::{keys, values};

/// `attach-daemon2`: by keys.
///
/// # Errors
/// An unknown key, a value that makes no sense, no command.
pub fn daemon_by_keys(text: &str) -> Result<Daemon, String> {
    let mut daemon = Daemon::default();
    for (key, value) in keys::pairs(text) {
        let flag = || values::flag(Some(&value));
        let number = || values::number::<u32>(Some(&value)).map_err(|error| format!("{key}: {error}"));
        let signal = || number().and_then(|n| signal(n).map_err(|error| format!("{key}: {error}")));
        match key.as_str() {
            "cmd" | "command" | "exec" => daemon.command = value.clone(),
            "freq" => daemon.freq = number()?.max(1),
            "pidfile" => daemon.pidfile = Some(value.clone()),
            "control" => daemon.control = flag(),
            "daemonize" | "daemon" => daemon.daemonize = flag(),
            "touch" => daemon.touch = value.split(';').filter(|path| !path.is_empty()).map(ToOwned::to_owned).collect(),
            "stopsignal" | "stop_signal" => daemon.stop_signal = signal()?,
            "reloadsignal" | "reload_signal" => daemon.reload_signal = Some(signal()?),
            "stdin" => daemon.stdin = flag(),
            "uid" => daemon.uid = Some(value.clone()),
            "gid" => daemon.gid = Some(value.clone()),
            "ns_pid" => daemon.ns_pid = flag(),
            "chdir" => daemon.chdir = Some(value.clone()),
            "max_throttle" => daemon.max_throttle = number()?,
            "notifypid" => daemon.notify = flag(),
            "legion" => return Err("there are no legions: leave `legion` out".into()),
            _ => return Err(format!("there is no key `{key}`")),
        }
    }
    if daemon.command.trim().is_empty() {
        return Err("a command is missing: cmd=COMMAND".into());
    }
    if daemon.daemonize && daemon.pidfile.is_none() {
        return Err("daemonize needs a pidfile: pidfile=FILE".into());
    }
    Ok(daemon)
}

fn signal(number: u32) -> Result<i32, String> {
    i32::try_from(number).ok().filter(|n| (1..=64).contains(n)).ok_or_else(|| format!("`{number}` is no signal: 1 to 64 are"))
}

/// `smart-attach-daemon`: a pidfile, a blank, a command.
///
/// # Errors
/// One of both is missing.
pub fn smart_daemon(text: &str) -> Result<Daemon, String> {
    let (pidfile, command) = text.trim().split_once(char::is_whitespace).ok_or("a pidfile, a blank and a command are expected")?;
    Ok(Daemon { pidfile: Some(pidfile.into()), command: command.trim().into(), ..Daemon::default() })
}

/// `alarm`: a name, a blank, and what it does.
///
/// # Errors
/// No name, or a plugin that is not there.
pub fn alarm(text: &str) -> Result<Alarm, String> {
    let (name, plugin) = text.trim().split_once(char::is_whitespace).ok_or("a name, a blank and PLUGIN:ARGS are expected")?;
    let plugin = plugin.trim_start();
    let deed = match plugin.split_once(':').unwrap_or((plugin, "")) {
        ("cmd", command) if !command.trim().is_empty() => AlarmDeed::Command(command.into()),
        ("cmd", _) => return Err("a command is missing: cmd:COMMAND".into()),
        ("log", first) => AlarmDeed::Log(first.trim().into()),
        ("signal", _) => return Err("there are no uwsgi signals yet, so that none can be raised: use cmd:COMMAND or log".into()),
        ("mule", _) => return Err("there are no mules yet, so that none can be told: use cmd:COMMAND or log".into()),
        (other, _) => {
            return Err(format!(
                "there is no plugin `{other}` for alarms: cmd:COMMAND (with the message on its standard input) and log are"
            ));
        }
    };
    Ok(Alarm { name: name.into(), deed })
}

/// `alarm-fd`: a name, a descriptor, and perhaps how much to read and a message.
///
/// # Errors
/// No name, no descriptor.
pub fn alarm_fd(text: &str) -> Result<Descriptor, String> {
    let (name, rest) = text.trim().split_once(char::is_whitespace).ok_or("a name, a blank and FD[:BYTES] MESSAGE are expected")?;
    descriptor(rest, DescriptorDeed::Alarm(name.into()))
}

/// `FD[:BYTES] [MESSAGE]`.
///
/// # Errors
/// No descriptor that a parent could have left (3 and above), nothing to read.
pub fn descriptor(text: &str, deed: DescriptorDeed) -> Result<Descriptor, String> {
    let text = text.trim();
    let (numbers, message) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let (fd, bytes) = numbers.split_once(':').unwrap_or((numbers, "1"));
    let fd = fd
        .parse()
        .ok()
        .filter(|fd| *fd > 2)
        .ok_or_else(|| format!("`{fd}` is no descriptor that could have been passed: 3 and above can"))?;
    let bytes =
        bytes.parse().ok().filter(|n| (1..=4096).contains(n)).ok_or_else(|| format!("`{bytes}` is no number of bytes: 1 to 4096 are"))?;
    Ok(Descriptor { fd, bytes, deed, message: message.trim_start().into() })
}

/// `cron`: five numbers and a command.
///
/// # Errors
/// Fewer words, a word that is no number, a number out of its range.
pub fn cron(text: &str) -> Result<Cron, String> {
    let mut rest = text.trim_start();
    let mut word = || {
        let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        rest = after.trim_start();
        word
    };
    let [minute, hour, day, month, week] = [(); 5].map(|()| word());
    let cron = Cron {
        minute: field("minute", minute)?,
        hour: field("hour", hour)?,
        day: field("day", day)?,
        month: field("month", month)?,
        week: field("week", week)?,
        command: rest.trim_end().into(),
        ..Cron::default()
    };
    if cron.command.is_empty() {
        Err("five numbers and a command are expected: MINUTE HOUR DAY MONTH WEEKDAY COMMAND".into())
    } else {
        Ok(cron)
    }
}

/// `cron2`: perhaps keys, then a command. Words in capitals with a `=` are the shell's: `TZ=UTC date`.
///
/// # Errors
/// An unknown key, a value that makes no sense, no command.
pub fn cron_by_keys(text: &str) -> Result<Cron, String> {
    let text = text.trim();
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let keys = first.split_once('=').is_some_and(|(key, _)| !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase()));
    let mut cron = Cron { command: if keys { rest.trim_start() } else { text }.into(), ..Cron::default() };
    for (key, value) in if keys { super::keys::pairs(first) } else { vec![] } {
        match key.as_str() {
            "minute" => cron.minute = field("minute", &value)?,
            "hour" => cron.hour = field("hour", &value)?,
            "day" => cron.day = field("day", &value)?,
            "month" => cron.month = field("month", &value)?,
            "week" => cron.week = field("week", &value)?,
            "unique" => cron.unique = values::flag(Some(&value)),
            "harakiri" => cron.harakiri = Some(values::number(Some(&value)).map_err(|error| format!("harakiri: {error}"))?),
            "legion" => return Err("there are no legions: leave `legion` out".into()),
            _ => return Err(format!("there is no key `{key}` (minute, hour, day, month, week, unique and harakiri are)")),
        }
    }
    if cron.command.is_empty() { Err("a command is missing".into()) } else { Ok(cron) }
}

/// A number that can come true, or -N.
fn field(name: &str, word: &str) -> Result<i32, String> {
    let (least, most) = match name {
        "minute" => (0, 59),
        "hour" => (0, 23),
        "day" => (1, 31),
        "month" => (1, 12),
        _ => (0, 7),
    };
    let number: i32 =
        word.parse().map_err(|_| format!("{name}: `{word}` is no number (MINUTE HOUR DAY MONTH WEEKDAY COMMAND, -1 is every one)"))?;
    if number < 0 || (least..=most).contains(&number) {
        Ok(number)
    } else {
        Err(format!("{name}: {number} never comes; {least} to {most} do, -1 is every one, -N every Nth"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_daemon() {
        let daemon = daemon_by_keys("cmd=redis-server --port 1,touch=/a;/b,stopsignal=2,control=1,freq=0").expect("good");
        assert_eq!((daemon.command.as_str(), daemon.stop_signal, daemon.control, daemon.freq), ("redis-server --port 1", 2, true, 1));
        assert_eq!(daemon.touch, ["/a", "/b"]);
        for bad in ["freq=3", "cmd=x,nosuch=1", "cmd=x,stopsignal=65", "cmd=x,daemonize=1", "cmd=x,legion=l"] {
            assert!(daemon_by_keys(bad).is_err(), "{bad}");
        }
        let smart = smart_daemon("/run/x.pid x --daemon").expect("good");
        assert_eq!((smart.pidfile.as_deref(), smart.command.as_str()), (Some("/run/x.pid"), "x --daemon"));
        assert!(smart_daemon("/run/x.pid").is_err());
    }

    #[test]
    fn alarms() {
        let bell = alarm("bell cmd:cat >> /x").expect("good");
        assert_eq!((bell.name.as_str(), bell.deed), ("bell", AlarmDeed::Command("cat >> /x".into())));
        assert_eq!(alarm("l log:").expect("good").deed, AlarmDeed::Log("".into()));
        assert_eq!(alarm("l log:LOOK HERE").expect("good").deed, AlarmDeed::Log("LOOK HERE".into()));
        for bad in ["bell", "bell cmd:", "bell xmpp:a@b", "bell signal:17"] {
            assert!(alarm(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn descriptors_of_a_parent() {
        let found = alarm_fd("bell 7:8  memory is short").expect("good");
        assert_eq!((found.fd, found.bytes, found.message.as_str()), (7, 8, "memory is short"));
        assert_eq!(found.deed, DescriptorDeed::Alarm("bell".into()));
        assert_eq!(descriptor("9", DescriptorDeed::Reload).expect("good").bytes, 1);
        for bad in ["", "2", "x", "7:0", "7:x", "7:9999"] {
            assert!(descriptor(bad, DescriptorDeed::Reload).is_err(), "{bad}");
        }
        assert!(alarm_fd("bell").is_err());
    }

    #[test]
    fn cron_lines() {
        let five = |c: &Cron| [c.minute, c.hour, c.day, c.month, c.week];
        let line = cron("59 -2 -1 -13 7  echo  hi ").expect("good");
        assert_eq!((five(&line), line.command.as_str()), ([59, -2, -1, -13, 7], "echo  hi"));
        for bad in [
            "every minute please do it",
            "1 2 3 4 5",
            "60 -1 -1 -1 -1 x",
            "0 24 -1 -1 -1 x",
            "0 0 0 -1 -1 x",
            "0 0 1 13 -1 x",
            "0 0 1 1 8 x",
            "* * * * * x",
            "",
        ] {
            assert!(cron(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cron_lines_by_keys() {
        let keyed = cron_by_keys("hour=3,week=0,unique=1,harakiri=9 touch /x").expect("good");
        assert_eq!((keyed.minute, keyed.hour, keyed.week, keyed.unique, keyed.harakiri), (-1, 3, 0, true, Some(9)));
        assert_eq!(cron_by_keys("touch a=b").expect("no keys").command, "touch a=b");
        assert_eq!(cron_by_keys("TZ=UTC date").expect("the shell's").command, "TZ=UTC date");
        for bad in ["hour=3", "hour=24 x", "nosuch=1 x", "", "legion=a x"] {
            assert!(cron_by_keys(bad).is_err(), "{bad}");
        }
    }
}
