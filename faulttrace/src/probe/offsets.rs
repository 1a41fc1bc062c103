//! Member offsets of the running kernel's structures, from its BTF.
//!
//! The one module that knows about anonymous nested members and members that were renamed.

use std::fs;

use btf_rs::{Btf, BtfType, Type};

use super::block::{BlockTypes, block_types};
use super::{Error, Need};

/// Where the running kernel tells its types.
pub(super) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// How deep anonymous members are followed; the kernel nests a few levels.
const MAX_NESTING: u32 = 8;
/// How many qualifiers and the like may stand before a type; the kernel has a few. BTF can say that
/// a type is a qualified form of itself.
const MAX_CHAIN: usize = 16;
/// How many members are looked at for one name: the largest structures have some hundreds, but one
/// can say that it holds itself many times.
const MAX_MEMBERS: usize = 100_000;

/// Size of a kernel stack (arch/x86/include/asm/page_64_types.h; with pages of 4 KiB also
/// arch/arm64/include/asm/memory.h). Kernels built with KASAN have
/// larger ones; the programs check what they find, and then name no system call.
pub(super) const THREAD_SIZE: u64 = 16 * 1024;

/// What the programs need to know of this kernel's types. Offsets in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelTypes {
    /// `task_struct.pid`.
    pub task_pid: u64,
    /// `task_struct.tgid`.
    pub task_tgid: u64,
    /// `task_struct.mm`.
    pub task_mm: u64,
    /// `task_struct.comm`.
    pub task_comm: u64,
    /// `task_struct.maj_flt`.
    pub task_maj_flt: u64,
    /// `task_struct.min_flt`.
    pub task_min_flt: u64,
    /// `task_struct.start_time`.
    pub task_start_time: u64,
    /// `task_struct.pagefault_disabled`.
    pub task_pagefault_disabled: u64,
    /// `task_struct.signal`.
    pub task_signal: u64,
    /// `task_struct.__state`, named `state` before kernel commit 2f064a59a11f (5.14).
    pub task_state: u64,
    /// `task_struct.ioac.read_bytes`; 0 without CONFIG_TASK_IO_ACCOUNTING.
    pub task_read_bytes: u64,
    /// `task_struct.thread_pid`.
    pub task_thread_pid: u64,
    /// `task_struct.group_leader`.
    pub task_group_leader: u64,
    /// `pid.level`.
    pub pid_level: u64,
    /// `pid.numbers`.
    pub pid_numbers: u64,
    /// `struct upid`, bytes.
    pub upid_size: u64,
    /// `upid.nr`.
    pub upid_nr: u64,
    /// `upid.ns`.
    pub upid_ns: u64,
    /// `pid_namespace.ns.inum`.
    pub namespace_inum: u64,
    /// `task_struct.stack`.
    pub task_stack: u64,
    /// Bytes from the lowest address of a kernel stack to the registers of user mode at its top.
    pub user_regs: u64,
    /// Members of `pt_regs`.
    pub regs: RegsTypes,
    /// `task_struct.thread.fsbase`, the thread pointer of user mode; 0 on other machines.
    pub task_thread_pointer: u64,
    /// `vm_fault.vma`.
    pub vmf_vma: u64,
    /// `vm_fault.pgoff`.
    pub vmf_pgoff: u64,
    /// `vm_fault.address`, of the page.
    pub vmf_address: u64,
    /// `vm_fault.real_address`, exact to the byte since kernel commit 824ddc601adc (5.18); before,
    /// `vm_fault.address`.
    pub vmf_real_address: u64,
    /// `vm_fault.flags`.
    pub vmf_flags: u64,
    /// `vm_area_struct.vm_start`.
    pub vma_start: u64,
    /// `vm_area_struct.vm_end`.
    pub vma_end: u64,
    /// `vm_area_struct.vm_mm`.
    pub vma_mm: u64,
    /// `vm_area_struct.vm_file`.
    pub vma_file: u64,
    /// `file.f_inode`.
    pub file_inode: u64,
    /// `signal_struct.live`.
    pub signal_live: u64,
    /// `signal_struct.flags`.
    pub signal_flags: u64,
    /// `address_space.host`.
    pub mapping_host: u64,
    /// `inode.i_ino`.
    pub inode_ino: u64,
    /// `inode.i_sb`.
    pub inode_sb: u64,
    /// `super_block.s_dev`.
    pub sb_dev: u64,
    /// `sched_switch` passes prev_state as its fourth argument: kernel commit fa2c3254d7cf (5.18).
    pub switch_has_state: bool,
    /// Programs can iterate over tasks (kernel 5.8).
    pub task_iterator: bool,
    /// BTF id of `handle_mm_fault`, or why no program can be attached to its return.
    pub handler: Result<u32, NoFexit>,
    /// What `--io` needs of the block layer, or what of it is missing.
    pub block: Result<BlockTypes, &'static str>,
    /// Bit i: the tracepoint of `super::JOBS[i]` exists.
    pub tracepoints: u32,
    /// How to read what is in the page cache; `None` if this kernel has it in another form.
    pub folio: Option<FolioTypes>,
}

/// Where `struct pt_regs` has registers of user mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegsTypes {
    /// `pt_regs.cs`; on arm64 `pstate`.
    pub mode: u64,
    /// Which bits of it tell the mode.
    pub mode_mask: u64,
    /// What they are in 64-bit user mode.
    pub mode_user: u64,
    /// `pt_regs.orig_ax`; on arm64 `syscallno`.
    pub syscall: u64,
    /// `pt_regs.ip`; on arm64 `pc`.
    pub ip: u64,
    /// `pt_regs.sp`.
    pub sp: u64,
    /// `pt_regs.bp`; on arm64 `regs[29]`.
    pub bp: u64,
    /// On arm64 `regs[30]`, in which a call leaves where to return to; 0 on x86, where that is on the stack.
    pub returns: u64,
    /// `pt_regs.r14`, in which Go keeps its `g` (Go's src/cmd/compile/abi-internal.md); 0 if there is
    /// none, and on arm64, whose Go programs are not read.
    pub g: u64,
}

/// What is needed to follow pages of the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolioTypes {
    /// `folio.mapping`.
    pub mapping: u64,
    /// `folio.index`.
    pub index: u64,
    /// `folio.flags`.
    pub flags: u64,
    /// `folio._nr_pages`, on older kernels `_folio_nr_pages` (6.12 has that, 6.18 the new name).
    pub pages: u64,
    /// `folio.memcg_data`; 0 without memory cgroups.
    pub memcg: u64,
    /// The flag `PG_head`: there are more pages than one.
    pub large: u64,
    /// `task_struct.reclaim_state`.
    pub task_reclaim: u64,
}

/// Why no program can be attached to the return of `handle_mm_fault`, by the kernel's types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoFexit {
    /// It was inlined or renamed.
    #[error("the kernel's types have no function handle_mm_fault")]
    NoFunction,
    /// It has four since kernel commit bce617edecad (5.9).
    #[error("handle_mm_fault has {0} parameters, not vma, address, flags, regs")]
    Parameters(usize),
    /// A thread that slept in the function when its last program was detached would return into
    /// memory that was freed.
    #[error("this kernel lacks commit e21aa341785c (5.12), without which fexit can crash it")]
    FreesTrampolines,
}

impl KernelTypes {
    /// Reads them from `/sys/kernel/btf/vmlinux`.
    pub fn of_running_kernel() -> Result<Self, Error> {
        let bytes = fs::read(VMLINUX).map_err(|error| Error::Types(error.to_string()))?;
        Self::from_bytes(&bytes)
    }

    /// Reads them from what such a file of any kernel holds. From memory: reading the file as it
    /// parses, btf-rs asks for its position before each of 130,000 types.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let btf = Btf::from_bytes(bytes).map_err(|error| Error::Types(error.to_string()))?;
        Self::from_btf(&btf)
    }

    /// Whether the kernel has one of the tracepoints of `super::JOBS`.
    pub fn has_tracepoint(&self, tracepoint: &str) -> bool {
        let index = super::JOBS
            .iter()
            .position(|job| job.tracepoint == tracepoint);
        index.is_some_and(|index| self.tracepoints & (1 << index) != 0)
    }

    /// The first tracepoint that those miss here who need it.
    pub(super) fn missing(&self, need: Need) -> Option<&'static str> {
        let mut needed = super::JOBS.iter().filter(|job| job.need == need);
        let missing = needed.find(|job| !self.has_tracepoint(job.tracepoint));
        missing.map(|job| job.tracepoint)
    }

    /// Reads them from any kernel's BTF.
    pub fn from_btf(btf: &Btf) -> Result<Self, Error> {
        let member = |structure: &str, name: &str| offset_of(btf, structure, name);
        let state = member("task_struct", "__state").or_else(|_| member("task_struct", "state"))?;
        Ok(Self {
            task_pid: member("task_struct", "pid")?,
            task_tgid: member("task_struct", "tgid")?,
            task_mm: member("task_struct", "mm")?,
            task_comm: member("task_struct", "comm")?,
            task_maj_flt: member("task_struct", "maj_flt")?,
            task_min_flt: member("task_struct", "min_flt")?,
            task_start_time: member("task_struct", "start_time")?,
            task_pagefault_disabled: member("task_struct", "pagefault_disabled")?,
            task_signal: member("task_struct", "signal")?,
            task_state: state,
            task_read_bytes: nested(
                btf,
                ("task_struct", "ioac"),
                ("task_io_accounting", "read_bytes"),
            ),
            task_thread_pid: member("task_struct", "thread_pid")?,
            task_group_leader: member("task_struct", "group_leader")?,
            pid_level: member("pid", "level")?,
            pid_numbers: member("pid", "numbers")?,
            upid_size: size_of_type(btf, "upid")?,
            upid_nr: member("upid", "nr")?,
            upid_ns: member("upid", "ns")?,
            namespace_inum: member("pid_namespace", "ns")? + member("ns_common", "inum")?,
            task_stack: member("task_struct", "stack")?,
            user_regs: THREAD_SIZE.saturating_sub(size_of_type(btf, "pt_regs")?),
            regs: regs(btf)?,
            task_thread_pointer: nested(
                btf,
                ("task_struct", "thread"),
                ("thread_struct", "fsbase"),
            ),
            vmf_vma: member("vm_fault", "vma")?,
            vmf_pgoff: member("vm_fault", "pgoff")?,
            vmf_address: member("vm_fault", "address")?,
            vmf_real_address: member("vm_fault", "real_address")
                .or_else(|_| member("vm_fault", "address"))?,
            vmf_flags: member("vm_fault", "flags")?,
            vma_start: member("vm_area_struct", "vm_start")?,
            vma_end: member("vm_area_struct", "vm_end")?,
            vma_mm: member("vm_area_struct", "vm_mm")?,
            vma_file: member("vm_area_struct", "vm_file")?,
            file_inode: member("file", "f_inode")?,
            signal_live: member("signal_struct", "live")?,
            signal_flags: member("signal_struct", "flags")?,
            mapping_host: member("address_space", "host")?,
            inode_ino: member("inode", "i_ino")?,
            inode_sb: member("inode", "i_sb")?,
            sb_dev: member("super_block", "s_dev")?,
            // void *__data, bool preempt, prev, next[, prev_state]
            switch_has_state: tracepoint_arguments(btf, "sched_switch")
                .is_some_and(|count| count >= 5),
            task_iterator: btf.resolve_types_by_name("bpf_iter_task").is_ok(),
            handler: handler(btf),
            block: block_types(btf),
            tracepoints: tracepoints(btf),
            folio: folio(btf).ok(),
        })
    }
}

fn regs(btf: &Btf) -> Result<RegsTypes, Error> {
    let member = |name: &str| offset_of(btf, "pt_regs", name);
    if let Ok(pstate) = member("pstate") {
        return Ok(RegsTypes {
            mode: pstate,
            // `PSR_MODE_MASK`, with the bit of 32-bit programs, and `PSR_MODE_EL0t`
            // (arch/arm64/include/uapi/asm/ptrace.h).
            mode_mask: 0x1f,
            mode_user: 0,
            syscall: member("syscallno")?,
            ip: member("pc")?,
            sp: member("sp")?,
            bp: member("regs")? + 29 * 8,
            returns: member("regs")? + 30 * 8,
            g: 0,
        });
    }
    Ok(RegsTypes {
        mode: member("cs")?,
        // `__USER_CS` (arch/x86/include/asm/segment.h).
        mode_mask: 0xffff,
        mode_user: 0x33,
        syscall: member("orig_ax")?,
        ip: member("ip")?,
        sp: member("sp")?,
        bp: member("bp")?,
        returns: 0,
        g: member("r14").unwrap_or(0),
    })
}

/// Where a member is of a structure that is a member of another; 0 if there is none.
fn nested(btf: &Btf, outer: (&str, &str), inner: (&str, &str)) -> u64 {
    let of = |(structure, member)| offset_of(btf, structure, member).ok();
    let both = of(outer).zip(of(inner));
    both.map_or(0, |(outer, inner)| outer.saturating_add(inner))
}

fn folio(btf: &Btf) -> Result<FolioTypes, Error> {
    let member = |name: &str| offset_of(btf, "folio", name);
    let head = enumerator(btf, "pageflags", "PG_head")?;
    let large = 1_u64.checked_shl(head);
    Ok(FolioTypes {
        mapping: member("mapping")?,
        index: member("index")?,
        flags: member("flags")?,
        pages: member("_nr_pages").or_else(|_| member("_folio_nr_pages"))?,
        memcg: member("memcg_data").unwrap_or(0),
        large: large.ok_or_else(|| Error::Types(format!("PG_head is {head}")))?,
        task_reclaim: offset_of(btf, "task_struct", "reclaim_state")?,
    })
}

/// The value of a name in an enumeration.
fn enumerator(btf: &Btf, name: &str, wanted: &str) -> Result<u32, Error> {
    let types = btf.resolve_types_by_name(name).unwrap_or_default();
    let members = types.iter().filter_map(|candidate| match candidate {
        Type::Enum(found) => Some(&found.members),
        _ => None,
    });
    members
        .flatten()
        .take(MAX_MEMBERS)
        .find(|member| btf.resolve_name(*member).is_ok_and(|name| name == wanted))
        .map(btf_rs::EnumMember::val)
        .ok_or_else(|| Error::Types(format!("enum {name} has no {wanted}")))
}

fn tracepoints(btf: &Btf) -> u32 {
    let bit = |(index, job): (usize, &super::Job)| {
        u32::from(tracepoint_arguments(btf, job.tracepoint).is_some()) << index
    };
    super::JOBS
        .iter()
        .enumerate()
        .map(bit)
        .fold(0, |bits, bit| bits | bit)
}

fn handler(btf: &Btf) -> Result<u32, NoFexit> {
    let named = btf.resolve_ids_by_name(super::HANDLER).unwrap_or_default();
    let parameters = |id: u32| {
        let Ok(Type::Func(function)) = btf.resolve_type_by_id(id) else {
            return None;
        };
        let prototype = btf
            .chained_type_iter(&function)
            .find_map(|inner| match inner {
                Type::FuncProto(prototype) => Some(prototype),
                _ => None,
            })?;
        Some((id, prototype.parameters.len()))
    };
    let (id, count) = named
        .into_iter()
        .find_map(parameters)
        .ok_or(NoFexit::NoFunction)?;
    if count != 4 {
        return Err(NoFexit::Parameters(count));
    }
    // That commit brought this structure.
    if btf.resolve_types_by_name("bpf_tramp_image").is_err() {
        return Err(NoFexit::FreesTrampolines);
    }
    Ok(id)
}

pub(super) fn offset_of(btf: &Btf, structure: &str, member: &str) -> Result<u64, Error> {
    let types = btf.resolve_types_by_name(structure).unwrap_or_default();
    let mut left = MAX_MEMBERS;
    types
        .iter()
        .find_map(|candidate| member_bits(btf, candidate, member, MAX_NESTING, &mut left))
        .map(|bits| u64::from(bits / 8))
        .ok_or_else(|| Error::Types(format!("struct {structure} has no member {member}")))
}

/// Bytes.
pub(super) fn size_of_type(btf: &Btf, name: &str) -> Result<u64, Error> {
    let types = btf.resolve_types_by_name(name).unwrap_or_default();
    types
        .iter()
        .find_map(|candidate| match candidate {
            Type::Struct(structure) | Type::Union(structure) => {
                u64::try_from(structure.size()).ok()
            }
            _ => None,
        })
        .ok_or_else(|| Error::Types(format!("no type {name}")))
}

/// Where a member is, bits; `left` is how many may be looked at.
fn member_bits(btf: &Btf, of: &Type, name: &str, depth: u32, left: &mut usize) -> Option<u32> {
    let (Type::Struct(structure) | Type::Union(structure)) = of else {
        return None;
    };
    *left = left.checked_sub(structure.members.len())?;
    structure.members.iter().find_map(|member| {
        let member_name = btf.resolve_name(member).unwrap_or_default();
        if member_name == name {
            return Some(member.bit_offset());
        }
        if !member_name.is_empty() || depth == 0 {
            return None;
        }
        // `struct vm_fault` has a const one, which is a type of its own.
        let inner = btf
            .chained_type_iter(member)
            .take(MAX_CHAIN)
            .find(|inner| matches!(inner, Type::Struct(_) | Type::Union(_)))?;
        member_bits(btf, &inner, name, depth - 1, left)?.checked_add(member.bit_offset())
    })
}

/// Number of parameters of a tracepoint's probe function, the leading `void *` included; `None` if
/// the kernel has no such tracepoint.
pub(super) fn tracepoint_arguments(btf: &Btf, tracepoint: &str) -> Option<usize> {
    let types = btf
        .resolve_types_by_name(&format!("btf_trace_{tracepoint}"))
        .ok()?;
    types.iter().find_map(|candidate| {
        let Type::Typedef(typedef) = candidate else {
            return None;
        };
        btf.chained_type_iter(typedef as &dyn BtfType)
            .take(MAX_CHAIN)
            .find_map(|inner| match inner {
                Type::FuncProto(prototype) => Some(prototype.parameters.len()),
                _ => None,
            })
    })
}
