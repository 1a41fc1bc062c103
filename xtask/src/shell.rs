//! Other programs: find them, run them, run them as root. Used by every task.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

/// Tells the developer something, on standard error: standard output belongs to the programs run.
#[expect(clippy::print_stderr, reason = "a task runner talks to the terminal")]
pub(crate) fn say(text: &str) {
    eprintln!("xtask: {text}");
}

/// The top of the checkout.
pub(crate) fn root() -> anyhow::Result<PathBuf> {
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .context("xtask runs through cargo: use `cargo xtask` or `./x`")?;
    let root = Path::new(&manifest).parent();
    Ok(root.context("xtask has no parent directory")?.to_owned())
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> anyhow::Result<PathBuf> {
    Ok(root()?.join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into())))
}

/// Shows the command, runs it, and fails unless it succeeds.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    say(&describe(command));
    let status = command
        .status()
        .with_context(|| format!("starting {}", describe(command)))?;
    ensure!(status.success(), "{} failed: {status}", describe(command));
    Ok(())
}

/// What a command prints on standard output, or `None` if it does not start or fails.
pub(crate) fn output_of(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

/// The command as it could be typed, for messages: not quoted.
pub(crate) fn describe(command: &Command) -> String {
    let mut line = String::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            let _ = write!(line, "{}={} ", name.display(), value.display());
        }
    }
    let _ = write!(line, "{}", command.get_program().display());
    for argument in command.get_args() {
        let _ = write!(line, " {}", argument.display());
    }
    line
}

/// The full path of a program, looked for where root would find it too: a user's `PATH` on Debian
/// has no `/usr/sbin`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// How this process gets to be root.
#[derive(Clone, Copy)]
pub(crate) enum Root {
    /// It is.
    Already,
    /// Through sudo. `prompt`: somebody is there to type a password.
    Sudo {
        /// Whether sudo may ask for a password.
        prompt: bool,
    },
}

impl Root {
    /// Finds the way; asks for the password now, once, if there is somebody to ask.
    pub(crate) fn obtain() -> anyhow::Result<Root> {
        let euid = Path::new("/proc/self")
            .metadata()
            .context("reading /proc/self for the effective user id")?
            .uid();
        if euid == 0 {
            return Ok(Root::Already);
        }
        if find("sudo").is_none() {
            bail!("this needs root, and you are uid {euid} without sudo: install sudo, or be root");
        }
        let prompt = env::var_os("CI").is_none() && std::io::stdin().is_terminal();
        let mut check = sudo(prompt);
        let status = check.arg("true").status().context("starting sudo")?;
        ensure!(
            status.success(),
            "this needs root, and `{}` did not give it: {status}",
            describe(&check)
        );
        Ok(Root::Sudo { prompt })
    }

    /// A command that runs as root. sudo clears the environment, so what it needs is named here.
    pub(crate) fn command(
        self,
        program: impl AsRef<OsStr>,
        environment: &[(&str, OsString)],
    ) -> Command {
        match self {
            Root::Already => {
                let mut command = Command::new(program);
                command.envs(environment.iter().map(|(name, value)| (name, value)));
                command
            }
            Root::Sudo { prompt } => {
                let mut command = sudo(prompt);
                if !environment.is_empty() {
                    command.arg("env");
                }
                for (name, value) in environment {
                    let mut pair = OsString::from(name);
                    pair.push("=");
                    pair.push(value);
                    command.arg(pair);
                }
                command.arg(program);
                command
            }
        }
    }
}

fn sudo(prompt: bool) -> Command {
    let mut command = Command::new("sudo");
    if !prompt {
        command.arg("-n");
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_through_sudo_names_the_environment() {
        let root = Root::Sudo { prompt: false };
        let command = root.command("/bin/true", &[("A", "1".into()), ("B", "2".into())]);
        assert_eq!(describe(&command), "sudo -n env A=1 B=2 /bin/true");
    }

    #[test]
    fn root_already_sets_the_environment() {
        let command = Root::Already.command("/bin/true", &[("A", "1".into())]);
        assert_eq!(describe(&command), "A=1 /bin/true");
    }

    #[test]
    fn failure_names_the_command() {
        let error = run(Command::new("false").arg("x")).unwrap_err();
        assert!(error.to_string().starts_with("false x failed: "), "{error}");
    }

    #[test]
    fn missing_programs_are_not_found() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-of-that-name").is_none());
    }
}
