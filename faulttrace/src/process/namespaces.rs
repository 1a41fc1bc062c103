//! Process ids as containers see them.

use std::fs;

use super::threads::{self, status_field};

/// A process found for an id that the user gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Its id in this namespace.
    pub pid: u32,
    /// What the user should know.
    pub notice: Option<String>,
}

/// Why no process was found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither here nor in a namespace below.
    #[error(transparent)]
    Thread(#[from] threads::Error),
    /// Several containers have such a process.
    #[error(
        "no process has the id {pid} here, but in containers several have: {candidates}; give the first id of one of them"
    )]
    Ambiguous {
        /// As given.
        pid: u32,
        /// Ids here, with names.
        candidates: String,
    },
}

/// `PROC_PID_INIT_INO` of include/linux/proc_ns.h.
const INITIAL: u32 = 0xeffffffc;

/// Inode number of the tracer's own pid namespace, unless that is the host's: then the kernel's
/// own ids are those of /proc.
pub fn own_if_not_initial() -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    let inode = u32::try_from(fs::metadata("/proc/self/ns/pid").ok()?.ino()).ok()?;
    (inode != INITIAL).then_some(inode)
}

/// Most candidates named in an error.
const MAX_NAMED: usize = 10;

/// Finds the process the user means: by its id here, or else by the only one with this id in a
/// pid namespace below (a container).
pub fn resolve_pid(pid: u32) -> Result<Resolved, Error> {
    if fs::exists(format!("/proc/{pid}")).unwrap_or(false) {
        return Ok(Resolved { pid, notice: None });
    }
    let found: Vec<u32> = threads::processes()
        .into_iter()
        .filter(|here| inner_pid(*here) == Some(pid))
        .collect();
    match found.as_slice() {
        [] => Err(threads::Error::NotFound(pid).into()),
        [one] => {
            let notice = format!(
                "{pid} is the id inside another pid namespace of {}; it is traced",
                describe(*one)
            );
            Ok(Resolved {
                pid: *one,
                notice: Some(notice),
            })
        }
        several => {
            let named: Vec<String> = several
                .iter()
                .take(MAX_NAMED)
                .map(|here| describe(*here))
                .collect();
            Err(Error::Ambiguous {
                pid,
                candidates: named.join(", "),
            })
        }
    }
}

fn describe(pid: u32) -> String {
    let name = threads::name(pid).map(|name| name.as_bytes().escape_ascii().to_string());
    format!("{pid} ({})", name.unwrap_or_default())
}

/// The id of a process in its innermost pid namespace, if that is not this one.
fn inner_pid(pid: u32) -> Option<u32> {
    let status = threads::read(pid, &format!("/proc/{pid}/status")).ok()?;
    innermost(&status)
}

/// The last of several ids on the `NSpid:` line.
fn innermost(status: &[u8]) -> Option<u32> {
    let mut ids = status_field(status, "NSpid:")?.split_ascii_whitespace();
    let _here = ids.next()?;
    ids.next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_id_is_the_last_of_several() {
        assert_eq!(innermost(b"Name:\tx\nNSpid:\t812\t7\nNSsid:\t1"), Some(7));
        assert_eq!(innermost(b"Name:\tx\nNSpid:\t812\n"), None);
        assert_eq!(innermost(b"Name:\tx\n"), None);
    }

    #[test]
    fn our_own_id_is_ours() {
        let pid = std::process::id();
        assert_eq!(
            resolve_pid(pid).expect("we live"),
            Resolved { pid, notice: None }
        );
    }

    #[test]
    fn an_id_nobody_has_is_not_found() {
        assert!(matches!(
            resolve_pid(u32::MAX),
            Err(Error::Thread(threads::Error::NotFound(_)))
        ));
    }
}
