//! The file of a trace that is being written: made so that nobody else can read or replace it, and
//! kept from filling the page cache. What is in it is SQLite's business.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::{Error, Result};
use crate::process::caller::Caller;
use crate::view::escape::Escaped;

/// Owner only.
const MODE: u32 = 0o600;
/// After how many records the page cache is looked after: a few MiB.
const SETTLE_EVERY: usize = 65_536;
/// Names that are tried for what is to be replaced.
const MAX_ASIDE: u32 = 100;

/// A trace's file, with SQLite's journal beside it.
pub(super) struct TraceFile {
    /// Its path, through no symbolic link.
    path: PathBuf,
    /// A descriptor of our own. It must outlive SQLite's: closing any descriptor of a file gives up
    /// the process's locks on it (fcntl(2)).
    file: File,
    /// Records since it was last settled.
    unsettled: usize,
    /// What it is to replace, put aside until there is something in it.
    replaced: Option<PathBuf>,
}

impl TraceFile {
    /// Makes an empty file, and an empty journal so that SQLite opens that instead of making one
    /// whenever it needs it, at a moment that others could choose.
    ///
    /// It is made as the user who called sudo, and this thread keeps that user's rights on files; or,
    /// where that user may not write, as root, if nobody else may either.
    pub(super) fn create(path: &Path, force: bool, owner: Option<&Caller>) -> Result<Self> {
        let Some(owner) = owner else {
            return Self::make(path, force, None);
        };
        let roots_groups = rights::of_user(owner).map_err(|error| io_error(path, error))?;
        match Self::make(path, force, None) {
            Err(Error::Io { error, .. }) if error.kind() == io::ErrorKind::PermissionDenied => {
                rights::of_root(&roots_groups).map_err(|error| io_error(path, error))?;
                refuse_unless_roots(path)?;
                Self::make(path, force, Some(owner))
            }
            made => made,
        }
    }

    fn make(path: &Path, force: bool, owner: Option<&Caller>) -> Result<Self> {
        let path = resolve(path)?;
        refuse_shared(&path)?;
        let journal = journal_of(&path);
        refuse_journal(&journal, force)?;
        let replaced = put_aside(&path, force)?;
        match make_both(&path, &journal, owner) {
            Ok(file) => Ok(Self {
                path,
                file,
                unsettled: 0,
                replaced,
            }),
            Err(error) => {
                put_back(replaced.as_deref(), &path);
                Err(error)
            }
        }
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in it.
    pub(super) fn size(&self) -> Result<u64> {
        let metadata = self.file.metadata();
        metadata
            .map(|metadata| metadata.len())
            .map_err(|error| self.io(error))
    }

    /// Fails if its name does not lead to it any more: then nobody would ever find what is written.
    pub(super) fn check_place(&self) -> Result<()> {
        let ours = self.file.metadata().map_err(|error| self.io(error))?;
        let there = fs::symlink_metadata(&self.path);
        match there {
            Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => Ok(()),
            _ => Err(Error::Vanished(self.path.clone())),
        }
    }

    /// After so many records were written: now and then begins to write out what is new, without
    /// waiting for it, and drops from the page cache what has been written out since the last time:
    /// memory is what the target is short of.
    pub(super) fn settle(&mut self, records: usize) -> Result<()> {
        self.unsettled += records;
        if self.unsettled < SETTLE_EVERY {
            return Ok(());
        }
        self.unsettled = 0;
        // Both are hints: where they are not heeded, the kernel does as it does for any file.
        let _ = posix_fadvise(&self.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        // SAFETY: a system call on a descriptor that is open, without memory of ours.
        let _ = unsafe {
            libc::sync_file_range(self.file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE)
        };
        Ok(())
    }

    /// There is something in it: what it replaced is given up.
    pub(super) fn keep(&mut self) {
        if let Some(replaced) = self.replaced.take() {
            // One that stays does no harm.
            let _ = fs::remove_file(journal_of(&replaced));
            let _ = fs::remove_file(replaced);
        }
    }

    /// Removes it again, with its journal.
    pub(super) fn remove(self) {
        if self.check_place().is_ok() {
            // An empty file that stays does no harm.
            let _ = fs::remove_file(&self.path);
            let _ = fs::remove_file(journal_of(&self.path));
            put_back(self.replaced.as_deref(), &self.path);
        }
    }

    /// Waits until all of it is on the disk.
    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|error| self.io(error))
    }

    fn io(&self, error: io::Error) -> Error {
        io_error(&self.path, error)
    }
}

pub(super) fn io_error(path: &Path, error: io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        error,
    }
}

/// SQLite's journal of a database.
pub(super) fn journal_of(path: &Path) -> PathBuf {
    with_suffix(path, "-journal")
}

/// The path of what stands beside a file.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The directory without symbolic links, and the name in it.
fn resolve(path: &Path) -> Result<PathBuf> {
    let name = path
        .file_name()
        .ok_or_else(|| Error::NoFileName(path.to_owned()))?;
    let directory = parent_of(path);
    let directory = directory
        .canonicalize()
        .map_err(|error| io_error(directory, error))?;
    Ok(directory.join(name))
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// In a directory that everybody can write, only the sticky bit keeps others from putting a link in
/// the place of the trace or its journal.
fn refuse_shared(path: &Path) -> Result<()> {
    const WRITABLE_BY_ALL: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    let (directory, metadata) = directory_of(path)?;
    let mode = metadata.mode() & 0o7777;
    if mode & WRITABLE_BY_ALL != 0 && mode & STICKY == 0 {
        return Err(Error::SharedDirectory { directory, mode });
    }
    Ok(())
}

/// What root makes for a user must be where nobody else can put something in its place.
fn refuse_unless_roots(path: &Path) -> Result<()> {
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    let (directory, metadata) = directory_of(path)?;
    let mode = metadata.mode() & 0o7777;
    if metadata.uid() != 0 || mode & WRITABLE_BY_OTHERS != 0 {
        return Err(io_error(&directory, io::ErrorKind::PermissionDenied.into()));
    }
    Ok(())
}

fn directory_of(path: &Path) -> Result<(PathBuf, fs::Metadata)> {
    let directory = parent_of(path);
    match fs::metadata(directory) {
        Ok(metadata) => Ok((directory.to_owned(), metadata)),
        Err(error) => Err(io_error(directory, error)),
    }
}

/// Puts aside what is to be replaced, with its journal, which may be all that repairs it; tells where it is.
fn put_aside(path: &Path, force: bool) -> Result<Option<PathBuf>> {
    let there = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(path, error)),
        Ok(there) => there,
    };
    if !there.is_file() {
        return Err(Error::NotReplaceable(path.to_owned()));
    }
    if !force {
        return Err(Error::Exists(path.to_owned()));
    }
    let aside = take_name(path)?;
    if let Err(error) = fs::rename(path, &aside) {
        let _ = fs::remove_file(&aside);
        return Err(io_error(path, error));
    }
    if let Err(error) = move_journal(path, &aside) {
        put_back(Some(&aside), path);
        return Err(error);
    }
    Ok(Some(aside))
}

/// Gives the journal of one file, if there is one, the name of another's.
fn move_journal(from: &Path, to: &Path) -> Result<()> {
    let journal = journal_of(from);
    match fs::symlink_metadata(&journal) {
        Ok(there) if there.is_file() => {
            let moved = fs::rename(&journal, journal_of(to));
            moved.map_err(|error| io_error(&journal, error))
        }
        _ => Ok(()),
    }
}

/// A name beside a file that nothing had, taken by an empty file, which may be replaced.
fn take_name(path: &Path) -> Result<PathBuf> {
    let first = with_suffix(path, ".replaced");
    let others = (1..MAX_ASIDE).map(|n| with_suffix(path, &format!(".replaced-{n}")));
    for aside in std::iter::once(first.clone()).chain(others) {
        match make(&aside, None) {
            Err(Error::Exists(_)) => {}
            made => return made.map(|_| aside),
        }
    }
    Err(Error::Exists(first))
}

/// Gives what was put aside its name again, if nothing else has it by now.
fn put_back(aside: Option<&Path>, path: &Path) {
    let Some(aside) = aside else { return };
    let back = make(path, None).and_then(|_| {
        let renamed = fs::rename(aside, path);
        renamed.map_err(|error| io_error(path, error))?;
        move_journal(aside, path)
    });
    if let Err(error) = back {
        let aside = Escaped::path(aside);
        log::warn!("what was to be replaced is kept as {aside}: {error}");
    }
}

/// A journal with something in it may be all that repairs another trace.
fn refuse_journal(journal: &Path, force: bool) -> Result<()> {
    match fs::symlink_metadata(journal) {
        Ok(there) if there.is_file() && there.len() > 0 && !force => {
            Err(Error::Exists(journal.to_owned()))
        }
        _ => Ok(()),
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(path, error)),
        _ => Ok(()),
    }
}

/// Makes a trace's file and its journal; if either cannot be made, nothing is left of the file.
fn make_both(path: &Path, journal: &Path, owner: Option<&Caller>) -> Result<File> {
    let file = make(path, owner)?;
    let made = remove(journal).and_then(|()| make(journal, owner));
    if made.is_err() {
        let _ = fs::remove_file(path);
    }
    made.map(|_| file)
}

/// Makes a file that was not there, and gives it to `owner`.
fn make(path: &Path, owner: Option<&Caller>) -> Result<File> {
    let made = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(MODE)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path);
    let made = made.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Error::Exists(path.to_owned()),
        _ => io_error(path, error),
    })?;
    if let Some(owner) = owner {
        let (uid, gid) = (owner.uid.as_raw(), owner.gid.as_raw());
        if let Err(error) = fchown(&made, Some(uid), Some(gid)) {
            let _ = fs::remove_file(path);
            return Err(io_error(path, error));
        }
    }
    Ok(made)
}

/// With whose rights this thread uses files. The kernel keeps them for each thread (setfsuid(2));
/// so the rest of the tracer stays root.
mod rights {
    use std::io;

    use nix::unistd::{Gid, Uid, getgroups};

    use crate::process::caller::Caller;

    /// Those of a user. Returns the groups that the thread had.
    pub(super) fn of_user(user: &Caller) -> io::Result<Vec<Gid>> {
        let before = getgroups()?;
        set_groups(&user.groups)?;
        set(user.uid, user.gid);
        Ok(before)
    }

    /// Those of root again.
    pub(super) fn of_root(groups: &[Gid]) -> io::Result<()> {
        set(Uid::from_raw(0), Gid::from_raw(0));
        set_groups(groups)
    }

    fn set(uid: Uid, gid: Gid) {
        // Both cannot fail for root, and tell the former id, not success.
        nix::unistd::setfsgid(gid);
        nix::unistd::setfsuid(uid);
    }

    /// Not libc's function: that one changes all threads.
    fn set_groups(groups: &[Gid]) -> io::Result<()> {
        let groups: Vec<libc::gid_t> = groups.iter().map(|group| group.as_raw()).collect();
        // SAFETY: the kernel reads as many ids as there are.
        let done = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}
