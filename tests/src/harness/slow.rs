//! The slow file system from the test's side: a process of its own and its mount.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;

use super::process::{Running, until};
use super::work::{binary, receive};
use super::{Bench, SOON};
use crate::mem::PAGE;
use crate::slowfs::Read;

/// A mounted slow file system, unmounted on drop.
pub struct SlowFs {
    running: Running,
    mount: PathBuf,
    file: PathBuf,
}

/// What to mount: see the options of `faulttrace-workload slowfs`.
#[derive(Debug, Clone)]
pub struct Options {
    pub name: OsString,
    pub pages: usize,
    pub delay_us: u64,
    pub every: u64,
    pub every_us: u64,
    pub readahead: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            name: "data".into(),
            pages: 1024,
            delay_us: 10_000,
            every: 0,
            every_us: 0,
            readahead: 0,
        }
    }
}

impl SlowFs {
    /// Mounts it in a new directory of the bench.
    pub fn mount(bench: &Bench, options: &Options) -> SlowFs {
        Self::mount_in(bench.subdirectory("slow"), options)
    }

    /// Mounts it in a new directory of the bench; each read takes so long, and all else is as usual.
    pub fn with_delay(bench: &Bench, delay_us: u64) -> SlowFs {
        let options = Options {
            delay_us,
            ..Options::default()
        };
        Self::mount(bench, &options)
    }

    /// Mounts it on an empty directory.
    pub fn mount_in(mount: PathBuf, options: &Options) -> SlowFs {
        let mut command = Command::new(binary());
        command
            .arg("slowfs")
            .arg(&mount)
            .arg("--name")
            .arg(&options.name);
        command.arg(format!("--size={}", options.pages * PAGE));
        command.arg(format!("--delay-us={}", options.delay_us));
        command.arg(format!("--every={}", options.every));
        command.arg(format!("--every-us={}", options.every_us));
        command.arg(format!("--readahead={}", options.readahead));
        let running = Running::start("slowfs", &mut command);
        let () = receive(&running, "ready", Instant::now() + SOON);
        let file = mount.join(&options.name);
        SlowFs {
            running,
            mount,
            file,
        }
    }

    /// The file whose reads are slow.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Its path as an argument.
    pub fn file_arg(&self) -> &OsStr {
        self.file.as_os_str()
    }

    /// Do not answer reads of this offset until [`SlowFs::release`].
    pub fn hold(&mut self, offset: usize) {
        self.ask::<()>(&format!("hold {offset}"), "ok");
    }

    /// Have the next fault on this offset wait with `mmap_lock` held until [`SlowFs::release`].
    pub fn stall(&mut self, offset: usize) {
        self.ask::<()>(&format!("stall {offset}"), "ok");
    }

    /// Waits until a read is held.
    pub fn wait_until_held(&mut self) {
        until("a read is held", SOON, || {
            !self.ask::<Vec<u64>>("held", "held").is_empty()
        });
    }

    /// Answers the reads that are held.
    pub fn release(&mut self) {
        self.ask::<()>("release", "ok");
    }

    /// All reads so far, in the order they were answered.
    pub fn log(&mut self) -> Vec<Read> {
        self.ask("log", "log")
    }

    fn ask<T: serde::de::DeserializeOwned>(&mut self, command: &str, answer: &str) -> T {
        self.running.say(command);
        receive(&self.running, answer, Instant::now() + SOON)
    }

    /// Stops the server: requests stay in the kernel's queue, where a waiting process can still
    /// be killed.
    pub fn suspend(&self) {
        self.running.signal(Signal::SIGSTOP);
        let tasks = format!("/proc/{}/task", self.running.pid());
        until("every thread of the server is stopped", SOON, || {
            fs::read_dir(&tasks)
                .expect("the server lives")
                .flatten()
                .all(|task| {
                    let stat = fs::read_to_string(task.path().join("stat"));
                    stat.is_ok_and(|stat| {
                        stat.rsplit_once(')')
                            .is_some_and(|(_, rest)| rest.starts_with(" T"))
                    })
                })
        });
    }

    /// Lets the server go on.
    pub fn resume(&self) {
        self.running.signal(Signal::SIGCONT);
    }

    /// Process id of the server.
    pub fn server(&self) -> u32 {
        self.running.pid()
    }
}

impl Drop for SlowFs {
    fn drop(&mut self) {
        // Lazily, because a workload may still have it mapped. Killing the server (its drop comes
        // next) aborts whatever still waits.
        let _gone = umount2(&self.mount, MntFlags::MNT_DETACH);
    }
}
