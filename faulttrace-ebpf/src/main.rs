//! The programs. Only the list of entry points is here; the logic sits in the sibling files, one
//! per job. Every tracepoint has two entries, the typed one (`tp_btf`) and the raw one for kernels
//! that refuse it; userspace loads one of them. Both see the arguments as an array of 64-bit words.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
mod ahead;
#[cfg(target_arch = "bpf")]
mod cache;
#[cfg(target_arch = "bpf")]
mod config;
#[cfg(target_arch = "bpf")]
mod device;
#[cfg(target_arch = "bpf")]
mod end;
#[cfg(target_arch = "bpf")]
mod fault;
#[cfg(target_arch = "bpf")]
mod filemap;
#[cfg(target_arch = "bpf")]
mod found;
#[cfg(target_arch = "bpf")]
mod frames;
#[cfg(target_arch = "bpf")]
mod go;
#[cfg(target_arch = "bpf")]
mod handled;
#[cfg(target_arch = "bpf")]
mod held;
#[cfg(target_arch = "bpf")]
mod io;
#[cfg(target_arch = "bpf")]
mod known;
#[cfg(target_arch = "bpf")]
mod labels;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod pages;
#[cfg(target_arch = "bpf")]
mod registers;
#[cfg(target_arch = "bpf")]
mod sched;
#[cfg(target_arch = "bpf")]
mod stack;
#[cfg(target_arch = "bpf")]
mod task;
#[cfg(target_arch = "bpf")]
mod vmf;
#[cfg(target_arch = "bpf")]
mod waking;

#[cfg(target_arch = "bpf")]
mod entry {
    use aya_ebpf::EbpfContext as _;
    use aya_ebpf::macros::{btf_tracepoint, fexit, perf_event, raw_tracepoint};
    use aya_ebpf::programs::{
        BtfTracePointContext, FExitContext, PerfEventContext, RawTracePointContext,
    };

    use super::{ahead, cache, device, fault, filemap, found, handled, io, sched, task};

    macro_rules! tracepoints {
        ($($typed:ident / $raw:ident => $handler:path;)*) => {$(
            #[btf_tracepoint]
            fn $typed(ctx: BtfTracePointContext) -> i32 {
                $handler(ctx.as_ptr());
                0
            }
            #[raw_tracepoint]
            fn $raw(ctx: RawTracePointContext) -> i32 {
                $handler(ctx.as_ptr());
                0
            }
        )*};
    }

    tracepoints! {
        page_fault_user / page_fault_user_raw => fault::user_fault;
        page_fault_kernel / page_fault_kernel_raw => fault::kernel_fault;
        filemap_fault / filemap_fault_raw => filemap::file_page;
        async_readahead / async_readahead_raw => filemap::async_readahead;
        rseq_update / rseq_update_raw => fault::back_to_user;
        sched_switch / sched_switch_raw => sched::switch;
        sched_waking / sched_waking_raw => sched::waking;
        process_fork / process_fork_raw => task::fork;
        process_exec / process_exec_raw => task::exec;
        process_exit / process_exit_raw => task::exit;
        task_rename / task_rename_raw => task::rename;
        page_cached / page_cached_raw => cache::added;
        pages_mapped / pages_mapped_raw => ahead::around;
        page_uncached / page_uncached_raw => cache::removed;
        block_bio_queue / block_bio_queue_raw => io::queued;
        block_split / block_split_raw => io::split;
        block_rq_issue / block_rq_issue_raw => device::issued;
        block_rq_complete / block_rq_complete_raw => device::completed;
        block_bio_complete / block_bio_complete_raw => device::without_request;
    }

    #[perf_event]
    fn page_faults_maj(ctx: PerfEventContext) -> u32 {
        fault::major(ctx.as_ptr());
        0
    }

    #[perf_event]
    fn page_faults(ctx: PerfEventContext) -> u32 {
        fault::begun(&ctx);
        0
    }

    #[fexit(function = "handle_mm_fault")]
    fn fault_handled(ctx: FExitContext) -> i32 {
        handled::fault_handled(ctx.as_ptr());
        0
    }

    // aya-ebpf has no attribute for iterators.
    #[unsafe(no_mangle)]
    #[unsafe(link_section = "iter/task")]
    extern "C" fn stuck_tasks(ctx: *mut core::ffi::c_void) -> i32 {
        found::task(ctx);
        0
    }

    #[perf_event]
    fn thread_clock(ctx: PerfEventContext) -> u32 {
        fault::tick(&ctx);
        0
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
