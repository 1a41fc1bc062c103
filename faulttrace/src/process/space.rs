//! One process's address space as last read, and what lies where in it.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use super::maps::{self, FileId, Mapping};
use super::page_bytes;
use crate::model::{MappingKind, Name, Place};

/// The page that the kernel looked for in the page cache: exact, whatever the memory map says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileHint {
    /// Device: major << 20 | minor.
    pub dev: u32,
    /// Inode.
    pub ino: u64,
    /// Offset of the page in the file, bytes.
    pub page_offset: u64,
}

impl FileHint {
    pub(super) fn id(self) -> FileId {
        FileId {
            dev: self.dev,
            ino: self.ino,
        }
    }
}

/// How many files under two ids are remembered.
const MAX_ALIASES: usize = 10_000;
/// How old a map may get while it is being used.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Reading is to take at most this part of the time.
const READ_SHARE: u32 = 100;
/// The longest pause after reads that did not help.
const MAX_BACKOFF: Duration = Duration::from_millis(500);
/// The shortest.
const MIN_BACKOFF: Duration = Duration::from_millis(1);

/// What was read of a process.
#[derive(Debug)]
pub struct Snapshot {
    /// By address.
    pub mappings: Vec<Mapping>,
    /// Its id in its own pid namespace.
    pub own_pid: u32,
    /// Who it runs as.
    pub uid: u32,
    /// How long reading took: for that long the target may have been hindered.
    pub took: Duration,
}

/// What is known of one address space.
#[derive(Debug, Default)]
pub struct Space {
    snapshot: Option<Snapshot>,
    /// A mapping of each file.
    by_file: HashMap<FileId, usize>,
    /// On overlayfs the page cache belongs to the file of the layer below, whose id is not in the
    /// map: ids that the kernel told, with those of the map.
    aliases: HashMap<FileId, FileId>,
    /// How much memory the snapshot takes.
    bytes: usize,
    read_at: Option<Instant>,
    backoff: Duration,
    /// Its memory map cannot be read.
    pub(super) gone: bool,
    /// A read that is still under way was waited for.
    pub(super) waited_in_vain: bool,
}

/// How well a question could be answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// As well as it can be.
    Sure(Place),
    /// Reading the map again may help.
    Stale,
}

impl Space {
    /// Takes what was read.
    pub fn update(&mut self, snapshot: Snapshot) {
        self.by_file.clear();
        for (index, mapping) in snapshot.mappings.iter().enumerate() {
            if let Some(file) = mapping.file {
                self.by_file.entry(file).or_insert(index);
            }
        }
        self.bytes = maps::bytes_of(&snapshot.mappings);
        self.snapshot = Some(snapshot);
        self.read_at = Some(Instant::now());
        self.waited_in_vain = false;
        self.gone = false;
    }

    /// Its memory map could not be read: for good if it has ended or may not be looked at.
    pub(super) fn fail(&mut self, error: &io::Error) {
        self.gone = matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
        ) || error.raw_os_error() == Some(libc::ESRCH);
        self.read_at = Some(Instant::now());
        self.waited_in_vain = false;
    }

    /// How much memory what was read takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What was read, if anything.
    pub(super) fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// Whether it is so old that it should be read again in the background.
    pub(super) fn is_old(&self, now: Instant) -> bool {
        let took = self
            .snapshot
            .as_ref()
            .map_or(Duration::ZERO, |snapshot| snapshot.took);
        let max_age = MAX_AGE.max(took.saturating_mul(READ_SHARE));
        self.read_at
            .is_none_or(|read_at| now.saturating_duration_since(read_at) > max_age)
    }

    /// Whether it may be read again at once because something was not found in it.
    pub(super) fn may_read_now(&self, now: Instant) -> bool {
        self.read_at
            .is_none_or(|read_at| now.saturating_duration_since(read_at) >= self.backoff)
    }

    /// Whether reading it again did help.
    pub(super) fn read_helped(&mut self, helped: bool) {
        self.backoff = if helped {
            Duration::ZERO
        } else {
            (self.backoff * 2).clamp(MIN_BACKOFF, MAX_BACKOFF)
        };
    }

    /// The mapping an address lies in.
    pub fn find(&self, address: u64) -> Option<&Mapping> {
        let mappings = &self.snapshot.as_ref()?.mappings;
        let after = mappings.partition_point(|mapping| mapping.range.start <= address);
        mappings
            .get(after.checked_sub(1)?)
            .filter(|mapping| mapping.range.contains(&address))
    }

    /// What lies at an address, or what the kernel's hint is about.
    pub fn place(&self, address: Option<u64>, hint: Option<FileHint>) -> Answer {
        let at = address.and_then(|address| Some((address, self.find(address)?)));
        let Some(hint) = hint else {
            return at.map_or(Answer::Stale, |(address, mapping)| {
                Answer::Sure(place_in(mapping, address))
            });
        };
        let wanted = self.aliases.get(&hint.id()).copied().unwrap_or(hint.id());
        if let Some((_, mapping)) = at
            && mapping.file == Some(wanted)
        {
            return Answer::Sure(place_of_file(mapping, hint));
        }
        if address.is_some() {
            return Answer::Stale;
        }
        // get_user_pages told no address: any mapping of the file names it.
        self.by_file
            .get(&wanted)
            .and_then(|index| self.snapshot.as_ref()?.mappings.get(*index))
            .map_or(Answer::Stale, |mapping| {
                Answer::Sure(place_of_file(mapping, hint))
            })
    }

    /// The same after the map was read again: if the address lies in a mapping of a file at the
    /// very offset that the hint tells, they are one file under two ids. Returns its path.
    pub(super) fn learn_alias(&mut self, address: u64, hint: FileHint) -> Option<Name> {
        let mapping = self.find(address)?;
        let file = mapping.file?;
        let same_page = page_of(mapping.offset_of(address)) == page_of(hint.page_offset);
        // Else the address was mapped anew since, from another file at the same offset.
        let overlaid = file.has_made_up_device() && file.dev != hint.dev;
        if !same_page || !overlaid || self.aliases.len() >= MAX_ALIASES {
            return None;
        }
        let path = mapping.path.clone()?;
        self.aliases.insert(hint.id(), file);
        Some(path)
    }

    /// Files of this space that can be found by name later.
    pub(super) fn files(&self) -> impl Iterator<Item = (FileId, &Name)> {
        let mappings = self
            .snapshot
            .iter()
            .flat_map(|snapshot| &snapshot.mappings)
            .filter(|mapping| !mapping.deleted && mapping.has_offsets());
        mappings.filter_map(|mapping| Some((mapping.file?, mapping.path.as_ref()?)))
    }
}

fn page_of(offset: u64) -> u64 {
    offset / page_bytes() * page_bytes()
}

fn place_in(mapping: &Mapping, address: u64) -> Place {
    Place {
        mapping: Some(mapping.kind),
        path: mapping.path.clone(),
        deleted: mapping.deleted,
        offset: mapping
            .has_offsets()
            .then(|| page_of(mapping.offset_of(address))),
    }
}

fn place_of_file(mapping: &Mapping, hint: FileHint) -> Place {
    Place {
        mapping: Some(mapping.kind),
        path: mapping.path.clone(),
        deleted: mapping.deleted,
        offset: Some(hint.page_offset),
    }
}

/// What a hint tells alone, with the path that another process had for the file.
pub(super) fn place_of_hint(hint: FileHint, path: Option<Name>) -> Place {
    Place {
        mapping: Some(MappingKind::File),
        path,
        deleted: false,
        offset: Some(hint.page_offset),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &[u8] = b"\
1000-5000 r--s 00002000 08:01 99 /data/x\n\
8000-9000 rw-p 00000000 00:00 0 [heap]\n\
a000-b000 r--s 00003000 00:1f 99 /merged/y\n";

    fn space() -> Space {
        let mut space = Space::default();
        space.update(Snapshot {
            mappings: maps::parse(MAPS).0,
            own_pid: 1,
            uid: 0,
            took: Duration::ZERO,
        });
        space
    }

    fn hint(ino: u64, page_offset: u64) -> FileHint {
        FileHint {
            dev: 8 << 20 | 1,
            ino,
            page_offset,
        }
    }

    fn file(offset: u64) -> Place {
        Place {
            mapping: Some(MappingKind::File),
            path: Some(Name::from("/data/x")),
            deleted: false,
            offset: Some(offset),
        }
    }

    #[test]
    fn addresses_lie_in_mappings() {
        let space = space();
        assert_eq!(space.place(Some(0x2345), None), Answer::Sure(file(0x3000)));
        let heap = Place {
            mapping: Some(MappingKind::Heap),
            ..Place::default()
        };
        assert_eq!(space.place(Some(0x8fff), None), Answer::Sure(heap));
        assert_eq!(space.place(Some(0x9000), None), Answer::Stale);
        assert_eq!(space.place(Some(0x7fff), None), Answer::Stale);
    }

    #[test]
    fn the_kernels_word_on_the_file_counts_more_than_the_map() {
        let mut space = space();
        assert_eq!(
            space.place(Some(0x2345), Some(hint(99, 0x3000))),
            Answer::Sure(file(0x3000))
        );
        // On overlayfs, the layer below is meant.
        let below = hint(7, 0x3000);
        assert_eq!(space.place(Some(0xa345), Some(below)), Answer::Stale);
        assert_eq!(space.learn_alias(0xa345, hint(7, 0x9000)), None);
        assert!(space.learn_alias(0xa345, below).is_some());
        let merged = Place {
            path: Some(Name::from("/merged/y")),
            ..file(0x3000)
        };
        assert_eq!(space.place(Some(0xa345), Some(below)), Answer::Sure(merged));
        // On a disk, the address was mapped anew.
        assert_eq!(space.learn_alias(0x2345, below), None);
    }

    #[test]
    fn a_file_is_found_without_an_address() {
        let space = space();
        assert_eq!(
            space.place(None, Some(hint(99, 0x40_0000))),
            Answer::Sure(file(0x40_0000))
        );
        assert_eq!(space.place(None, Some(hint(5, 0))), Answer::Stale);
    }

    #[test]
    fn reads_that_do_not_help_become_rare() {
        let mut space = space();
        assert!(space.may_read_now(Instant::now()));
        for _ in 0..20 {
            space.read_helped(false);
        }
        assert!(!space.may_read_now(Instant::now()));
        assert!(space.may_read_now(Instant::now() + MAX_BACKOFF));
        space.read_helped(true);
        assert!(space.may_read_now(Instant::now()));
    }
}
