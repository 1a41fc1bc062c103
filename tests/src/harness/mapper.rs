//! Volumes of the device mapper: a file system on one, over a loop device.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, umount2};

use super::disk::create;
use super::process::{must, must_run};

/// What the device mapper does with what is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Hands it on: LVM's volumes.
    Linear,
    /// Decrypts it, with a cipher that does nothing: LUKS.
    Crypt,
    /// Takes requests itself, and sends each by one of several paths, of which there is one here: multipath.
    Multipath,
}

impl Target {
    /// Its line in the volume's table (Documentation/admin-guide/device-mapper).
    fn table(self, sectors: u64, lower: &str) -> String {
        match self {
            Target::Linear => format!("0 {sectors} linear {lower} 0"),
            Target::Crypt => format!("0 {sectors} crypt cipher_null-ecb-plain - 0 {lower} 0"),
            Target::Multipath => {
                format!("0 {sectors} multipath 0 0 1 1 round-robin 0 1 1 {lower} 100")
            }
        }
    }
}

/// An ext4 file system on a volume.
pub struct Volume {
    name: &'static str,
    target: Target,
    lower: String,
    mount: PathBuf,
}

impl Volume {
    /// Makes and mounts one of this size.
    pub fn new(directory: &Path, target: Target, mib: usize) -> Volume {
        let image = directory.join("volume.img");
        create(&image, mib * 256);
        let arguments = ["--find", "--show", "--direct-io=on"].map(Path::new);
        let lower = must("losetup", arguments.into_iter().chain([&*image]));
        let mount = directory.join("volume");
        fs::create_dir(&mount).expect("create a directory");
        let volume = Volume {
            name: "faulttrace-e2e",
            target,
            lower,
            mount,
        };
        let sectors = (mib as u64) << 11;
        let table = target.table(sectors, &volume.lower);
        must_run(dmsetup().args(["create", volume.name, "--table", &table]));
        let node = format!("/dev/mapper/{}", volume.name);
        must("mkfs.ext4", ["-q", "-E", "lazy_itable_init=0", &node]);
        let mount = volume.mount.to_str().expect("our own path");
        must("mount", ["-o", "noatime", &node, mount]);
        volume
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// The device that gets the requests, in `/sys/block`: the one below, or the volume itself.
    pub fn device(&self) -> String {
        match self.target {
            Target::Linear | Target::Crypt => self.lower.trim_start_matches("/dev/").to_owned(),
            Target::Multipath => {
                let columns = ["info", "-c", "--noheadings", "-o", "blkdevname", self.name];
                must_run(dmsetup().args(columns))
            }
        }
    }
}

/// Without udev, which guests do not have: it then makes and removes nodes itself.
fn dmsetup() -> Command {
    let mut command = Command::new("dmsetup");
    command.env("DM_DISABLE_UDEV", "1");
    command
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _gone = umount2(&self.mount, MntFlags::MNT_DETACH);
        let _gone = dmsetup().args(["remove", "--retry", self.name]).status();
        let _gone = Command::new("losetup")
            .args(["--detach", &self.lower])
            .status();
    }
}
