//! Every value of what is enumerated is documented.

use super::*;

#[test]
fn every_value_is_documented() {
    let mut values: Vec<String> = Vec::new();
    let mut fault = samples::fault();
    let mut note = |fault: &Fault, key: &str| {
        let line = one(samples::record(fault.clone()));
        values.push(line[key].as_str().unwrap().to_owned());
    };
    for mode in [Mode::User, Mode::Kernel, Mode::Gup] {
        fault.facts.mode = mode;
        note(&fault, "mode");
    }
    for access in [Access::Read, Access::Write, Access::Exec] {
        fault.facts.access = Some(access);
        note(&fault, "access");
    }
    for end in [End::Exact, End::Approximate, End::Died] {
        fault.end = end;
        note(&fault, "end");
    }
    use MappingKind::{Anon, Exe, File, Heap, Memfd, Shmem, Special, Stack};
    for mapping in [File, Exe, Anon, Heap, Stack, Shmem, Memfd, Special] {
        fault.facts.place.mapping = Some(mapping);
        note(&fault, "mapping");
    }
    for cause in [
        Cause::FileRead,
        Cause::ReadWait,
        Cause::FileWait,
        Cause::SwapIn,
        Cause::Zswap,
        Cause::MmapLock,
        Cause::DirectReclaim,
        Cause::MemcgReclaim,
        Cause::Compaction,
        Cause::HugePage,
        Cause::Writeback,
        Cause::Fuse,
        Cause::Nfs,
        Cause::Userfaultfd,
        Cause::Cow,
        Cause::Migration,
        Cause::Unknown,
    ] {
        fault.facts.cause = Some(cause);
        note(&fault, "cause");
    }
    for value in values {
        assert!(DOCS.contains(&format!("`{value}`")), "{value}");
    }
}
