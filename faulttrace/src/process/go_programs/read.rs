//! What is the process's own: which file it runs, where that lies in its memory, and what is there. Opening
//! the file hangs with its file system, the rest with the process's `mmap_lock`.

use std::fs::{File, Metadata, read_link};
use std::io;
use std::path::Path;

use faulttrace_ebpf::UserRegisters;
use faulttrace_ebpf::goroutine::{GoLayout, Goroutine, labels_form};

use super::{Found, NoLayout, Question};
use crate::model::{LayoutSource, Name};
use crate::process::elf_files::{is_same, open_regular};
use crate::process::go::build_info::numbers;
use crate::process::go::runtime::{GoRuntime, Layout};
use crate::process::goroutines::{self, Memory};
use crate::process::map_reader::{self, Held};
use crate::process::maps::Mapping;

/// The file that a process runs; `None` if it has ended.
pub(super) fn program(pid: u32) -> io::Result<Option<File>> {
    let path = format!("/proc/{pid}/exe");
    match open_regular(Path::new(&path)) {
        Some(file) => Ok(Some(file)),
        None if has_ended(pid) => Ok(None),
        None => Err(io::Error::other("its program cannot be opened")),
    }
}

/// Its link is there as long as the process is.
fn has_ended(pid: u32) -> bool {
    read_link(format!("/proc/{pid}/exe")).is_err()
}

pub(super) fn found(question: &Question, file: &Metadata, program: &GoRuntime) -> Found {
    let pid = question.pid;
    let memory = Memory(pid);
    let layout = layout(pid, file, program);
    let procs = layout
        .as_ref()
        .ok()
        .filter(|(layout, _)| layout.gomaxprocs != 0)
        .and_then(|(layout, _)| memory.word(layout.gomaxprocs, 0))
        // Not before the runtime has set itself up.
        .filter(|procs| *procs != 0);
    Found {
        pid,
        version: Name::from(program.version.as_str()),
        module: program.module.as_deref().map(Name::from),
        procs,
        goroutines: layout
            .iter()
            .flat_map(|(layout, _)| stuck(&memory, layout, &question.stuck))
            .collect(),
        layout,
        question: question.number,
    }
}

/// Where things are in this process.
fn layout(
    pid: u32,
    file: &Metadata,
    program: &GoRuntime,
) -> Result<(GoLayout, LayoutSource), NoLayout> {
    let layout = program.layout.as_ref().ok_or(NoLayout::Unknown)?;
    let mut memory = Held::default();
    let map = map_reader::read(pid, &mut memory).map_err(|error| {
        log::info!("memory map of {pid}: {error}");
        if has_ended(pid) {
            NoLayout::Ended
        } else {
            NoLayout::NotInMemory
        }
    })?;
    let moved = moved(layout, file, &map.mappings).ok_or(NoLayout::NotInMemory)?;
    let labels = labels_form(&program.version);
    Ok((in_process(layout, labels, moved), layout.source))
}

fn stuck(
    memory: &Memory,
    layout: &GoLayout,
    threads: &[UserRegisters],
) -> impl Iterator<Item = (u32, Goroutine)> {
    threads.iter().filter_map(|thread| {
        let found = goroutines::of(memory, layout, thread)?;
        Some((thread.tid, found))
    })
}

/// What labels of the profiler are kept in.
fn labels_form(version: &str) -> u32 {
    match numbers(version) {
        Some((1, 18..=23)) => labels_form::MAP,
        Some((1, 24..=27)) => labels_form::LIST,
        _ => labels_form::UNKNOWN,
    }
}

/// How far the program lies from where its linker put it.
fn moved(layout: &Layout, file: &Metadata, mappings: &[Mapping]) -> Option<u64> {
    let (address, offset) = layout.code_segment;
    let begins = mappings.iter().find(|mapping| {
        let length = mapping.range.end.saturating_sub(mapping.range.start);
        let within = offset.checked_sub(mapping.offset);
        mapping.executable
            && mapping.file.is_some_and(|id| is_same(file, id))
            && within.is_some_and(|within| within < length)
    })?;
    let at = begins.range.start.wrapping_add(offset - begins.offset);
    Some(at.wrapping_sub(address))
}

/// The layout with addresses of the process.
fn in_process(layout: &Layout, labels_form: u32, moved: u64) -> GoLayout {
    let address = |linked: u64| linked.wrapping_add(moved);
    let known = |linked: Option<u64>| linked.map_or(0, address);
    let offsets = &layout.offsets;
    GoLayout {
        text_begin: address(layout.text.0),
        text_end: address(layout.text.1),
        gomaxprocs: known(layout.gomaxprocs),
        runqsize: known(layout.runq_size),
        tls_g: layout.tls_g.unwrap_or(0),
        has_tls: u32::from(layout.tls_g.is_some()),
        g_m: offsets.g_m,
        g_status: offsets.g_status,
        g_id: offsets.g_goid,
        g_start_pc: offsets.g_start_pc,
        g_go_pc: offsets.g_go_pc,
        m_g0: offsets.m_g0,
        m_curg: offsets.m_curg,
        m_p: offsets.m_p,
        p_id: offsets.p_id,
        p_runq_head: offsets.p_runq_head,
        p_runq_tail: offsets.p_runq_tail,
        p_run_next: offsets.p_run_next,
        g_labels: offsets.g_labels,
        labels_form,
        padding: 0,
    }
}
