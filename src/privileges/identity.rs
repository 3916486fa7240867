//! Names of users and groups, resolved before any chroot hides the user database.

use nix::unistd::{Gid, Group, Uid, User};

/// A user or group that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("there is no user {0:?}")]
    NoUser(String),
    #[error("there is no group {0:?}")]
    NoGroup(String),
    #[error("{0:?}: an instance cannot drop its privileges to root; leave the option out to stay root")]
    Root(&'static str),
    #[error("cannot read the user database: {0}")]
    Database(nix::Error),
}

/// A user by number or name. A number needs no entry in the user database.
pub fn user(text: &str) -> Result<(Uid, Option<User>), IdentityError> {
    if let Ok(number) = text.parse() {
        let uid = Uid::from_raw(number);
        return Ok((uid, User::from_uid(uid).unwrap_or(None)));
    }
    let found = User::from_name(text).map_err(IdentityError::Database)?.ok_or_else(|| IdentityError::NoUser(text.into()))?;
    Ok((found.uid, Some(found)))
}

pub fn group(text: &str) -> Result<Gid, IdentityError> {
    if let Ok(number) = text.parse() {
        return Ok(Gid::from_raw(number));
    }
    let found = Group::from_name(text).map_err(IdentityError::Database)?;
    found.map(|g| g.gid).ok_or_else(|| IdentityError::NoGroup(text.into()))
}

/// `user[:group]`, as in `chown-socket`.
pub fn owner(text: &str) -> Result<(Uid, Option<Gid>), IdentityError> {
    match text.trim().split_once(':') {
        None => Ok((user(text.trim())?.0, None)),
        Some((name, "")) => Ok((user(name)?.0, None)),
        Some((name, members)) => Ok((user(name)?.0, Some(group(members)?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_need_no_entry_and_names_do() {
        assert_eq!(user("54321").map(|u| u.0), Ok(Uid::from_raw(54321)));
        assert_eq!(user("root").map(|u| u.0), Ok(Uid::from_raw(0)));
        assert_eq!(user("no-such-user").map(|u| u.0), Err(IdentityError::NoUser("no-such-user".into())));
        assert_eq!(owner("root:root"), Ok((Uid::from_raw(0), Some(Gid::from_raw(0)))));
        assert_eq!(owner("root:no-such-group"), Err(IdentityError::NoGroup("no-such-group".into())));
    }
}
