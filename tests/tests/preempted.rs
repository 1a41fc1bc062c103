//! What comes about only where the kernel preempts itself wherever it can. For guests (`cargo xtask vm newest
//! --preempt full`): fails elsewhere.

use faulttrace_tests::harness::matrix::{Matrix, judge};
use faulttrace_tests::harness::memory::ZramSwap;
use faulttrace_tests::harness::start;
use faulttrace_tests::harness::work::Work;

/// zram has one place for each CPU to decompress in, and a lock for it: who is preempted there has others wait, each
/// for a page of its own.
#[test]
fn who_waits_for_zram_itself_is_told_so() {
    let _bench = start();
    let _zram = ZramSwap::new(64);
    let work = Work::start([
        "together",
        "swapped",
        "--apart",
        "--threads=8",
        "--pages=4096",
    ]);
    let mut matrix = Matrix::default();
    judge(&mut matrix, ("pages of zram", "zswap"), work, (20, true));
    matrix.print();
    matrix.check();
}
