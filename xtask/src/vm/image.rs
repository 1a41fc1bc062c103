//! What the guest starts from: an initramfs with a kernel's modules, and a disk with the programs
//! that the tests need, the libraries they are linked to, and the tests.
//!
//! No second, static build: a guest of this machine's architecture runs the very programs that
//! `cargo xtask e2e` does. The C library of any system that builds them runs on every kernel of the matrix.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use super::kernels::Kernel;
use super::suite::Program;
use super::userland::{Libraries, Userland, tool};
use crate::cargo::{Executable, find_binary};
use crate::shell::{describe, output_of, run, say};

/// Modules for the disk, FUSE, loop devices, NFS, zram and the device mapper, unless they are built in.
const MODULES: [&str; 11] = [
    "virtio_pci",
    "virtio_blk",
    "loop",
    "fuse",
    "nfsv3",
    "zram",
    "dm_crypt",
    "crypto_null",
    "ecb",
    "dm_multipath",
    "dm_round_robin",
];
/// What busybox does for the guest.
const APPLETS: [&str; 18] = [
    "sh", "cat", "chmod", "dd", "dmesg", "echo", "ip", "ls", "mkdir", "poweroff", "rm", "sed",
    "sleep", "tee", "umount", "uname", "env", "true",
];
/// What the harness calls with options that busybox lacks.
const PROGRAMS: [&str; 8] = [
    "dmsetup",
    "losetup",
    "mkfs.ext4",
    "mkswap",
    "mount",
    "setpriv",
    "swapoff",
    "swapon",
];
/// Room for the files that the tests make; the image is sparse.
const DISK: &str = "3G";
const INIT: &str = include_str!("init.sh");
const INIT_RAM: &str = include_str!("init-ram.sh");

/// Makes the disk that all kernels of an architecture share, and returns its path.
pub(super) fn disk(
    directory: &Path,
    userland: &Userland,
    faulttrace: &Path,
    built: &[Executable],
    programs: &[&Program],
) -> anyhow::Result<PathBuf> {
    let mut tree = Tree::new(directory.join("disk"), userland)?;
    tree.system()?;
    tree.ours(faulttrace, "faulttrace/faulttrace")?;
    let workload = find_binary(built, "faulttrace-workload")?;
    tree.ours(workload, "faulttrace/faulttrace-workload")?;
    for program in programs {
        let is_it = |one: &&Executable| one.kind == "test" && one.name == program.name;
        let executable = built.iter().find(is_it).context("it was built")?;
        let place = format!("faulttrace/deps/{}", program.name);
        tree.ours(&executable.path, &place)?;
    }
    let root = tree.finish()?;
    write(&root.join("init"), INIT.as_bytes(), 0o755)?;
    let image = directory.join("disk.img");
    if image.exists() {
        fs::remove_file(&image).with_context(|| image.display().to_string())?;
    }
    run(Command::new(tool("mkfs.ext4")?)
        .args(["-q", "-F", "-E", "root_owner=0:0", "-d"])
        .arg(&root)
        .arg(&image)
        .arg(DISK))?;
    fs::remove_dir_all(&root).with_context(|| root.display().to_string())?;
    Ok(image)
}

/// The guest's files, while they are put together.
struct Tree<'a> {
    root: PathBuf,
    userland: &'a Userland,
    libraries: Libraries,
}

impl Tree<'_> {
    fn new(root: PathBuf, userland: &Userland) -> anyhow::Result<Tree<'_>> {
        fresh(&root)?;
        for name in [
            "bin",
            "dev",
            "etc",
            "faulttrace/deps",
            "proc",
            "run",
            "sys",
            "tmp",
            "var/tmp",
        ] {
            let path = root.join(name);
            fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        }
        Ok(Tree {
            root,
            userland,
            libraries: Libraries::new(),
        })
    }

    /// What the tests find on any machine.
    fn system(&mut self) -> anyhow::Result<()> {
        for name in PROGRAMS.into_iter().chain(["busybox"]) {
            let program = self.userland.program(name)?;
            copy(&program, &self.root.join("bin").join(name))?;
            self.libraries.extend(self.userland.libraries_of(&program)?);
        }
        for applet in APPLETS {
            symlink("busybox", self.root.join("bin").join(applet)).context(applet)?;
        }
        let users = b"root:x:0:0:root:/:/bin/sh\n";
        write(&self.root.join("etc/passwd"), users, 0o644)
    }

    /// A program of ours, without its debug information, which an emulated machine takes longer to
    /// read than faulttrace waits for names.
    fn ours(&mut self, from: &Path, to: &str) -> anyhow::Result<()> {
        self.libraries.extend(self.userland.libraries_of(from)?);
        self.userland.strip(from, &self.root.join(to))
    }

    /// Adds the libraries.
    fn finish(self) -> anyhow::Result<PathBuf> {
        copy_libraries(&self.libraries, &self.root)?;
        Ok(self.root)
    }
}

/// Makes the initramfs for a kernel, and returns its path.
pub(super) fn initramfs(
    directory: &Path,
    userland: &Userland,
    kernel: &Kernel,
) -> anyhow::Result<PathBuf> {
    let root = directory.join("initramfs");
    fresh(&root)?;
    for name in ["bin", "dev", "modules", "proc", "root"] {
        fs::create_dir_all(root.join(name)).context(name)?;
    }
    let busybox = userland.program("busybox")?;
    copy(&busybox, &root.join("bin/busybox"))?;
    copy_libraries(&userland.libraries_of(&busybox)?, &root)?;
    for (index, module) in modules(kernel)?.iter().enumerate() {
        unpack_module(module, &root.join(format!("modules/{index:02}.ko")))?;
    }
    write(&root.join("init"), INIT_RAM.as_bytes(), 0o755)?;
    let archive = directory.join("initramfs.cpio");
    let mut names = Command::new("find");
    let mut names = names
        .current_dir(&root)
        .stdout(Stdio::piped())
        .spawn()
        .context("starting find")?;
    let list = names.stdout.take().context("find's output")?;
    let mut cpio = Command::new(tool("cpio")?);
    cpio.args(["--create", "--format=newc", "--quiet", "--owner=0:0"])
        .current_dir(&root)
        .stdin(list)
        .stdout(fs::File::create(&archive).with_context(|| archive.display().to_string())?);
    run(&mut cpio)?;
    ensure!(names.wait()?.success(), "find failed in {}", root.display());
    fs::remove_dir_all(&root).with_context(|| root.display().to_string())?;
    Ok(archive)
}

/// The module files to load, in order, each once.
fn modules(kernel: &Kernel) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for module in MODULES {
        let mut command = Command::new(tool("modprobe")?);
        command.arg("-d").arg(&kernel.root);
        command.args(["-S", &kernel.release, "--show-depends", module]);
        let text = output_of(&mut command).with_context(|| {
            format!("{} {} has no {module}", describe(&command), kernel.release)
        })?;
        for file in text.lines().filter_map(|line| line.strip_prefix("insmod ")) {
            let file = PathBuf::from(file.trim());
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    Ok(files)
}

/// Copies a module, decompressed: busybox's insmod would not.
fn unpack_module(from: &Path, to: &Path) -> anyhow::Result<()> {
    let program = match from.extension().and_then(|end| end.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return copy(from, to),
    };
    let file = fs::File::create(to).with_context(|| to.display().to_string())?;
    let mut command = Command::new(tool(program)?);
    let status = command
        .args(["--decompress", "--stdout"])
        .arg(from)
        .stdout(file)
        .status()
        .with_context(|| format!("starting {program}"))?;
    ensure!(status.success(), "{} failed: {status}", describe(&command));
    Ok(())
}

/// An empty directory.
fn fresh(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        fs::remove_dir_all(path).with_context(|| path.display().to_string())?;
    }
    fs::create_dir_all(path).with_context(|| path.display().to_string())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let context = || format!("copying {} to {}", from.display(), to.display());
    let parent = to.parent().with_context(context)?;
    fs::create_dir_all(parent).with_context(context)?;
    fs::copy(from, to).map(drop).with_context(context)
}

fn copy_libraries(libraries: &Libraries, root: &Path) -> anyhow::Result<()> {
    for (there, from) in libraries {
        copy(from, &root.join(there.strip_prefix("/")?))?;
    }
    Ok(())
}

fn write(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let context = || path.display().to_string();
    let mut file = fs::File::create(path).with_context(context)?;
    file.write_all(content).with_context(context)?;
    let mode = fs::Permissions::from_mode(mode);
    file.set_permissions(mode).with_context(context)
}

/// Tells what is in use, so that nobody deletes it as rubbish.
pub(super) fn say_where(directory: &Path) {
    say(&format!(
        "disk, initramfs and logs: {}",
        directory.display()
    ));
}
