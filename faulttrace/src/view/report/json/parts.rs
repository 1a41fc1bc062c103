//! The objects in a section: times at once, stalls, offsets, ways through files.

use serde::Serialize;

use crate::model::analysis::{
    Concurrency, FileAccess, FileDetail, HotRange, Offsets, Pattern, Percentiles, Stall,
    StallThread, Stalls, Wall,
};
use crate::model::summary::FileKey;
use crate::model::{Cause, MappingKind};
use crate::view::escape::Escaped;
use crate::view::json::record::deleted;
use crate::view::json::scalar::{escaped, share};
use crate::view::json::stall::MeanwhilePart;
use crate::view::json::summary::FilePart;

#[derive(Serialize)]
pub(super) struct PercentilesPart {
    p50: u64,
    p90: u64,
    p99: u64,
    max: u64,
}

impl PercentilesPart {
    pub(super) fn new(of: &Percentiles) -> Self {
        PercentilesPart {
            p50: of.p50_ns,
            p90: of.p90_ns,
            p99: of.p99_ns,
            max: of.max_ns,
        }
    }
}

#[derive(Serialize)]
pub(super) struct AtOnce {
    threads: Option<u64>,
    max_threads: u64,
    one_ns: u64,
    half_ns: Option<u64>,
    all_ns: Option<u64>,
    one_share: Option<f64>,
    half_share: Option<f64>,
    all_share: Option<f64>,
}

impl AtOnce {
    pub(super) fn new(of: &Concurrency, wall: Option<Wall>) -> Self {
        let share_of = |ns: Option<u64>| share(ns?, wall?.length_ns());
        AtOnce {
            threads: of.threads,
            max_threads: of.max_threads,
            one_ns: of.one_ns,
            half_ns: of.half_ns,
            all_ns: of.all_ns,
            one_share: share_of(Some(of.one_ns)),
            half_share: share_of(of.half_ns),
            all_share: share_of(of.all_ns),
        }
    }
}

#[derive(Serialize)]
pub(super) struct StallsPart<'a> {
    threads_needed: u64,
    threads_needed_least: u64,
    threads_needed_most: u64,
    count: u64,
    total_ns: u64,
    longest: Vec<StallPart<'a>>,
}

impl<'a> StallsPart<'a> {
    pub(super) fn new(of: &'a Stalls) -> Self {
        StallsPart {
            threads_needed: of.needed,
            threads_needed_least: of.needed_bounds.0,
            threads_needed_most: of.needed_bounds.1,
            count: of.count,
            total_ns: of.total_ns,
            longest: of.worst.iter().map(StallPart::new).collect(),
        }
    }
}

#[derive(Serialize)]
struct StallPart<'a> {
    begin_ns: u64,
    end_ns: u64,
    length_ns: u64,
    max_threads: u64,
    threads: u64,
    threads_needed: u64,
    members: Vec<Member<'a>>,
    meanwhile: Option<MeanwhilePart>,
}

impl<'a> StallPart<'a> {
    fn new(of: &'a Stall) -> Self {
        StallPart {
            begin_ns: of.begin_ns,
            end_ns: of.end_ns,
            length_ns: of.end_ns.saturating_sub(of.begin_ns),
            max_threads: of.max_threads,
            threads: of.threads,
            threads_needed: of.needed,
            members: of.members.iter().map(Member::new).collect(),
            meanwhile: of.meanwhile.as_ref().map(MeanwhilePart::new),
        }
    }
}

#[derive(Serialize)]
struct Member<'a> {
    pid: u32,
    tid: u32,
    thread: Option<Escaped<'a>>,
    faults: u64,
    longest_ns: u64,
    cause: Option<&'static str>,
    path: Option<Escaped<'a>>,
    mapping: Option<&'static str>,
    deleted: Option<bool>,
}

impl<'a> Member<'a> {
    fn new(of: &'a StallThread) -> Self {
        let file = of.file.as_ref();
        let path = file.and_then(|file| file.path.as_ref());
        let is_deleted = file.is_some_and(|file| file.deleted);
        Member {
            pid: of.thread.pid,
            tid: of.thread.tid,
            thread: escaped(of.name.as_ref()),
            faults: of.faults,
            longest_ns: of.longest_ns,
            cause: of.cause.map(Cause::as_str),
            path: escaped(path),
            mapping: file.and_then(|file| file.mapping).map(MappingKind::as_str),
            deleted: deleted(is_deleted, path),
        }
    }
}

#[derive(Serialize)]
pub(super) struct FileRow<'a> {
    #[serde(flatten)]
    file: FilePart<'a>,
    offsets: Option<OffsetsPart>,
    access: Option<AccessPart>,
}

impl<'a> FileRow<'a> {
    pub(super) fn new(key: &'a FileKey, detail: Option<&FileDetail>) -> Self {
        let offsets = detail.and_then(|detail| detail.offsets.as_ref());
        let access = detail.and_then(|detail| detail.access.as_ref());
        FileRow {
            file: FilePart::new(key),
            offsets: offsets.map(OffsetsPart::new),
            access: access.map(AccessPart::new),
        }
    }
}

#[derive(Serialize)]
struct Range {
    from: u64,
    to: u64,
    faults: u64,
    blocked_ns: u64,
    blocked_share: Option<f64>,
}

impl Range {
    fn new(of: &HotRange, whole: &HotRange) -> Self {
        Range {
            from: of.from,
            to: of.to,
            faults: of.faults,
            blocked_ns: of.blocked_ns,
            blocked_share: share(of.blocked_ns, whole.blocked_ns),
        }
    }
}

#[derive(Serialize)]
struct OffsetsPart {
    from: u64,
    to: u64,
    faults: u64,
    blocked_ns: u64,
    resolution: u64,
    hot: Vec<Range>,
}

impl OffsetsPart {
    fn new(of: &Offsets) -> Self {
        let whole = &of.whole;
        OffsetsPart {
            from: whole.from,
            to: whole.to,
            faults: whole.faults,
            blocked_ns: whole.blocked_ns,
            resolution: of.resolution,
            hot: of.hot.iter().map(|one| Range::new(one, whole)).collect(),
        }
    }
}

#[derive(Serialize)]
struct AccessPart {
    pattern: &'static str,
    stride: Option<i64>,
    faults: u64,
    steps: u64,
    next_page: u64,
    near: u64,
    far: u64,
    backward: u64,
    repeated: u64,
    same_page: u64,
    read_ahead: u64,
    common_step: Option<i64>,
    common_steps: Option<u64>,
    threads: Ways,
    goroutines: Ways,
    not_followed: u64,
}

impl AccessPart {
    fn new(of: &FileAccess) -> Self {
        let evidence = &of.evidence;
        AccessPart {
            pattern: match of.pattern {
                Pattern::Sequential => "sequential",
                Pattern::Strided(_) => "strided",
                Pattern::Random => "random",
                Pattern::Mixed => "mixed",
                Pattern::TooFew => "too_few",
            },
            stride: match of.pattern {
                Pattern::Strided(step) => Some(step),
                _ => None,
            },
            faults: evidence.faults,
            steps: evidence.steps,
            next_page: evidence.next_page,
            near: evidence.near,
            far: evidence.far,
            backward: evidence.backward,
            repeated: evidence.repeated,
            same_page: evidence.same_page,
            read_ahead: evidence.read_ahead,
            common_step: evidence.common.map(|(step, _)| step),
            common_steps: evidence.common.map(|(_, count)| count),
            threads: Ways::new(of.threads),
            goroutines: Ways::new(of.goroutines),
            not_followed: of.not_followed,
        }
    }
}

#[derive(Serialize)]
struct Ways {
    sequential: u64,
    strided: u64,
    random: u64,
    mixed: u64,
    too_few: u64,
}

impl Ways {
    fn new([sequential, strided, random, mixed, too_few]: [u64; 5]) -> Self {
        Ways {
            sequential,
            strided,
            random,
            mixed,
            too_few,
        }
    }
}
