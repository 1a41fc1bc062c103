//! The parsers of what a target, or somebody in its place, wrote: each is tried with any bytes, and
//! what it answers must be consistent. Each says how much was understood.

use std::io::Write as _;
use std::time::Duration;

use faulttrace::probe::KernelTypes;
use faulttrace::process::FileHint;
use faulttrace::process::build_id;
use faulttrace::process::go;
use faulttrace::process::maps::{self, FileId};
use faulttrace::process::perf_map::Functions;
use faulttrace::process::space::{Answer, Snapshot, Space};
use faulttrace::process::unwind;

/// `/proc/PID/maps`, and look-ups in it: at the edges of what it says, and beside them.
pub fn maps(bytes: &[u8]) -> usize {
    let (mappings, _) = maps::parse(bytes);
    assert!(
        mappings.is_sorted_by_key(|mapping| mapping.range.start),
        "look-ups need order"
    );
    let probes: Vec<(u64, Option<FileId>)> = mappings
        .iter()
        .flat_map(|mapping| {
            let (start, end) = (mapping.range.start, mapping.range.end);
            [start.wrapping_sub(1), start, end - 1, end].map(|address| (address, mapping.file))
        })
        .chain([(0, None), (u64::MAX, None)])
        .collect();
    let count = mappings.len();
    let mut space = Space::default();
    space.update(Snapshot {
        mappings,
        own_pid: 1,
        uid: 0,
        took: Duration::ZERO,
    });
    for (address, file) in probes {
        if let Some(mapping) = space.find(address) {
            assert!(mapping.range.contains(&address));
            let _ = mapping.offset_of(address);
        }
        let hint = file.map(|file| FileHint {
            dev: file.dev,
            ino: file.ino,
            page_offset: address,
        });
        if let Answer::Sure(place) = space.place(Some(address), None) {
            assert!(place.offset.is_none_or(|offset| offset % 4096 == 0));
        }
        let _ = space.place(Some(address), hint);
        let by_file = space.place(None, hint);
        assert!(
            hint.is_none() || by_file != Answer::Stale,
            "every file has a mapping"
        );
    }
    count
}

/// `/tmp/perf-PID.map`, and look-ups at the addresses that stand in it and around.
pub fn perf_map(bytes: &[u8]) -> usize {
    let functions = Functions::parse(bytes);
    let words = bytes.split(u8::is_ascii_whitespace);
    let addresses = words.filter_map(|word| {
        let text = std::str::from_utf8(word).ok()?;
        u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
    });
    let around =
        addresses.flat_map(|address| [address.wrapping_sub(1), address, address.wrapping_add(1)]);
    let mut found = 0;
    for address in around.chain([0, u64::MAX]) {
        if let Some((name, start)) = functions.find(address) {
            assert!(start <= address && !name.as_bytes().is_empty());
            found += 1;
        }
    }
    found
}

/// A kernel's BTF; 1 if all that the programs need is in it.
pub fn btf(bytes: &[u8]) -> usize {
    usize::from(KernelTypes::from_bytes(bytes).is_ok())
}

/// A program or library, asked for its build id; 1 if it has one.
pub fn build_id(bytes: &[u8]) -> usize {
    let Ok(mut file) = tempfile::tempfile_in("/dev/shm") else {
        panic!("no room in memory");
    };
    assert!(file.write_all(bytes).is_ok(), "no room in memory");
    let found = build_id::read(&file);
    assert!(
        found
            .as_ref()
            .is_none_or(|id| !id.is_empty() && id.len() <= 64)
    );
    usize::from(found.is_some())
}

/// A program's tables for unwinding, at the first of its offsets: at how many it tells something.
pub fn unwind(bytes: &[u8]) -> usize {
    const OFFSETS: u64 = 512;
    let told = |offset: &u64| unwind::returns_to_stack_top(bytes, *offset).is_some();
    (0..OFFSETS).filter(told).count()
}

/// A Go program, and the functions at its first offsets.
pub fn go(bytes: &[u8]) -> usize {
    go::understood(bytes)
}
