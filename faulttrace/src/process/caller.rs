//! The user who called sudo: whom launched commands run as, and saved traces belong to.

use std::ffi::CString;
use std::io;

use nix::unistd::{Gid, Uid, User, getgrouplist};

/// Why the user who called sudo is not known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The environment names nobody.
    #[error("SUDO_UID and SUDO_GID name no user: {0}")]
    Nobody(String),
    /// The user database could not be read.
    #[error("the user who called sudo: {0}")]
    Unreadable(#[from] io::Error),
}

/// The user who called sudo.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Login name.
    pub name: String,
    /// Home directory.
    pub home: std::path::PathBuf,
    /// User id.
    pub uid: Uid,
    /// Primary group.
    pub gid: Gid,
    /// All groups.
    pub groups: Vec<Gid>,
}

/// The user who called sudo; `None` without sudo, or if root called it.
pub fn caller() -> Result<Option<Caller>, Error> {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse::<u32>().ok())
    };
    let (Some(uid), Some(gid)) = (number("SUDO_UID"), number("SUDO_GID")) else {
        return Ok(None);
    };
    if uid == 0 || !Uid::effective().is_root() {
        return Ok(None);
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let user = User::from_uid(uid)
        .map_err(io::Error::from)?
        .ok_or_else(|| Error::Nobody(uid.to_string()))?;
    let name = CString::new(user.name.clone()).map_err(|error| Error::Nobody(error.to_string()))?;
    let groups = getgrouplist(&name, gid).map_err(io::Error::from)?;
    Ok(Some(Caller {
        name: user.name,
        home: user.dir,
        uid,
        gid,
        groups,
    }))
}
