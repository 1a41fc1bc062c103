//! What `/proc/PID/maps` says (man 5 proc_pid_maps): which addresses are what. Pure parsing.

use std::collections::HashSet;
use std::ops::Range;

use crate::model::{MappingKind, Name};

/// Mappings beyond this number are not kept; a process may have 65,530 (vm.max_map_count), or what
/// its administrator allows.
const MAX_MAPPINGS: usize = 1 << 18;

/// A file as the kernel tells files apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// Device: major << 20 | minor, as `s_dev` in the kernel.
    pub dev: u32,
    /// Inode.
    pub ino: u64,
}

/// Bits of the minor number in a device's.
pub(super) const MINOR_BITS: u32 = 20;

impl FileId {
    /// Whether its file system is on no disk, so that the kernel made its device up: major number 0.
    pub fn has_made_up_device(self) -> bool {
        self.dev >> MINOR_BITS == 0
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// Its addresses.
    pub range: Range<u64>,
    /// Of its first byte in the file.
    pub offset: u64,
    /// May be run.
    pub executable: bool,
    /// `None`: no file.
    pub file: Option<FileId>,
    /// What it is.
    pub kind: MappingKind,
    /// Path, or the kernel's label without brackets.
    pub path: Option<Name>,
    /// The file has no name any more.
    pub deleted: bool,
}

impl Mapping {
    /// Where in the file an address of this mapping is.
    pub fn offset_of(&self, address: u64) -> u64 {
        address
            .wrapping_sub(self.range.start)
            .wrapping_add(self.offset)
    }

    /// Whether offsets mean something: there is a file, if only one of memory.
    pub fn has_offsets(&self) -> bool {
        matches!(
            self.kind,
            MappingKind::File | MappingKind::Exe | MappingKind::Memfd
        ) || (self.kind == MappingKind::Shmem && self.file.is_some())
    }
}

/// Parses the file. Lines that are not understood, and those for which there is no room, are left
/// out and counted.
pub fn parse(bytes: &[u8]) -> (Vec<Mapping>, usize) {
    let lines = bytes.split(|byte| *byte == b'\n');
    let (mut mappings, mut left_out) = (Vec::<Mapping>::new(), 0);
    for line in lines.filter(|line| !line.is_empty()) {
        match parse_line(line) {
            Some(mut mapping) if mappings.len() < MAX_MAPPINGS => {
                // The parts of a file stand together: one copy of its path is enough.
                let before = mappings.last().map(|before| &before.path);
                if let Some(path) = before.filter(|path| **path == mapping.path) {
                    mapping.path.clone_from(path);
                }
                mappings.push(mapping);
            }
            _ => left_out += 1,
        }
    }
    mappings.sort_by_key(|mapping| mapping.range.start);
    mark_programs(&mut mappings);
    (mappings, left_out)
}

/// How much memory they take at most: paths may be shared.
pub(super) fn bytes_of(mappings: &[Mapping]) -> usize {
    let path = |mapping: &Mapping| {
        mapping
            .path
            .as_ref()
            .map_or(0, |path| path.as_bytes().len())
    };
    size_of_val(mappings) + mappings.iter().map(path).sum::<usize>()
}

/// A file that is mapped executable anywhere is a program or library, in all its mappings.
fn mark_programs(mappings: &mut [Mapping]) {
    let programs: HashSet<FileId> = mappings
        .iter()
        .filter(|mapping| mapping.executable && mapping.kind == MappingKind::File)
        .filter_map(|mapping| mapping.file)
        .collect();
    for mapping in mappings {
        if mapping.kind == MappingKind::File
            && mapping.file.is_some_and(|file| programs.contains(&file))
        {
            mapping.kind = MappingKind::Exe;
        }
    }
}

/// `START-END PERMISSIONS OFFSET MAJOR:MINOR INODE PATH`.
fn parse_line(line: &[u8]) -> Option<Mapping> {
    let mut rest = line;
    let range = word(&mut rest)?;
    let permissions = word(&mut rest)?;
    let offset = hex(word(&mut rest)?)?;
    let device = word(&mut rest)?;
    let ino: u64 = word(&mut rest)?.parse().ok()?;
    let (start, end) = range.split_once('-')?;
    let (major, minor) = device.split_once(':')?;
    let dev = u32::try_from(hex(major)? << MINOR_BITS | hex(minor)?).ok()?;
    let label = rest.trim_ascii_start();
    let shared = permissions.as_bytes().get(3) == Some(&b's');
    let file = (ino != 0).then_some(FileId { dev, ino });
    let named = classify(label, file.is_some(), shared);
    let range = hex(start)?..hex(end)?;
    (range.start < range.end).then_some(Mapping {
        range,
        offset,
        executable: permissions.as_bytes().get(2) == Some(&b'x'),
        file,
        kind: named.kind,
        path: named.path,
        deleted: named.deleted,
    })
}

fn word<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let text = rest.trim_ascii_start();
    let end = text
        .iter()
        .position(|byte| *byte == b' ')
        .unwrap_or(text.len());
    let (word, after) = text.split_at(end);
    *rest = after;
    std::str::from_utf8(word)
        .ok()
        .filter(|word| !word.is_empty())
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

struct Named {
    kind: MappingKind,
    path: Option<Name>,
    deleted: bool,
}

/// What the last column means.
fn classify(label: &[u8], has_file: bool, shared: bool) -> Named {
    let named = |kind, path: Option<&[u8]>| Named {
        kind,
        path: path.map(|path| Name::from(&*unescape(path))),
        deleted: false,
    };
    let inner = label
        .strip_prefix(b"[")
        .and_then(|label| label.strip_suffix(b"]"));
    if let Some(inner) = inner.filter(|_| !has_file) {
        return match inner {
            b"heap" => named(MappingKind::Heap, None),
            b"stack" => named(MappingKind::Stack, None),
            _ => match inner.strip_prefix(b"anon:") {
                Some(name) => named(MappingKind::Anon, Some(name)),
                None => named(MappingKind::Special, Some(inner)),
            },
        };
    }
    if let Some(name) = inner.and_then(|inner| inner.strip_prefix(b"anon_shmem:")) {
        return named(MappingKind::Shmem, Some(name));
    }
    if label.is_empty() {
        let kind = if shared && has_file {
            MappingKind::Shmem
        } else {
            MappingKind::Anon
        };
        return named(kind, None);
    }
    let (path, deleted) = match label.strip_suffix(b" (deleted)") {
        Some(path) => (path, true),
        None => (label, false),
    };
    if let Some(name) = path.strip_prefix(b"/memfd:") {
        return named(MappingKind::Memfd, Some(name));
    }
    // Shared anonymous memory, System V segments and anonymous huge pages are files that were
    // never in a directory (mm/shmem.c, ipc/shm.c, fs/hugetlbfs/inode.c).
    if deleted && path == b"/dev/zero" {
        return named(MappingKind::Shmem, None);
    }
    if deleted && path.starts_with(b"/SYSV") {
        return named(MappingKind::Shmem, Some(&path[1..]));
    }
    if deleted && path == b"/anon_hugepage" {
        return named(MappingKind::Anon, Some(b"anon_hugepage"));
    }
    let kind = if path.starts_with(b"/dev/shm/") {
        MappingKind::Shmem
    } else if path.starts_with(b"anon_inode:") {
        MappingKind::Special
    } else {
        MappingKind::File
    };
    Named {
        deleted,
        ..named(kind, Some(path))
    }
}

/// The kernel writes a newline as `\012` (seq_path in show_map_vma) and nothing else escaped, so a
/// path that holds these four characters cannot be told from one with a newline.
fn unescape(path: &[u8]) -> Vec<u8> {
    const NEWLINE: &[u8] = br"\012";
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest
        .windows(NEWLINE.len())
        .position(|window| window == NEWLINE)
    {
        plain.extend_from_slice(&rest[..at]);
        plain.push(b'\n');
        rest = &rest[at + NEWLINE.len()..];
    }
    plain.extend_from_slice(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &[u8] = b"\
55d000000000-55d000001000 r--p 00000000 08:01 77                         /usr/bin/server\n\
55d000001000-55d000002000 r-xp 00001000 08:01 77                         /usr/bin/server\n\
55d000010000-55d000020000 rw-p 00000000 00:00 0                          [heap]\n\
7f0000000000-7f0000100000 r--s 00002000 08:01 99                         /data/a b\\012c.db (deleted)\n\
7f0000200000-7f0000201000 rw-s 00000000 00:01 1025                       /memfd:buffer (deleted)\n\
7f0000300000-7f0000301000 rw-s 00000000 00:01 1026                       /dev/zero (deleted)\n\
7f0000400000-7f0000401000 rw-s 00000000 00:01 32768                      /SYSV00000000 (deleted)\n\
7f0000500000-7f0000501000 rw-p 00000000 00:00 0                          [anon:arena]\n\
7f0000600000-7f0000601000 rw-p 00000000 00:00 0 \n\
7f0000700000-7f0000701000 rw-s 00000000 00:19 5                          /dev/shm/x\n\
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]\n\
7ffc00100000-7ffc00102000 r-xp 00000000 00:00 0                          [vdso]\n\
broken line\n\
10-5 r--p 0 0:0 0\n";

    fn at(address: u64) -> Mapping {
        let (mappings, _) = parse(SAMPLE);
        mappings
            .into_iter()
            .find(|mapping| mapping.range.contains(&address))
            .expect("mapped")
    }

    fn shown(address: u64) -> (MappingKind, Option<String>, bool) {
        let mapping = at(address);
        let path = mapping
            .path
            .map(|path| path.as_bytes().escape_ascii().to_string());
        (mapping.kind, path, mapping.deleted)
    }

    #[test]
    fn every_kind_of_memory_is_told() {
        let path = |path: &str| Some(path.to_owned());
        let program = (MappingKind::Exe, path("/usr/bin/server"), false);
        assert_eq!(shown(0x55d0_0000_0000), program);
        assert_eq!(shown(0x55d0_0000_1000), program);
        assert_eq!(shown(0x55d0_0001_0000), (MappingKind::Heap, None, false));
        assert_eq!(
            shown(0x7f00_0000_0000),
            (MappingKind::File, path("/data/a b\\nc.db"), true)
        );
        assert_eq!(
            shown(0x7f00_0020_0000),
            (MappingKind::Memfd, path("buffer"), false)
        );
        assert_eq!(shown(0x7f00_0030_0000), (MappingKind::Shmem, None, false));
        assert_eq!(
            shown(0x7f00_0040_0000),
            (MappingKind::Shmem, path("SYSV00000000"), false)
        );
        assert_eq!(
            shown(0x7f00_0050_0000),
            (MappingKind::Anon, path("arena"), false)
        );
        assert_eq!(shown(0x7f00_0060_0000), (MappingKind::Anon, None, false));
        assert_eq!(
            shown(0x7f00_0070_0000),
            (MappingKind::Shmem, path("/dev/shm/x"), false)
        );
        assert_eq!(shown(0x7ffc_0000_0000), (MappingKind::Stack, None, false));
        assert_eq!(
            shown(0x7ffc_0010_0000),
            (MappingKind::Special, path("vdso"), false)
        );
    }

    #[test]
    fn offsets_count_from_the_mapping() {
        let mapping = at(0x7f00_0000_3000);
        assert_eq!(mapping.offset_of(0x7f00_0000_3000), 0x5000);
        assert_eq!(
            mapping.file,
            Some(FileId {
                dev: 8 << 20 | 1,
                ino: 99
            })
        );
        assert!(mapping.has_offsets());
        assert!(!at(0x55d0_0001_0000).has_offsets());
    }

    #[test]
    fn what_is_no_line_is_counted() {
        assert_eq!(parse(SAMPLE).1, 2);
        assert_eq!(parse(b"\xff\xfe\n\n-\n").1, 2);
        assert!(parse(b"").0.is_empty());
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let line = |at: usize| format!("{:x}-{:x} r--p 0 8:1 7 /x\n", at * 4096, (at + 1) * 4096);
        let text: String = (0..MAX_MAPPINGS + 3).map(line).collect();
        let (mappings, left_out) = parse(text.as_bytes());
        assert_eq!((mappings.len(), left_out), (MAX_MAPPINGS, 3));
        let [Some(first), Some(last)] =
            [mappings.first(), mappings.last()].map(|at| at?.path.as_ref())
        else {
            panic!("without a path")
        };
        assert!(first.is_same(last), "one copy of a path");
    }

    #[test]
    fn our_own_map_is_understood() {
        let text = std::fs::read("/proc/self/maps").expect("readable");
        let (mappings, malformed) = parse(&text);
        assert_eq!(malformed, 0);
        let here = our_own_map_is_understood as *const () as u64;
        let code = mappings
            .iter()
            .find(|mapping| mapping.range.contains(&here));
        assert_eq!(
            code.map(|code| (code.kind, code.executable)),
            Some((MappingKind::Exe, true))
        );
    }
}
