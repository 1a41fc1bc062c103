//! Programs and libraries, opened while their process lives and kept open: so they can be read
//! after it has ended, after they were deleted, and from another mount namespace.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::sys::resource::{Resource, getrlimit};

use super::maps::{FileId, MINOR_BITS, Mapping};
use crate::model::Name;
use crate::privileges;

/// How many are kept open, by the descriptors that are allowed.
const MIN_FILES: usize = 64;
const MAX_FILES: usize = 4096;
/// Descriptors for everything else.
const OTHER_DESCRIPTORS: u64 = 640;
/// How many are closed at once, or hang in that.
const MAX_CLOSING: usize = 64;

/// Where a file can be opened.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) pid: u32,
    range: Range<u64>,
    path: Option<Name>,
    deleted: bool,
}

impl Origin {
    pub(super) fn new(pid: u32, mapping: &Mapping) -> Self {
        Self {
            pid,
            range: mapping.range.clone(),
            path: mapping.path.clone(),
            deleted: mapping.deleted,
        }
    }
}

/// Tells files apart for good: a [`FileId`] may mean another file once nobody keeps the one open that had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FileNumber(pub(super) u64);

/// A file, opened by the first who needs it.
#[derive(Debug)]
pub(super) struct ElfFile {
    pub(super) id: FileId,
    pub(super) number: FileNumber,
    /// Only success is remembered: another process may still have what this one took along.
    file: Mutex<Option<Arc<File>>>,
}

impl ElfFile {
    /// The file; `None` if it could not be opened. May block as long as its file system does.
    pub(super) fn open(&self, origin: &Origin) -> Option<Arc<File>> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.is_none() {
            *file = open(self.id, origin).map(Arc::new);
        }
        file.clone()
    }
}

/// All of them. If there are too many, the one goes that nobody has asked for for longest.
#[derive(Debug, Clone)]
pub(super) struct ElfFiles(Arc<Mutex<Table>>);

#[derive(Debug)]
struct Table {
    room: usize,
    /// With the question that was the last to ask for it.
    files: HashMap<FileId, (u64, Arc<ElfFile>)>,
    /// How often one was asked for.
    questions: u64,
    /// Shared by those that are being closed.
    closing: Arc<()>,
}

impl Default for ElfFiles {
    /// With room for as many as the limit for descriptors allows.
    fn default() -> Self {
        let allowed = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        let room = usize::try_from(allowed.saturating_sub(OTHER_DESCRIPTORS));
        Self::with_room(room.unwrap_or(MAX_FILES).clamp(MIN_FILES, MAX_FILES))
    }
}

impl ElfFiles {
    fn with_room(room: usize) -> Self {
        Self(Arc::new(Mutex::new(Table {
            room,
            files: HashMap::new(),
            questions: 0,
            closing: Arc::default(),
        })))
    }

    /// The file of this id; `None` if there is no room because file systems hang in closing others.
    pub(super) fn get(&self, id: FileId) -> Option<Arc<ElfFile>> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.questions += 1;
        let question = table.questions;
        if let Some((last, file)) = table.files.get_mut(&id) {
            *last = question;
            return Some(Arc::clone(file));
        }
        let mut old = None;
        if table.files.len() >= table.room {
            let closing = Arc::clone(&table.closing);
            // The table has one itself, and this is one.
            if Arc::strong_count(&closing) - 2 >= MAX_CLOSING {
                return None;
            }
            old = table.take_oldest().map(|file| (file, closing));
        }
        let file = Arc::new(ElfFile {
            id,
            number: FileNumber(question),
            file: Mutex::new(None),
        });
        table.files.insert(id, (question, Arc::clone(&file)));
        drop(table);
        if let Some(old) = old {
            close(old);
        }
        Some(file)
    }
}

impl Table {
    fn take_oldest(&mut self) -> Option<Arc<ElfFile>> {
        let oldest = self.files.iter().min_by_key(|(_, (last, _))| *last);
        let id = *oldest?.0;
        self.files.remove(&id).map(|(_, file)| file)
    }
}

/// Closes a file on a thread of its own: some file systems answer that no sooner than anything else.
fn close(old: (Arc<ElfFile>, Arc<()>)) {
    let spawned = thread::Builder::new()
        .name("closes a file".to_owned())
        .spawn(move || {
            privileges::keep(privileges::SESSION);
            drop(old);
        });
    if let Err(error) = spawned {
        log::info!("a thread that closes a file: {error}");
    }
}

fn open(id: FileId, origin: &Origin) -> Option<File> {
    let Origin { pid, range, .. } = origin;
    // The link leads to the very file that is mapped; following it takes CAP_CHECKPOINT_RESTORE.
    let link = format!("/proc/{pid}/map_files/{:x}-{:x}", range.start, range.end);
    let same = |file: &File| file.metadata().is_ok_and(|found| is_same(&found, id));
    if let Some(file) = open_regular(Path::new(&link)).filter(same) {
        return Some(file);
    }
    if let Some(exe) = open_regular(Path::new(&format!("/proc/{pid}/exe"))).filter(same) {
        return Some(exe);
    }
    let path = origin.path.as_ref().filter(|_| !origin.deleted)?;
    let mut whole = format!("/proc/{pid}/root").into_bytes();
    whole.extend_from_slice(path.as_bytes());
    open_regular(Path::new(std::ffi::OsStr::from_bytes(&whole))).filter(same)
}

/// Opens nothing but plain files: to open a device or a pipe can have effects.
pub(super) fn open_regular(path: &Path) -> Option<File> {
    // Looked at without being opened, then opened as what was looked at.
    let seen = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(path)
        .ok()?;
    if !seen.metadata().ok()?.is_file() {
        return None;
    }
    File::open(format!("/proc/self/fd/{}", seen.as_raw_fd())).ok()
}

/// Whether a file is the one of the memory map. Where a file system makes up devices (overlayfs,
/// btrfs), the two need not agree on them.
pub(super) fn is_same(found: &fs::Metadata, id: FileId) -> bool {
    let (major, minor) = (libc::major(found.dev()), libc::minor(found.dev()));
    let made_up = major == 0 || id.has_made_up_device();
    found.ino() == id.ino && (made_up || major << MINOR_BITS | minor == id.dev)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::maps;
    use std::os::unix::fs::FileExt as _;

    #[test]
    fn our_own_program_opens_and_is_itself() {
        let pid = std::process::id();
        let (mappings, _) = maps::parse(&fs::read("/proc/self/maps").expect("maps"));
        let here = our_own_program_opens_and_is_itself as *const () as u64;
        let mapping = mappings
            .iter()
            .find(|mapping| mapping.range.contains(&here))
            .expect("mapped");
        let files = ElfFiles::default();
        let file = files.get(mapping.file.expect("a file")).expect("room");
        let opened = file.open(&Origin::new(pid, mapping)).expect("opens");
        let mut magic = [0; 4];
        opened.read_exact_at(&mut magic, 0).expect("readable");
        assert_eq!(&magic, b"\x7fELF");
    }

    #[test]
    fn another_file_under_the_path_is_not_taken() {
        let origin = Origin {
            pid: std::process::id(),
            range: 0..4096,
            path: Some(Name::from("/etc/passwd")),
            deleted: false,
        };
        let file = ElfFiles::default()
            .get(FileId { dev: 0, ino: 1 })
            .expect("room");
        assert!(file.open(&origin).is_none());
    }

    fn id(ino: u64) -> FileId {
        FileId { dev: 1, ino }
    }

    #[test]
    fn the_number_of_files_is_bounded_and_new_ones_find_room() {
        let files = ElfFiles::with_room(100);
        for ino in 0..1000 {
            // Closing takes its time.
            while files.get(id(ino)).is_none() {
                thread::yield_now();
            }
        }
        assert_eq!(files.0.lock().expect("whole").files.len(), 100);
    }

    #[test]
    fn the_one_goes_that_was_not_asked_for_for_longest() {
        let files = ElfFiles::with_room(2);
        let number = |ino| files.get(id(ino)).expect("room").number;
        let (first, second) = (number(1), number(2));
        assert_eq!(number(1), first);
        let third = number(3);
        assert_eq!((number(1), number(3)), (first, third));
        let again = number(2);
        assert!(again != second, "it may be another file by now");
    }

    #[test]
    fn what_hangs_in_closing_is_bounded() {
        let files = ElfFiles::with_room(1);
        let closing = Arc::clone(&files.0.lock().expect("whole").closing);
        let hanging = vec![closing; MAX_CLOSING];
        assert!(files.get(id(1)).is_some());
        assert!(files.get(id(2)).is_none());
        assert!(files.get(id(1)).is_some(), "it is still there");
        drop(hanging);
        assert!(files.get(id(2)).is_some());
    }
}
