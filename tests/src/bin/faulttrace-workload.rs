//! The workloads of the end-to-end tests as one program: it parses, and runs the one named.

use clap::Parser;
use faulttrace_tests::nfs;
use faulttrace_tests::slowfs::serve;
use faulttrace_tests::workload::{
    anon, blocked, blocks, chaos, churn, contend, direct, grow, gup, huge, kernel_mode, mmap_lock,
    paced, pieces, plain, quiet, replaced, revisit, split, stall, swap, together, touch, tree,
    uffd, written,
};

/// Programs that fault in known ways, for the end-to-end tests of faulttrace.
#[derive(Debug, Parser)]
enum Workload {
    Touch(touch::TouchArgs),
    Churn(churn::ChurnArgs),
    Chaos(chaos::ChaosArgs),
    Paced(paced::PacedArgs),
    Stall(stall::StallArgs),
    Direct(direct::DirectArgs),
    Gup(gup::GupArgs),
    KernelMode(kernel_mode::KernelModeArgs),
    Quiet(quiet::QuietArgs),
    Replaced(replaced::ReplacedArgs),
    Revisit(revisit::RevisitArgs),
    Alternate(blocked::AlternateArgs),
    Storm(anon::StormArgs),
    Blocks(blocks::BlocksArgs),
    Hog(anon::HogArgs),
    Swap(swap::SwapArgs),
    Together(together::TogetherArgs),
    Grow(grow::GrowArgs),
    Split(split::SplitArgs),
    Contend(contend::ContendArgs),
    Pieces(pieces::PiecesArgs),
    Huge(huge::HugeArgs),
    HugeCopy(huge::HugeCopyArgs),
    Written(written::WrittenArgs),
    Userfaultfd(uffd::UffdArgs),
    MmapLock(mmap_lock::MmapLockArgs),
    Tree(tree::TreeArgs),
    Plain(plain::PlainArgs),
    Slowfs(serve::SlowFsArgs),
    Nfs(nfs::NfsArgs),
}

fn main() {
    match Workload::parse() {
        Workload::Touch(args) => touch::run(args),
        Workload::Churn(args) => churn::run(&args),
        Workload::Chaos(args) => chaos::run(&args),
        Workload::Paced(args) => paced::run(&args),
        Workload::Stall(args) => stall::run(&args),
        Workload::Direct(args) => direct::run(&args),
        Workload::Gup(args) => gup::run(&args),
        Workload::KernelMode(args) => kernel_mode::run(&args),
        Workload::Quiet(args) => quiet::run(&args),
        Workload::Replaced(args) => replaced::run(&args),
        Workload::Revisit(args) => revisit::run(&args),
        Workload::Alternate(args) => blocked::run(&args),
        Workload::Storm(args) => anon::storm(&args),
        Workload::Blocks(args) => blocks::run(&args),
        Workload::Hog(args) => anon::hog(&args),
        Workload::Swap(args) => swap::run(&args),
        Workload::Together(args) => together::run(&args),
        Workload::Grow(args) => grow::run(&args),
        Workload::Split(args) => split::run(&args),
        Workload::Contend(args) => contend::run(&args),
        Workload::Pieces(args) => pieces::run(&args),
        Workload::Huge(args) => huge::new_pages(&args),
        Workload::HugeCopy(args) => huge::copies(&args),
        Workload::Written(args) => written::run(&args),
        Workload::Userfaultfd(args) => uffd::run(&args),
        Workload::MmapLock(args) => mmap_lock::run(&args),
        Workload::Tree(args) => tree::run(&args),
        Workload::Plain(args) => std::process::exit(plain::run(&args)),
        Workload::Slowfs(args) => serve::run(args),
        Workload::Nfs(args) => nfs::run(&args),
    }
}
