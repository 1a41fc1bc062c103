//! Where a guest's programs and libraries come from: this machine, or for another architecture,
//! Debian's packages and the cross compiler's C library.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use super::apt::{Apt, cache_directory};
use super::architecture::Architecture;
use crate::shell::{describe, find, output_of, run};

/// The suite of the packages: its programs run with the C library of any later one, so with the one that
/// the cross compiler links against.
const SUITE: &str = "bookworm";
/// The programs that go into the guest, and their libraries but for the C library.
const PACKAGES: [&str; 16] = [
    "busybox-static",
    "dmsetup",
    "e2fsprogs",
    "libblkid1",
    "libcap-ng0",
    "libcom-err2",
    "libdevmapper1.02.1",
    "libext2fs2",
    "libmount1",
    "libpcre2-8-0",
    "libselinux1",
    "libsmartcols1",
    "libudev1",
    "libuuid1",
    "mount",
    "util-linux",
];
/// Where Debian's cross compilers have the C library. First, so that there are no two.
const CROSS_LIBRARIES: &str = "/usr/aarch64-linux-gnu/lib";

/// A source of programs and libraries.
pub(super) struct Userland {
    architecture: Architecture,
    /// Unpacked packages; of this machine's architecture, there are none.
    root: Option<PathBuf>,
}

/// Libraries by their paths in the guest, with the files they are copied from.
pub(super) type Libraries = BTreeMap<PathBuf, PathBuf>;

impl Userland {
    /// Downloads the packages if they are needed and not here yet.
    pub(super) fn obtain(architecture: Architecture) -> anyhow::Result<Userland> {
        let root = match architecture {
            Architecture::Amd64 => None,
            Architecture::Arm64 => Some(packages(architecture)?),
        };
        Ok(Userland { architecture, root })
    }

    /// The file of a program.
    pub(super) fn program(&self, name: &str) -> anyhow::Result<PathBuf> {
        let Some(root) = &self.root else {
            return tool(name);
        };
        ["bin", "sbin", "usr/bin", "usr/sbin"]
            .iter()
            .map(|directory| root.join(directory).join(name))
            .find(|file| file.is_file())
            .with_context(|| format!("no {name} in {}", root.display()))
    }

    /// The shared libraries of a program, the loader included; none of a static one.
    pub(super) fn libraries_of(&self, program: &Path) -> anyhow::Result<Libraries> {
        match &self.root {
            None => Ok(libraries_here(program)),
            Some(root) => foreign_libraries(program, root),
        }
    }

    /// Copies a program without its debug information. The symbol table stays.
    pub(super) fn strip(&self, from: &Path, to: &Path) -> anyhow::Result<()> {
        let strip = tool(self.architecture.strip())?;
        run(Command::new(strip)
            .args(["--strip-debug", "-o"])
            .arg(to)
            .arg(from))
    }
}

/// A program of this machine.
pub(super) fn tool(name: &str) -> anyhow::Result<PathBuf> {
    find(name).with_context(|| format!("no {name} here: cargo xtask vm installs it with apt-get"))
}

/// A directory with the packages unpacked.
fn packages(architecture: Architecture) -> anyhow::Result<PathBuf> {
    let place = format!("{SUITE}-{}", architecture.debian());
    let cache = cache_directory()?.join("userland").join(place);
    let root = cache.join("root");
    // Written last, so that it is there if all is.
    let complete = root.join("packages");
    let wanted = PACKAGES.map(str::to_owned);
    if fs::read_to_string(&complete).is_ok_and(|there| there == wanted.join(" ")) {
        return Ok(root);
    }
    let apt = Apt::new(cache, architecture)?;
    apt.refresh(SUITE)?;
    let partial = apt.unpack("root", &wanted)?;
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| root.display().to_string())?;
    }
    fs::rename(&partial, &root).with_context(|| root.display().to_string())?;
    fs::write(&complete, wanted.join(" ")).with_context(|| complete.display().to_string())?;
    Ok(root)
}

fn libraries_here(program: &Path) -> Libraries {
    let text = output_of(Command::new("ldd").arg(program)).unwrap_or_default();
    let words = text
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    words
        .map(|word| (PathBuf::from(word), PathBuf::from(word)))
        .collect()
}

/// What ldd, which executes the loader, cannot tell of another architecture's program. In the guest all
/// are in /lib, where its loader is and looks.
fn foreign_libraries(program: &Path, root: &Path) -> anyhow::Result<Libraries> {
    let places = [
        PathBuf::from(CROSS_LIBRARIES),
        root.join("lib/aarch64-linux-gnu"),
        root.join("usr/lib/aarch64-linux-gnu"),
    ];
    let mut found = Libraries::new();
    let mut unread = vec![program.to_owned()];
    while let Some(file) = unread.pop() {
        for name in needed(&file)? {
            let there = Path::new("/lib").join(&name);
            if found.contains_key(&there) {
                continue;
            }
            let from = places.iter().map(|place| place.join(&name));
            let Some(from) = from.into_iter().find(|from| from.exists()) else {
                bail!("{} needs {name}, which is in no package", file.display());
            };
            unread.push(from.clone());
            found.insert(there, from);
        }
    }
    Ok(found)
}

/// The libraries that a file names itself.
fn needed(file: &Path) -> anyhow::Result<Vec<String>> {
    let mut command = Command::new(tool("readelf")?);
    command.env("LC_ALL", "C").arg("--dynamic").arg(file);
    let text = output_of(&mut command).with_context(|| format!("{} failed", describe(&command)))?;
    ensure!(!text.is_empty(), "{} printed nothing", describe(&command));
    Ok(needed_in(&text))
}

/// The names in lines such as `0x01 (NEEDED)  Shared library: [libc.so.6]`.
fn needed_in(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_needed_libraries_are_named() {
        let text = "Dynamic section at offset 0x1 contains 3 entries:\n\
            0x0000000000000001 (NEEDED)   Shared library: [libm.so.6]\n\
            0x000000000000000e (SONAME)   Library soname: [libe2p.so.2]\n\
            0x0000000000000001 (NEEDED)   Shared library: [libc.so.6]\n";
        assert_eq!(needed_in(text), ["libm.so.6", "libc.so.6"]);
        assert!(needed_in("There is no dynamic section in this file.").is_empty());
    }
}
