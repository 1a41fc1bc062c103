//! Memory of special kinds: huge pages that are reserved, swap that is compressed memory.
//!
//! Both are of the whole machine, so a test program that is killed would leave them: what is made is written
//! down below the directory of all tests, for the next one to give back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::process::must;
use super::{PREFIX, root};

const RESERVED: &str = "/proc/sys/vm/nr_hugepages";
const ZRAM: &str = "/sys/class/zram-control";

/// The file that has the number of huge pages to go back to.
fn huge_note(root: &Path) -> PathBuf {
    root.join(format!("{PREFIX}huge-pages-before"))
}

/// The file that has the number of a zram device.
fn zram_note(root: &Path) -> PathBuf {
    root.join(format!("{PREFIX}zram"))
}

/// Huge pages reserved for hugetlbfs, given back on drop.
pub struct HugePages;

impl HugePages {
    /// Reserves so many more.
    pub fn reserve(pages: u64) -> HugePages {
        let before = reserved();
        fs::write(huge_note(&root()), before.to_string()).expect("write a note");
        let guard = HugePages;
        set_reserved(before + pages);
        assert_eq!(reserved(), before + pages, "huge pages reserved");
        guard
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        give_back(&root());
    }
}

/// How many huge pages are to be reserved on this machine.
pub fn set_reserved(pages: u64) {
    fs::write(RESERVED, pages.to_string()).expect("nr_hugepages");
}

fn reserved() -> u64 {
    let text = fs::read_to_string(RESERVED).expect("nr_hugepages");
    text.trim_end().parse().expect("a number")
}

fn give_back(root: &Path) {
    let note = huge_note(root);
    if let Ok(before) = fs::read_to_string(&note) {
        let _given_back = fs::write(RESERVED, before);
        let _gone = fs::remove_file(note);
    }
}

/// Swap on a zram device of its own, until dropped.
pub struct ZramSwap;

impl ZramSwap {
    /// Makes one with room for so much before it is compressed.
    pub fn new(mib: usize) -> ZramSwap {
        let number = fs::read_to_string(format!("{ZRAM}/hot_add")).expect("a zram device");
        let number = number.trim_end();
        fs::write(zram_note(&root()), number).expect("write a note");
        let zram = ZramSwap;
        let size = format!("/sys/block/zram{number}/disksize");
        fs::write(&size, format!("{mib}M")).unwrap_or_else(|error| panic!("set {size}: {error}"));
        let device = format!("/dev/zram{number}");
        must("mkswap", [&device]);
        must("swapon", ["--priority", "200", &device]);
        zram
    }
}

impl Drop for ZramSwap {
    fn drop(&mut self) {
        remove_zram(&root());
    }
}

fn remove_zram(root: &Path) {
    let note = zram_note(root);
    let Ok(number) = fs::read_to_string(&note) else {
        return;
    };
    let device = format!("/dev/zram{number}");
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    if swaps
        .lines()
        .any(|line| line.split(' ').next() == Some(&*device))
    {
        let _off = Command::new("swapoff").arg(&device).status();
    }
    // Somebody may look at a device that is new.
    let deadline = Instant::now() + Duration::from_secs(5);
    while fs::write(format!("{ZRAM}/hot_remove"), &number).is_err() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    let _gone = fs::remove_file(note);
}

/// Gives back what a run that was killed has left.
pub(super) fn sweep(root: &Path) {
    give_back(root);
    remove_zram(root);
}
