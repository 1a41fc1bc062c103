//! Debian's packages, of other suites and architectures than this machine's.
//!
//! An apt state of their own, so that neither the machine's packages nor its lists change.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use super::architecture::Architecture;
use crate::shell::{describe, output_of, run, say};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// How long a suite's index is taken as fresh.
const INDEX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Where what was downloaded stays.
pub(super) fn cache_directory() -> anyhow::Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = set("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| {
        let home = set("HOME")?;
        Some(Path::new(&home).join(".cache"))
    });
    let base = base.context("neither XDG_CACHE_HOME nor HOME is set: where to keep kernels?")?;
    Ok(base.join("faulttrace"))
}

/// apt with lists, downloads and sources of its own.
pub(super) struct Apt {
    directory: PathBuf,
    architecture: Architecture,
}

impl Apt {
    /// Keeps all of its own in that directory, which need not exist yet.
    pub(super) fn new(directory: PathBuf, architecture: Architecture) -> anyhow::Result<Apt> {
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        Ok(Apt {
            directory,
            architecture,
        })
    }

    fn command(&self, program: &str) -> Command {
        let architecture = self.architecture.debian();
        let at = |name: &str| self.directory.join(name).display().to_string();
        let mut command = Command::new(program);
        for option in [
            format!("Dir::Etc::sourcelist={}", at("sources.list")),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::State::Lists={}", at("lists")),
            format!("Dir::State::status={}", at("status")),
            format!("Dir::Cache={}", at("cache")),
            format!("APT::Architecture={architecture}"),
            format!("APT::Architectures={architecture}"),
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
    pub(super) fn refresh(&self, suite: &str) -> anyhow::Result<()> {
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
    pub(super) fn depends(&self, package: &str) -> anyhow::Result<Vec<String>> {
        let mut command = self.command("apt-cache");
        command.args(["show", "--no-all-versions", package]);
        let text = output_of(&mut command)
            .with_context(|| format!("{} found nothing", describe(&command)))?;
        Ok(depends(&text))
    }

    /// Downloads packages, and unpacks them into an empty directory beside its own, which it returns.
    pub(super) fn unpack(&self, name: &str, packages: &[String]) -> anyhow::Result<PathBuf> {
        let partial = self.directory.join(format!("{name}.partial"));
        if partial.exists() {
            fs::remove_dir_all(&partial).context("what a broken download left")?;
        }
        let debs = partial.join("debs");
        fs::create_dir_all(&debs).context("a directory for packages")?;
        run(self
            .command("apt-get")
            .args(["--quiet=2", "download"])
            .args(packages)
            .current_dir(&debs))?;
        for deb in debs.read_dir().context("the packages")? {
            let deb = deb.context("the packages")?.path();
            run(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&partial))?;
        }
        fs::remove_dir_all(&debs).context("the packages")?;
        Ok(partial)
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
}
