//! Stacks as kernels from 5.10 to 6.18 print them, innermost function first.

use super::{Cause, MappingKind, Mode};

const SLEEP: &str = "schedule";
const TAIL: &str = "__handle_mm_fault handle_mm_fault do_user_addr_fault exc_page_fault \
                    asm_exc_page_fault";

/// `inner` inside the usual outer frames of a user fault.
fn user(inner: &str, major: Option<bool>, mapping: Option<MappingKind>) -> Cause {
    classify(
        &format!("{SLEEP} {inner} {TAIL}"),
        major,
        Mode::User,
        mapping,
    )
}

fn classify(stack: &str, major: Option<bool>, mode: Mode, mapping: Option<MappingKind>) -> Cause {
    let functions: Vec<&[u8]> = stack.split_whitespace().map(str::as_bytes).collect();
    Cause::classify(&functions, major, mode, mapping)
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_realistic_stack_has_its_cause() {
    let file = "filemap_fault __do_fault do_read_fault do_fault";
    let table: &[(&str, Cause)] = &[
        ("handle_userfault do_anonymous_page", Cause::Userfaultfd),
        (
            "handle_userfault hugetlb_no_page hugetlb_fault",
            Cause::Userfaultfd,
        ),
        (
            "handle_userfault shmem_get_folio_gfp.isra.0 shmem_fault __do_fault do_read_fault",
            Cause::Userfaultfd,
        ),
        (
            &format!(
                "request_wait_answer __fuse_simple_request fuse_do_readfolio fuse_read_folio filemap_read_folio {file}"
            ),
            Cause::Fuse,
        ),
        (
            &format!(
                "request_wait_answer fuse_simple_request fuse_do_readpage fuse_readpage filemap_read_page {file}"
            ),
            Cause::Fuse,
        ),
        (
            &format!(
                "io_schedule fuse_get_req __fuse_simple_background fuse_readahead read_pages page_cache_ra_unbounded {file}"
            ),
            Cause::Fuse,
        ),
        (
            "fuse_wait_on_page_writeback fuse_page_mkwrite do_page_mkwrite do_wp_page",
            Cause::Fuse,
        ),
        (
            &format!(
                "rpc_wait_bit_killable __wait_on_bit out_of_line_wait_on_bit __rpc_execute rpc_execute nfs_initiate_pgio {file}"
            ),
            Cause::Nfs,
        ),
        (
            &format!(
                "nfs_wait_bit_killable nfs_wait_on_request nfs_read_folio filemap_read_folio {file}"
            ),
            Cause::Nfs,
        ),
        (
            "io_schedule folio_wait_bit_common __folio_lock_or_retry do_swap_page",
            Cause::SwapIn,
        ),
        (
            "io_schedule __lock_page_or_retry do_swap_page",
            Cause::SwapIn,
        ),
        (
            "submit_bio_wait swap_read_folio swap_cluster_readahead swapin_readahead do_swap_page",
            Cause::SwapIn,
        ),
        (
            "folio_wait_bit_common shmem_swapin_folio.constprop.0 shmem_get_folio_gfp shmem_fault __do_fault do_shared_fault",
            Cause::SwapIn,
        ),
        (
            "mutex_lock zswap_decompress zswap_load swap_read_folio do_swap_page",
            Cause::Zswap,
        ),
        (
            "zram_bvec_read zram_submit_bio submit_bio_noacct swap_readpage do_swap_page",
            Cause::Zswap,
        ),
        (
            "try_to_free_mem_cgroup_pages try_charge_memcg mem_cgroup_swapin_charge_folio do_swap_page",
            Cause::MemcgReclaim,
        ),
        (
            "shrink_node do_try_to_free_pages try_to_free_mem_cgroup_pages try_charge mem_cgroup_charge do_anonymous_page",
            Cause::MemcgReclaim,
        ),
        (
            "mem_cgroup_oom_synchronize pagefault_out_of_memory",
            Cause::MemcgReclaim,
        ),
        (
            "migrate_pages compact_zone compact_zone_order try_to_compact_pages __alloc_pages_direct_compact do_huge_pmd_anonymous_page",
            Cause::Compaction,
        ),
        (
            "io_schedule_timeout folio_wait_writeback shrink_folio_list shrink_inactive_list shrink_node do_try_to_free_pages try_to_free_pages __alloc_pages_slowpath.constprop.0 do_anonymous_page",
            Cause::DirectReclaim,
        ),
        (
            "zswap_store swap_writepage pageout shrink_folio_list shrink_node try_to_free_pages do_anonymous_page",
            Cause::DirectReclaim,
        ),
        (
            &format!(
                "reclaim_throttle shrink_node try_to_free_pages page_cache_ra_unbounded {file}"
            ),
            Cause::DirectReclaim,
        ),
        (
            "io_schedule_timeout balance_dirty_pages balance_dirty_pages_ratelimited_flags fault_dirty_shared_page do_wp_page",
            Cause::Writeback,
        ),
        (
            "io_schedule wait_on_page_bit wait_on_page_writeback ext4_page_mkwrite do_page_mkwrite do_wp_page",
            Cause::Writeback,
        ),
        (
            "wait_transaction_locked add_transaction_credits start_this_handle jbd2__journal_start __ext4_journal_start_sb ext4_dirty_inode filemap_page_mkwrite",
            Cause::Writeback,
        ),
        (
            "folio_wait_bit_common folio_wait_writeback iomap_page_mkwrite __xfs_filemap_fault xfs_filemap_page_mkwrite do_page_mkwrite do_shared_fault",
            Cause::Writeback,
        ),
        (
            "migration_entry_wait_on_locked migration_entry_wait do_swap_page",
            Cause::Migration,
        ),
        (
            "folio_wait_bit_common migrate_pages_batch migrate_pages migrate_misplaced_folio do_numa_page",
            Cause::Migration,
        ),
        (
            "__cond_resched __wp_page_copy_user wp_page_copy do_wp_page",
            Cause::Cow,
        ),
        ("folio_wait_bit_common __folio_lock do_wp_page", Cause::Cow),
        ("__mutex_lock.constprop.0 hugetlb_fault", Cause::HugePage),
        (
            "io_schedule folio_wait_bit_common __filemap_get_folio hugetlb_no_page hugetlb_fault",
            Cause::HugePage,
        ),
        ("__cond_resched hugetlb_wp hugetlb_fault", Cause::Cow),
        ("migration_entry_wait_huge hugetlb_fault", Cause::Migration),
        (
            "compact_zone try_to_compact_pages alloc_hugetlb_folio hugetlb_no_page hugetlb_fault",
            Cause::Compaction,
        ),
    ];
    for (inner, expected) in table {
        for major in [None, Some(true), Some(false)] {
            assert_eq!(user(inner, major, None), *expected, "{inner}");
        }
    }
}

#[test]
fn a_file_page_is_split_by_major() {
    let stacks = [
        "io_schedule folio_wait_bit_common filemap_fault __do_fault do_read_fault do_fault",
        "io_schedule __lock_page_or_retry filemap_fault ext4_filemap_fault __do_fault do_fault",
        "blk_mq_get_tag submit_bio ext4_mpage_readpages read_pages page_cache_ra_unbounded",
        "io_schedule folio_wait_bit_common filemap_fault __do_fault do_cow_fault do_fault",
        "rwsem_down_read_slowpath down_read filemap_fault __do_fault do_read_fault",
        "io_schedule folio_wait_bit_common filemap_update_page filemap_fault.cold",
    ];
    for stack in stacks {
        assert_eq!(user(stack, Some(true), None), Cause::FileRead, "{stack}");
        assert_eq!(user(stack, Some(false), None), Cause::ReadWait, "{stack}");
        assert_eq!(user(stack, None, None), Cause::FileWait, "{stack}");
    }
}

#[test]
fn who_reads_a_page_need_not_be_major() {
    for name in ["filemap_read_folio", "filemap_read_page"] {
        let stack = format!("io_schedule folio_wait_bit_common {name} filemap_fault __do_fault");
        for major in [None, Some(true), Some(false)] {
            assert_eq!(user(&stack, major, None), Cause::FileRead, "{stack}");
        }
    }
}

#[test]
fn a_bare_page_lock_is_a_file_page_only_in_a_file() {
    let stack = "io_schedule folio_wait_bit_common __folio_lock shmem_get_folio_gfp shmem_fault";
    assert_eq!(user(stack, None, Some(MappingKind::File)), Cause::FileWait);
    assert_eq!(user(stack, None, Some(MappingKind::Memfd)), Cause::Unknown);
    assert_eq!(user(stack, None, Some(MappingKind::Anon)), Cause::Unknown);
}

#[test]
fn mmap_lock_is_the_one_taken_outside_the_handler() {
    for lock in [
        "rwsem_down_read_slowpath down_read_killable lock_mm_and_find_vma",
        "rwsem_down_read_slowpath",
        "rwsem_down_write_slowpath down_write_killable lock_mm_and_find_vma",
    ] {
        let stack = format!("schedule {lock} do_user_addr_fault exc_page_fault asm_exc_page_fault");
        assert_eq!(
            classify(&stack, None, Mode::User, None),
            Cause::MmapLock,
            "{lock}"
        );
    }
    // An rwsem inside the handler is not mmap_lock.
    assert_eq!(
        user(
            "rwsem_down_read_slowpath down_read hugetlb_fault",
            None,
            None
        ),
        Cause::HugePage
    );
    // And one that the interrupted system call holds or wants is not the fault's.
    let arm64 = "schedule rwsem_down_read_slowpath down_read do_page_fault do_translation_fault \
                 do_mem_abort el0_da el0t_64_sync_handler el0t_64_sync";
    assert_eq!(classify(arm64, None, Mode::User, None), Cause::MmapLock);
}

#[test]
fn what_the_thread_was_doing_when_it_faulted_does_not_count() {
    // A FUSE server whose own buffer is cold.
    let server = format!(
        "schedule folio_wait_bit_common filemap_fault __do_fault do_read_fault {TAIL} \
         fuse_copy_fill fuse_dev_do_read fuse_dev_read vfs_read ksys_read do_syscall_64"
    );
    assert_eq!(
        classify(&server, Some(true), Mode::Kernel, None),
        Cause::FileRead
    );
    // O_DIRECT into a cold mapping, from ext4.
    let direct = "schedule folio_wait_bit_common filemap_fault __do_fault do_shared_fault \
                  __handle_mm_fault handle_mm_fault __get_user_pages gup_longterm_locked \
                  iov_iter_extract_pages iomap_dio_rw nfs_file_direct_read ext4_file_read_iter";
    assert_eq!(
        classify(direct, Some(true), Mode::Gup, None),
        Cause::FileRead
    );
    // A gup that waits for mmap_lock, in a system call entered from nowhere near a fault.
    let populate = "schedule rwsem_down_read_slowpath down_read_killable __mm_populate \
                    vm_mmap_pgoff do_syscall_64";
    assert_eq!(classify(populate, None, Mode::Gup, None), Cause::MmapLock);
}

#[test]
fn nothing_known_is_unknown() {
    assert_eq!(classify("", Some(true), Mode::User, None), Cause::Unknown);
    assert_eq!(
        Cause::classify(&[b"", b".", b"\xff+"], None, Mode::Kernel, None),
        Cause::Unknown
    );
}
