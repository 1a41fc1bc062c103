//! Cgroups of version 2: where they are, which a process is in, and which has an id.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use super::{read, threads};
use crate::model::Name;

/// Ids that are remembered; when there are more, all are asked for again.
const MAX_KNOWN: usize = 4096;
/// `FILEID_KERNFS` of include/linux/exportfs.h: a handle is the id, 8 bytes.
const FILEID_KERNFS: libc::c_int = 0xfe;

/// Paths of cgroups by their ids.
#[derive(Debug, Default)]
pub struct Cgroups {
    /// Where cgroups are mounted; `None` before the first was asked for.
    mount: Option<Option<Mount>>,
    known: HashMap<u64, Option<Name>>,
}

#[derive(Debug)]
struct Mount {
    at: PathBuf,
    opened: File,
}

impl Cgroups {
    /// The path of a cgroup, `/` for the root; `None` if it is gone, not to be seen from here, or if the
    /// id is 0. Asked of the kernel once for each id: ids are not given twice.
    pub fn path(&mut self, id: u64) -> Option<Name> {
        if id == 0 {
            return None;
        }
        if let Some(known) = self.known.get(&id) {
            return known.clone();
        }
        let mount = self.mount.get_or_insert_with(Mount::open);
        let path = mount.as_ref().and_then(|mount| mount.path(id));
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(id, path.clone());
        path
    }
}

impl Mount {
    fn open() -> Option<Self> {
        let at = mount()?;
        let opened = File::open(&at).ok()?;
        Some(Mount { at, opened })
    }

    fn path(&self, id: u64) -> Option<Name> {
        let directory = open_by_id(&self.opened, id)?;
        let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let path = fs::read_link(link).ok()?;
        let path = path.strip_prefix(&self.at).ok()?.as_os_str().as_bytes();
        Some(Name::from([b"/", path].concat().as_slice()))
    }
}

/// Opens the directory of a cgroup as a place only. Needs CAP_DAC_READ_SEARCH (open_by_handle_at(2)).
fn open_by_id(mount: &File, id: u64) -> Option<OwnedFd> {
    /// `struct file_handle` with room for the id.
    #[repr(C)]
    struct Handle {
        bytes: libc::c_uint,
        kind: libc::c_int,
        id: [u8; 8],
    }
    let mut handle = Handle {
        bytes: 8,
        kind: FILEID_KERNFS,
        id: id.to_ne_bytes(),
    };
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: the handle is as long as it says, and is only read.
    let fd = unsafe { libc::open_by_handle_at(mount.as_raw_fd(), (&raw mut handle).cast(), flags) };
    // SAFETY: a descriptor that was just opened is nobody else's.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Where cgroups of version 2 are mounted.
pub(super) fn mount() -> Option<PathBuf> {
    mount_in(&read(Path::new("/proc/self/mountinfo"))?)
}

/// Where cgroups of version 2 are, of a `mountinfo`.
fn mount_in(mounts: &[u8]) -> Option<PathBuf> {
    let line = |line: &[u8]| {
        let text = std::str::from_utf8(line).ok()?;
        let (before, after) = text.split_once(" - ")?;
        let kind = after.split(' ').next()?;
        // Paths with spaces are written in octal; nobody mounts cgroups there.
        let place = before.split(' ').nth(4).filter(|at| !at.contains('\\'))?;
        (kind == "cgroup2").then(|| PathBuf::from(place))
    };
    mounts.split(|byte| *byte == b'\n').find_map(line)
}

/// Directory of a process's cgroup; `None` if it is the root of all, or not to be seen from here.
pub(super) fn of(pid: u32, mount: Option<&Path>) -> Option<PathBuf> {
    let text = threads::read(pid, &format!("/proc/{pid}/cgroup")).ok()?;
    Some(mount?.join(path_in(&text)?))
}

/// The path of version 2 in a `cgroup` file, without its slash.
fn path_in(text: &[u8]) -> Option<&Path> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let path = lines.find_map(|line| line.strip_prefix(b"0::/"))?;
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    // Above this cgroup namespace's root, a path has `..` in it.
    let below = |part: Component<'_>| matches!(part, Component::Normal(_));
    (!path.as_os_str().is_empty() && path.components().all(below)).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_kernel_are_understood() {
        let mounts = b"25 30 0:23 / /sys rw - sysfs sysfs rw\n30 24 0:26 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw\n";
        let unified = PathBuf::from("/sys/fs/cgroup/unified");
        assert_eq!(mount_in(mounts), Some(unified));
        let cgroup = b"4:memory:/a\n0::/system.slice/db.service\n";
        let path = Path::new("system.slice/db.service");
        assert_eq!(path_in(cgroup), Some(path));
    }

    #[test]
    fn what_is_not_there_is_not_the_root() {
        // The root, none of version 2, and what lies outside of this namespace.
        for text in ["0::/\n", "4:memory:/a\n", "0::/../../x\n", ""] {
            assert_eq!(path_in(text.as_bytes()), None, "{text}");
        }
        assert_eq!(mount_in(b"1 2 0:3 / /sys rw\nrubbish\n"), None);
        let mut cgroups = Cgroups::default();
        assert_eq!((cgroups.path(0), cgroups.path(u64::MAX)), (None, None));
    }
}
