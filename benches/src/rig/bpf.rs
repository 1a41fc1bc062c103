//! bpf(2), the little of it that aya does not offer: run times of another process's programs with the
//! hooks they are on, and an empty program on the same hook.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::fs;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use anyhow::Context as _;
use aya_obj::generated::{
    bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_prog_info, bpf_prog_type,
};

/// The instructions `r0 = 0; exit` (linux/bpf_common.h).
const RETURN_0: [u8; 2] = [0xb7, 0x95];

/// A program's own account, and where it is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) id: u32,
    /// The kernel keeps its first 15 bytes.
    pub(crate) name: String,
    /// The BTF id of what it is attached to. The kernel tells it since commit b79c9fc9551b (6.0), and
    /// only tracing programs have one.
    pub(crate) hook: Option<u32>,
    /// Time spent in it while statistics were on, ns.
    pub(crate) run_ns: u64,
    /// How often it ran meanwhile.
    pub(crate) runs: u64,
}

/// Keeps the kernel counting the run times of all programs; ends with the descriptor, however this
/// process ends (BPF_ENABLE_STATS, kernel 5.8).
pub(crate) fn enable_stats() -> anyhow::Result<OwnedFd> {
    let mut attr = zeroed();
    attr.enable_stats.type_ = aya_obj::generated::bpf_stats_type::BPF_STATS_RUN_TIME as u32;
    call_for_fd(bpf_cmd::BPF_ENABLE_STATS, &mut attr).context("counting run times of BPF programs")
}

/// The ids of the programs that a process has open, from /proc/PID/fdinfo.
pub(crate) fn programs_of(pid: u32) -> anyhow::Result<BTreeSet<u32>> {
    let directory = format!("/proc/{pid}/fdinfo");
    let entries = fs::read_dir(&directory).with_context(|| directory.clone())?;
    // A descriptor may be closed meanwhile.
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    Ok(texts
        .filter_map(|text| number_in(&text, "prog_id:"))
        .collect())
}

/// Memory that the kernel has for the maps that a process has open, bytes.
pub(crate) fn map_bytes_of(pid: u32) -> anyhow::Result<u64> {
    let directory = format!("/proc/{pid}/fdinfo");
    let entries = fs::read_dir(&directory).with_context(|| directory.clone())?;
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    let maps = texts.filter_map(|text| {
        let id: u32 = number_in(&text, "map_id:")?;
        Some((id, number_in::<u64>(&text, "memlock:")?))
    });
    let once: std::collections::BTreeMap<u32, u64> = maps.collect();
    Ok(once.values().sum())
}

fn number_in<T: std::str::FromStr>(text: &str, name: &str) -> Option<T> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().parse().ok()
}

/// The BTF id of a tracepoint of the kernel, without the modules.
pub(crate) fn tracepoint(name: &str) -> anyhow::Result<u32> {
    let file = "/sys/kernel/btf/vmlinux";
    let btf = btf_rs::Btf::from_file(file).context(file)?;
    let types = btf.resolve_ids_by_name(&format!("btf_trace_{name}"));
    let ids = types.with_context(|| format!("{file} has no tracepoint {name}"))?;
    ids.first()
        .copied()
        .with_context(|| format!("{file} has no tracepoint {name}"))
}

/// How many programs the kernel has in all, of whomever.
pub(crate) fn loaded() -> anyhow::Result<usize> {
    let mut count = 0;
    let mut attr = zeroed();
    loop {
        match call(bpf_cmd::BPF_PROG_GET_NEXT_ID, &mut attr) {
            Ok(_) => count += 1,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(count),
            Err(error) => return Err(error).context("counting BPF programs"),
        }
        // SAFETY: the member of the union that the command has just filled.
        let next = unsafe { attr.__bindgen_anon_6.next_id };
        attr.__bindgen_anon_6.__bindgen_anon_1.start_id = next;
    }
}

/// What the kernel says of a program.
pub(crate) fn program(id: u32) -> anyhow::Result<Program> {
    let mut attr = zeroed();
    attr.__bindgen_anon_6.__bindgen_anon_1.prog_id = id;
    let fd = call_for_fd(bpf_cmd::BPF_PROG_GET_FD_BY_ID, &mut attr)
        .with_context(|| format!("opening the BPF program {id}"))?;
    account(&fd)
}

fn account(fd: &OwnedFd) -> anyhow::Result<Program> {
    // SAFETY: plain integers, all zero is valid, and asks for nothing but the fixed part.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    let mut attr = zeroed();
    attr.info.bpf_fd = u32::try_from(fd.as_raw_fd())?;
    attr.info.info_len = u32::try_from(size_of::<bpf_prog_info>())?;
    attr.info.info = (&raw mut info) as u64;
    call(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)
        .context("asking for a BPF program's account")?;
    let name: Vec<u8> = info.name.iter().map(|byte| byte.cast_unsigned()).collect();
    let name = CStr::from_bytes_until_nul(&name).context("a program's name without end")?;
    Ok(Program {
        id: info.id,
        name: name.to_string_lossy().into_owned(),
        hook: Some(info.attach_btf_id).filter(|hook| *hook != 0),
        run_ns: info.run_time_ns,
        runs: info.run_cnt,
    })
}

/// A program that does nothing, attached to a typed tracepoint as long as this lives.
pub(crate) struct Empty {
    program: OwnedFd,
    _link: OwnedFd,
}

impl Empty {
    /// Attaches one to the tracepoint with this BTF id.
    pub(crate) fn attach(hook: u32) -> anyhow::Result<Empty> {
        // SAFETY: plain integers, for which all zero is valid.
        let mut code: [bpf_insn; 2] = unsafe { std::mem::zeroed() };
        code[0].code = RETURN_0[0];
        code[1].code = RETURN_0[1];
        let mut attr = zeroed();
        // SAFETY: this member of the union is what BPF_PROG_LOAD reads; all of it is initialised.
        let load = unsafe { &mut attr.__bindgen_anon_3 };
        load.prog_type = bpf_prog_type::BPF_PROG_TYPE_TRACING as u32;
        load.expected_attach_type = bpf_attach_type::BPF_TRACE_RAW_TP as u32;
        load.attach_btf_id = hook;
        load.insns = code.as_ptr() as u64;
        load.insn_cnt = 2;
        load.license = c"GPL".as_ptr() as u64;
        let program = call_for_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr)
            .with_context(|| format!("loading an empty program for the hook with BTF id {hook}"))?;
        let mut attr = zeroed();
        attr.raw_tracepoint.prog_fd = u32::try_from(program.as_raw_fd())?;
        let link = call_for_fd(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr)
            .with_context(|| format!("attaching an empty program to the BTF id {hook}"))?;
        Ok(Empty {
            program,
            _link: link,
        })
    }

    /// Its account.
    pub(crate) fn account(&self) -> anyhow::Result<Program> {
        account(&self.program)
    }
}

fn zeroed() -> bpf_attr {
    // SAFETY: a union of plain integers, for which all zero is valid; the kernel demands that what is
    // not used is zero.
    unsafe { std::mem::zeroed() }
}

fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<RawFd> {
    // SAFETY: the attributes outlive the call and have the size given; every pointer in them is to
    // something that its caller keeps.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            &raw mut *attr,
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    RawFd::try_from(result).map_err(io::Error::other)
}

fn call_for_fd(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = call(command, attr)?;
    // SAFETY: the commands used return a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_tell_their_program() {
        let text = "pos:\t0\nprog_type:\t26\nprog_id:\t41\nrun_time_ns:\t0\n";
        assert_eq!(number_in(text, "prog_id:"), Some(41));
        assert_eq!(number_in::<u32>("pos:\t0\n", "prog_id:"), None);
    }
}
