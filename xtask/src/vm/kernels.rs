//! Debian's kernels: which, resolved when run because point releases disappear, downloaded once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::apt::{Apt, cache_directory};
use super::architecture::Architecture;
use crate::shell::{find, run};

/// A line of kernels and the suite of Debian that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Series {
    /// What `cargo xtask vm` calls it.
    pub(super) name: &'static str,
    suite: &'static str,
    pub(super) architecture: Architecture,
    /// CPUs of an emulated guest. QEMU 7.2 with `-icount` hangs where 5.10 and 6.1 start their second.
    pub(super) emulated_cpus: u32,
}

/// Every kernel of the matrix but the running one, oldest first, other architectures last.
pub(super) const SERIES: [Series; 5] = [
    Series {
        name: "5.10",
        suite: "bullseye",
        architecture: Architecture::Amd64,
        emulated_cpus: 1,
    },
    Series {
        name: "6.1",
        suite: "bookworm",
        architecture: Architecture::Amd64,
        emulated_cpus: 1,
    },
    Series {
        name: "6.12",
        suite: "trixie",
        architecture: Architecture::Amd64,
        emulated_cpus: 2,
    },
    Series {
        name: "newest",
        suite: "trixie-backports",
        architecture: Architecture::Amd64,
        emulated_cpus: 2,
    },
    Series {
        name: "arm64",
        suite: "trixie",
        architecture: Architecture::Arm64,
        emulated_cpus: 2,
    },
];

/// A kernel on this machine's disk.
#[derive(Debug)]
pub(super) struct Kernel {
    /// What it calls itself, as in `uname -r`.
    pub(super) release: String,
    /// Its bootable image.
    pub(super) image: PathBuf,
    /// The directory that has `lib/modules`.
    pub(super) root: PathBuf,
}

/// The kernels of the matrix that are named, or all.
pub(super) fn chosen(names: &[String]) -> anyhow::Result<Vec<Series>> {
    if names.is_empty() {
        return Ok(SERIES.to_vec());
    }
    let find = |name: &String| {
        let found = SERIES.iter().find(|series| series.name == name).copied();
        found.with_context(|| {
            let known = SERIES.map(|series| series.name).join(", ");
            format!("no kernel {name}: there are {known}")
        })
    };
    names.iter().map(find).collect()
}

/// The newest kernel of a series, downloaded if it is not here yet.
pub(super) fn obtain(series: Series) -> anyhow::Result<Kernel> {
    let architecture = series.architecture;
    let place = match architecture {
        Architecture::Amd64 => series.suite.to_owned(),
        Architecture::Arm64 => format!("{}-{}", series.suite, architecture.debian()),
    };
    let cache = cache_directory()?.join("kernels").join(place);
    let apt = Apt::new(cache.clone(), architecture)?;
    apt.refresh(series.suite)?;
    // Always names the newest kernel of its suite.
    let meta_package = format!("linux-image-cloud-{}", architecture.debian());
    let image = apt
        .depends(&meta_package)?
        .into_iter()
        .find(|package| release_of(package).is_some())
        .with_context(|| format!("{meta_package} of {} depends on no image", series.suite))?;
    let release = release_of(&image).context("no release")?.to_owned();
    let root = cache.join(&release);
    if !root.exists() {
        unpack(&apt, &image, &release, &root)?;
    }
    let places = [
        root.join(format!("boot/vmlinuz-{release}")),
        // Debian's packaging since Linux 7.
        root.join(format!("usr/lib/modules/{release}/vmlinuz")),
    ];
    let image = places.into_iter().find(|place| place.exists());
    Ok(Kernel {
        image: image.with_context(|| format!("no vmlinuz in {}", root.display()))?,
        release,
        root,
    })
}

/// Downloads an image, and what Debian has split from it since Linux 7, into a directory that
/// exists once it is complete.
fn unpack(apt: &Apt, image: &str, release: &str, root: &Path) -> anyhow::Result<()> {
    let mut packages = apt.depends(image)?;
    packages.retain(|package| package.starts_with("linux-") && package.ends_with(release));
    packages.push(image.to_owned());
    let partial = apt.unpack(release, &packages)?;
    let modules = Path::new("lib/modules");
    if !partial.join(modules).exists() {
        // Since Linux 6.12 they are in /usr alone, and depmod does not look there.
        std::os::unix::fs::symlink("usr/lib", partial.join("lib")).context("lib")?;
    }
    let depmod = find("depmod").context("no depmod here")?;
    run(Command::new(depmod).arg("-b").arg(&partial).arg(release))?;
    fs::rename(&partial, root).with_context(|| root.display().to_string())
}

/// The release in `linux-image-RELEASE`, of one that is no meta-package.
fn release_of(package: &str) -> Option<&str> {
    let release = package.strip_prefix("linux-image-")?;
    release
        .starts_with(|first: char| first.is_ascii_digit())
        .then_some(release)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_images_with_a_release_are_kernels() {
        assert_eq!(
            release_of("linux-image-6.1.0-50-cloud-amd64"),
            Some("6.1.0-50-cloud-amd64")
        );
        assert_eq!(release_of("linux-image-cloud-amd64"), None);
        assert_eq!(release_of("linux-base-6.1"), None);
    }

    #[test]
    fn kernels_are_chosen_by_name() {
        assert_eq!(chosen(&[]).unwrap(), SERIES);
        assert_eq!(chosen(&["arm64".to_owned()]).unwrap(), [SERIES[4]]);
        assert_eq!(chosen(&["6.1".to_owned()]).unwrap(), [SERIES[1]]);
        assert!(chosen(&["6".to_owned()]).is_err());
    }
}
