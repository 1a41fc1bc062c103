//! Files on real disks, cold when a test wants them cold; loop devices; swap.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::mount::{MntFlags, umount2};

use super::process::{must, until};
use super::setting::Setting;
use super::{Bench, SOON};
use crate::frozen;
use crate::mem::{Mapping, PAGE};

/// Writes a file whose pages begin with their own offset and have no holes, all of it on disk.
pub fn create(path: &Path, pages: usize) {
    let file = File::create(path).expect("create a file");
    let mut writer = BufWriter::with_capacity(1 << 20, &file);
    let mut page = [0xa5_u8; PAGE];
    for index in 0..pages {
        page[..8].copy_from_slice(&((index * PAGE) as u64).to_ne_bytes());
        writer.write_all(&page).expect("write a file");
    }
    writer.flush().expect("write a file");
    drop(writer);
    file.sync_all().expect("sync a file");
}

/// Drops from the page cache what no process has mapped of a file.
pub fn drop_unmapped(file: &File) {
    posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).expect("posix_fadvise");
}

/// Drops a file from the page cache. Panics if some of it stays.
pub fn evict(path: &Path) {
    let file = File::open(path).expect("open a file");
    file.sync_all().expect("sync a file");
    let mapping = Mapping::file(&file).expect("map a file");
    until("the file is evicted", SOON, || {
        drop_unmapped(&file);
        mapping.resident().expect("mincore") == 0
    });
}

/// An ext4 file system on a loop device, with a readahead like that of ordinary disks.
pub struct LoopDisk {
    device: String,
    mount: PathBuf,
}

impl LoopDisk {
    /// Makes and mounts one of this size.
    pub fn new(bench: &Bench, mib: usize, read_ahead_kb: usize) -> LoopDisk {
        Self::within(bench.path(), mib, read_ahead_kb, "--direct-io=on")
    }

    /// As [`LoopDisk::new`], of which the kernel believes that pages must not change while they are
    /// written: who wants to write to one has to wait.
    pub fn stable(directory: &Path, mib: usize) -> LoopDisk {
        Self::make(
            directory,
            mib,
            &[("read_ahead_kb", "16"), ("stable_writes", "1")],
            "--direct-io=on",
        )
    }

    /// As [`LoopDisk::new`] in any directory. On a tmpfs, direct I/O must be off for kernels before
    /// 6.6, and there is nothing that it would keep from being cached twice.
    pub fn within(directory: &Path, mib: usize, read_ahead_kb: usize, direct: &str) -> LoopDisk {
        let read_ahead_kb = read_ahead_kb.to_string();
        Self::make(directory, mib, &[("read_ahead_kb", &read_ahead_kb)], direct)
    }

    /// `queue`: settings of its queue.
    fn make(directory: &Path, mib: usize, queue: &[(&str, &str)], direct: &str) -> LoopDisk {
        let image = directory.join("disk.img");
        create(&image, mib * 256);
        let arguments = ["--find", "--show", direct];
        let device = must(
            "losetup",
            arguments.map(Path::new).into_iter().chain([&*image]),
        );
        let mount = directory.join("disk");
        fs::create_dir(&mount).expect("create a directory");
        let disk = LoopDisk { device, mount };
        let name = disk.device.trim_start_matches("/dev/");
        for (setting, value) in queue {
            let file = format!("/sys/block/{name}/queue/{setting}");
            fs::write(&file, value).unwrap_or_else(|error| panic!("set {file}: {error}"));
        }
        must(
            "mkfs.ext4",
            ["-q", "-E", "lazy_itable_init=0", &disk.device],
        );
        let mount = disk.mount.to_str().expect("our own path");
        must("mount", ["-o", "noatime", &disk.device, mount]);
        disk
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Its device in `/sys/block`.
    pub fn name(&self) -> &str {
        name_of(&self.device)
    }

    /// Lets the file system find an error, at which it turns read-only as most are set to do.
    pub fn turn_read_only(&self) {
        let name = self.device.trim_start_matches("/dev/");
        let mount = self.mount.to_str().expect("our own path");
        must("mount", ["-o", "remount,errors=remount-ro", mount]);
        let trigger = format!("/sys/fs/ext4/{name}/trigger_fs_error");
        fs::write(trigger, "an end-to-end test\n").expect("ext4 takes an error");
        let probe = self.mount.join("probe");
        until("the file system is read-only", SOON, || {
            File::create(&probe).is_err()
        });
    }
}

/// The disk that a directory is on, as in `/sys/block`.
pub fn disk_of(directory: &Path) -> String {
    let device = fs::metadata(directory).expect("a directory").dev();
    let numbers = format!("{}:{}", libc::major(device), libc::minor(device));
    let link = fs::read_link(format!("/sys/dev/block/{numbers}")).expect("a disk");
    let name = link.file_name().expect("a name of a disk");
    name.to_str().expect("the kernel's own name").to_owned()
}

fn name_of(device: &str) -> &str {
    device.trim_start_matches("/dev/")
}

/// `major:minor` of a device in `/sys/block`.
pub fn numbers(name: &str) -> String {
    let numbers = fs::read_to_string(format!("/sys/block/{name}/dev")).expect("a block device");
    numbers.trim_end().to_owned()
}

/// Bytes read from a device in `/sys/block` so far.
pub fn bytes_read(name: &str) -> u64 {
    let stat = fs::read_to_string(format!("/sys/block/{name}/stat")).expect("a block device");
    let sectors = stat
        .split_whitespace()
        .nth(2)
        .and_then(|n| n.parse::<u64>().ok());
    sectors.expect("a number of sectors") * 512
}

/// How many requests a device takes at once; more wait. A loop device would keep it for whoever has it next.
#[must_use]
pub fn depth(name: &str, requests: u32) -> [Setting; 2] {
    let scheduler = Setting::set(queue(name, "scheduler"), "none");
    let depth = Setting::set(queue(name, "nr_requests"), &requests.to_string());
    // Put back in this order: a scheduler brings a depth of its own.
    [depth, scheduler]
}

/// How large a request of a device may be; larger reads are split.
#[must_use]
pub fn largest_request(name: &str, kib: u32) -> Setting {
    Setting::set(queue(name, "max_sectors_kb"), &kib.to_string())
}

fn queue(name: &str, setting: &str) -> PathBuf {
    PathBuf::from(format!("/sys/block/{name}/queue/{setting}"))
}

/// A loop device without a file system, read-only.
pub struct LoopDevice(String);

impl LoopDevice {
    /// Over this file, read through the page cache.
    pub fn over(file: &Path) -> LoopDevice {
        let arguments = ["--find", "--show", "--read-only"];
        let all = arguments.map(Path::new).into_iter().chain([file]);
        LoopDevice(must("losetup", all))
    }

    /// Its node.
    pub fn node(&self) -> &str {
        &self.0
    }

    /// Its name in `/sys/block`.
    pub fn name(&self) -> &str {
        name_of(&self.0)
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _gone = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

/// A small file system in memory, to be filled.
pub struct SmallDisk {
    mount: PathBuf,
}

impl SmallDisk {
    /// Mounts one of this size.
    pub fn new(bench: &Bench, kib: usize) -> SmallDisk {
        let mount = bench.subdirectory("small");
        let size = format!("size={kib}k");
        must(
            "mount",
            [
                "-t",
                "tmpfs",
                "-o",
                &size,
                "tmpfs",
                mount.to_str().expect("our own path"),
            ],
        );
        SmallDisk { mount }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _gone = umount2(&self.mount, MntFlags::MNT_DETACH);
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // A workload that was killed may have left it frozen.
        if let Ok(root) = File::open(&self.mount) {
            let _was_not = frozen::thaw(&root);
        }
        let _gone = umount2(&self.mount, MntFlags::MNT_DETACH);
        let _gone = Command::new("losetup")
            .args(["--detach", &self.device])
            .status();
    }
}

/// Detaches loop devices whose file's path begins so: of runs that were killed.
pub(super) fn detach_leftovers(prefix: &str) {
    for device in fs::read_dir("/sys/block").expect("/sys/block").flatten() {
        let backing = fs::read_to_string(device.path().join("loop/backing_file"));
        if backing.is_ok_and(|file| file.starts_with(prefix)) {
            let node = Path::new("/dev").join(device.file_name());
            let _gone = Command::new("losetup").arg("--detach").arg(node).status();
        }
    }
}

/// A swap file that is on until dropped.
pub struct SwapFile(PathBuf);

impl SwapFile {
    /// Makes one in a directory and turns it on.
    pub fn new(directory: &Path, mib: usize) -> SwapFile {
        let path = directory.join("swap");
        create(&path, mib * 256);
        let name = path.to_str().expect("our own path").to_owned();
        must("chmod", ["600", &name]);
        must("mkswap", [&name]);
        must("swapon", ["--priority", "100", &name]);
        SwapFile(path)
    }
}

impl Drop for SwapFile {
    fn drop(&mut self) {
        let _off = Command::new("swapoff").arg(&self.0).status();
    }
}
