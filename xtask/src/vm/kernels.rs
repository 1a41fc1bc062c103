//! Debian's kernels: which, resolved when run because point releases disappear, downloaded once.
//!
//! An apt state of their own, so that neither the machine's packages nor its lists change.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::shell::{describe, find, output_of, run, say};

/// A line of kernels and the suite of Debian that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Series {
    /// What `cargo xtask vm` calls it.
    pub(super) name: &'static str,
    suite: &'static str,
    /// CPUs of an emulated guest. QEMU 7.2 with `-icount` hangs where 5.10 and 6.1 start their second.
    pub(super) emulated_cpus: u32,
}

/// Every kernel of the matrix but the running one, oldest first.
pub(super) const SERIES: [Series; 4] = [
    Series {
        name: "5.10",
        suite: "bullseye",
        emulated_cpus: 1,
    },
    Series {
        name: "6.1",
        suite: "bookworm",
        emulated_cpus: 1,
    },
    Series {
        name: "6.12",
        suite: "trixie",
        emulated_cpus: 2,
    },
    Series {
        name: "newest",
        suite: "trixie-backports",
        emulated_cpus: 2,
    },
];

/// Always names the newest kernel of its suite.
const META_PACKAGE: &str = "linux-image-cloud-amd64";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// How long a suite's index is taken as fresh.
const INDEX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

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
    let cache = cache_directory()?.join(series.suite);
    fs::create_dir_all(&cache).with_context(|| cache.display().to_string())?;
    let apt = Apt::new(cache.clone());
    apt.refresh(series.suite)?;
    let image = apt
        .depends(META_PACKAGE)?
        .into_iter()
        .find(|package| release_of(package).is_some())
        .with_context(|| format!("{META_PACKAGE} of {} depends on no image", series.suite))?;
    let release = release_of(&image).context("no release")?.to_owned();
    let root = cache.join(&release);
    if !root.exists() {
        apt.unpack(&image, &release, &root)?;
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

/// The release in `linux-image-RELEASE`, of one that is no meta-package.
fn release_of(package: &str) -> Option<&str> {
    let release = package.strip_prefix("linux-image-")?;
    release
        .starts_with(|first: char| first.is_ascii_digit())
        .then_some(release)
}

fn cache_directory() -> anyhow::Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = set("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| {
        let home = set("HOME")?;
        Some(Path::new(&home).join(".cache"))
    });
    let base = base.context("neither XDG_CACHE_HOME nor HOME is set: where to keep kernels?")?;
    Ok(base.join("faulttrace/kernels"))
}

/// apt with lists, downloads and sources of its own.
struct Apt {
    directory: PathBuf,
}

impl Apt {
    fn new(directory: PathBuf) -> Apt {
        Apt { directory }
    }

    fn command(&self, program: &str) -> Command {
        let at = |name: &str| self.directory.join(name).display().to_string();
        let mut command = Command::new(program);
        for option in [
            format!("Dir::Etc::sourcelist={}", at("sources.list")),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::State::Lists={}", at("lists")),
            format!("Dir::State::status={}", at("status")),
            format!("Dir::Cache={}", at("cache")),
            "APT::Architecture=amd64".to_owned(),
            "APT::Architectures=amd64".to_owned(),
            "Acquire::Languages=none".to_owned(),
            // Descriptions of desktop programs.
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            // The user that apt downloads as may not enter a home directory.
            format!("APT::Sandbox::User={}", user()),
        ] {
            command.args(["-o", &option]);
        }
        command
    }

    /// Brings the suite's index up to date. Without a network an older one will do, said aloud.
    fn refresh(&self, suite: &str) -> anyhow::Result<()> {
        let stamp = self.directory.join("fresh");
        let age = stamp
            .metadata()
            .and_then(|data| data.modified())
            .ok()
            .and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age < INDEX_AGE) {
            return Ok(());
        }
        let mirror = mirror()?;
        ensure!(
            Path::new(KEYRING).exists(),
            "no {KEYRING} to check {suite} with: install debian-archive-keyring"
        );
        for directory in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(self.directory.join(directory)).context("apt's directories")?;
        }
        let source = format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n");
        fs::write(self.directory.join("sources.list"), source).context("sources.list")?;
        fs::write(self.directory.join("status"), "").context("apt's status")?;
        let updated = run(self
            .command("apt-get")
            .args(["--quiet=2", "--error-on=any", "update"])
            .stdout(Stdio::null()));
        match updated {
            Ok(()) => fs::write(stamp, "").context("apt's stamp"),
            Err(error) if age.is_some() => {
                say(&format!("{error:#}: the index of {suite} stays as it was"));
                Ok(())
            }
            Err(error) => Err(error.context(format!("{mirror} may not have {suite} any more"))),
        }
    }

    /// The packages that one depends on, alternatives left out.
    fn depends(&self, package: &str) -> anyhow::Result<Vec<String>> {
        let mut command = self.command("apt-cache");
        command.args(["show", "--no-all-versions", package]);
        let text = output_of(&mut command)
            .with_context(|| format!("{} found nothing", describe(&command)))?;
        Ok(depends(&text))
    }

    /// Downloads an image, and what Debian has split from it since Linux 7, into a directory that
    /// exists once it is complete.
    fn unpack(&self, image: &str, release: &str, root: &Path) -> anyhow::Result<()> {
        let mut packages = self.depends(image)?;
        packages.retain(|package| package.starts_with("linux-") && package.ends_with(release));
        packages.push(image.to_owned());
        let partial = self.directory.join(format!("{release}.partial"));
        if partial.exists() {
            fs::remove_dir_all(&partial).context("what a broken download left")?;
        }
        let debs = partial.join("debs");
        fs::create_dir_all(&debs).context("a directory for packages")?;
        run(self
            .command("apt-get")
            .args(["--quiet=2", "download"])
            .args(&packages)
            .current_dir(&debs))?;
        for deb in debs.read_dir().context("the packages")? {
            let deb = deb.context("the packages")?.path();
            run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&partial))?;
        }
        fs::remove_dir_all(&debs).context("the packages")?;
        let modules = Path::new("lib/modules");
        if !partial.join(modules).exists() {
            // Since Linux 6.12 they are in /usr alone, and depmod does not look there.
            std::os::unix::fs::symlink("usr/lib", partial.join("lib")).context("lib")?;
        }
        let depmod = find("depmod").context("no depmod here")?;
        run(Command::new(depmod).arg("-b").arg(&partial).arg(release))?;
        fs::rename(&partial, root).with_context(|| root.display().to_string())
    }
}

fn user() -> String {
    output_of(Command::new("id").arg("-un")).unwrap_or_else(|| "root".to_owned())
}

/// The Debian mirror that this machine's apt uses.
fn mirror() -> anyhow::Result<String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)"]);
    let text = output_of(&mut command).unwrap_or_default();
    match text
        .lines()
        .find_map(|line| line.strip_prefix("Debian|Debian|"))
    {
        Some(uri) => Ok(uri.to_owned()),
        None => bail!(
            "apt knows no Debian mirror, where the kernels are: add one to its sources, then: \
             sudo apt-get update"
        ),
    }
}

/// The names in the field Depends of what `apt-cache show` prints, alternatives left out.
fn depends(record: &str) -> Vec<String> {
    let field = record
        .lines()
        .find_map(|line| line.strip_prefix("Depends:"));
    let single = field
        .unwrap_or_default()
        .split(',')
        .filter(|one| !one.contains('|'));
    let names = single.filter_map(|one| one.split_whitespace().next());
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_names_without_versions_and_alternatives() {
        let record = "Package: a\nDepends: dracut | initramfs-tools (>= 0.1), b (= 1), c\nSize: 1";
        assert_eq!(depends(record), ["b", "c"]);
        assert!(depends("Package: a").is_empty());
    }

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
        assert_eq!(chosen(&[]).unwrap().len(), SERIES.len());
        assert_eq!(chosen(&["6.1".to_owned()]).unwrap(), [SERIES[1]]);
        assert!(chosen(&["6".to_owned()]).is_err());
    }
}
