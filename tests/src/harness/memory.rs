//! Memory of special kinds: huge pages that are reserved, swap that is compressed memory.

use std::fs;
use std::process::Command;

use super::process::must;

const RESERVED: &str = "/proc/sys/vm/nr_hugepages";

/// Huge pages reserved for hugetlbfs, given back on drop.
pub struct HugePages {
    before: u64,
}

impl HugePages {
    /// Reserves so many more.
    pub fn reserve(pages: u64) -> HugePages {
        let before = reserved();
        let reserved_now = HugePages { before };
        set_reserved(before + pages);
        assert_eq!(reserved(), before + pages, "huge pages reserved");
        reserved_now
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        set_reserved(self.before);
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

/// Swap on a zram device of its own, until dropped.
pub struct ZramSwap {
    number: String,
}

impl ZramSwap {
    /// Makes one with room for so much before it is compressed.
    pub fn new(mib: usize) -> ZramSwap {
        let number = fs::read_to_string("/sys/class/zram-control/hot_add").expect("a zram device");
        let zram = ZramSwap {
            number: number.trim_end().to_owned(),
        };
        let size = format!("/sys/block/zram{}/disksize", zram.number);
        fs::write(&size, format!("{mib}M")).unwrap_or_else(|error| panic!("set {size}: {error}"));
        let device = zram.device();
        must("mkswap", [&device]);
        must("swapon", ["--priority", "200", &device]);
        zram
    }

    fn device(&self) -> String {
        format!("/dev/zram{}", self.number)
    }
}

impl Drop for ZramSwap {
    fn drop(&mut self) {
        let _off = Command::new("swapoff").arg(self.device()).status();
        let _gone = fs::write("/sys/class/zram-control/hot_remove", &self.number);
    }
}
