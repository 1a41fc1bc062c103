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

use super::maps::{FileId, MINOR_BITS, Mapping};
use crate::model::Name;

/// How many are kept open. Each costs two descriptors, of 1,024 that a process has by default.
const MAX_FILES: usize = 384;

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

/// A file, opened by the first who needs it.
#[derive(Debug)]
pub(super) struct ElfFile {
    pub(super) id: FileId,
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

/// All of them. Files are never closed before the end, so that a descriptor means one file.
#[derive(Debug, Clone, Default)]
pub(super) struct ElfFiles(Arc<Mutex<HashMap<FileId, Arc<ElfFile>>>>);

impl ElfFiles {
    /// The file of this id; `None` if there are too many.
    pub(super) fn get(&self, id: FileId) -> Option<Arc<ElfFile>> {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if files.len() >= MAX_FILES && !files.contains_key(&id) {
            return None;
        }
        let new = || {
            Arc::new(ElfFile {
                id,
                file: Mutex::new(None),
            })
        };
        Some(Arc::clone(files.entry(id).or_insert_with(new)))
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

    #[test]
    fn the_number_of_files_is_bounded() {
        let files = ElfFiles::default();
        let taken = (0..10_000)
            .filter(|ino| files.get(FileId { dev: 1, ino: *ino }).is_some())
            .count();
        assert_eq!(taken, MAX_FILES);
        assert!(files.get(FileId { dev: 1, ino: 0 }).is_some());
    }
}
