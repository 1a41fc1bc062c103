//! `cargo xtask run`: faulttrace on the bundled demo, or on what the arguments name.
//!
//! Ctrl-C reaches faulttrace from the terminal; this process outlives it, so that the summary is
//! printed before the prompt is back, and then stops the demo.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ChildStdin, Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cargo::release_binary;
use crate::shell::{Root, describe, say};

/// How long the demo may take to stop by itself before it is told to.
const DEMO_STOPS_WITHIN: Duration = Duration::from_secs(5);

/// What a line of arguments for faulttrace means for the demo.
const TARGETS: [&str; 9] = [
    "--pid",
    "--tid",
    "--comm",
    "--all",
    "--",
    "--help",
    "-h",
    "--version",
    "-V",
];

/// The arguments that follow the task's name. Not taken from clap, which eats the first `--`.
pub(crate) fn arguments_after(
    task: &str,
    all: impl IntoIterator<Item = OsString>,
) -> Vec<OsString> {
    all.into_iter()
        .skip(1)
        .skip_while(|argument| argument != task)
        .skip(1)
        .collect()
}

/// Builds, runs, and gives faulttrace's exit code.
pub(crate) fn run(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let faulttrace = release_binary("faulttrace", "faulttrace")?;
    if names_target(arguments) {
        let root = Root::obtain()?;
        return foreground(root, root.command(&faulttrace, &[]).args(arguments));
    }
    let demo = release_binary("faulttrace-tests", "faulttrace-demo")?;
    let root = Root::obtain()?;
    let demo = Demo::start(root, root.command(demo, &[]))?;
    let mut command = root.command(&faulttrace, &[]);
    command
        .arg("--pid")
        .arg(demo.pid.to_string())
        .args(arguments);
    let code = foreground(root, &mut command);
    demo.stop(root)?;
    code
}

/// Whether the arguments say what to trace, or ask for something that traces nothing.
fn names_target(arguments: &[OsString]) -> bool {
    let subcommand = arguments
        .first()
        .is_some_and(|first| !first.as_encoded_bytes().starts_with(b"-"));
    subcommand || arguments.iter().any(|argument| is_target(argument))
}

fn is_target(argument: &OsStr) -> bool {
    let bytes = argument.as_encoded_bytes();
    let name = bytes.split(|byte| *byte == b'=').next().unwrap_or(bytes);
    let short = [b"-p", b"-t", b"-a"];
    TARGETS.iter().any(|target| target.as_bytes() == name)
        || short.iter().any(|target| bytes.starts_with(*target))
}

/// Runs faulttrace with this terminal, and outlives it.
fn foreground(root: Root, command: &mut Command) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("catching SIGINT and SIGTERM")?;
    say(&describe(command));
    let mut child = command
        .spawn()
        .with_context(|| format!("starting {}", describe(command)))?;
    let pid = child.id();
    let handle = signals.handle();
    let forwarder = thread::spawn(move || {
        // The terminal sends SIGINT to everybody in the foreground; SIGTERM comes only here.
        for _ in signals.forever().filter(|signal| *signal == SIGTERM) {
            let _ = kill(root, pid);
        }
    });
    let status = child.wait().context("waiting for faulttrace");
    handle.close();
    let _ = forwarder.join();
    Ok(exit_code(status?))
}

/// The exit code, or what a shell makes of a signal.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

fn kill(root: Root, pid: u32) -> anyhow::Result<()> {
    let status = root
        .command("kill", &[])
        .args(["-TERM", &pid.to_string()])
        .stderr(Stdio::null())
        .status()
        .context("starting kill")?;
    ensure!(status.success(), "kill {pid}: {status}");
    Ok(())
}

/// The demo while it runs. It also stops when its standard input closes, so not even SIGKILL here
/// leaves it behind.
struct Demo {
    child: Child,
    stdin: Option<ChildStdin>,
    /// The demo itself; `child` may be sudo.
    pid: u32,
}

impl Demo {
    fn start(root: Root, mut command: Command) -> anyhow::Result<Demo> {
        // A process group of its own: Ctrl-C is for faulttrace, which is then to see it live.
        command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        say(&describe(&command));
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {}", describe(&command)))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("the demo has no output")?;
        let mut stdout = BufReader::new(stdout);
        let pid = match demo_pid(&mut stdout) {
            Ok(pid) => pid,
            Err(error) => {
                drop(stdin);
                let _ = kill(root, child.id());
                let status = child.wait().context("waiting for the demo")?;
                return Err(error.context(format!("the demo did not start ({status})")));
            }
        };
        // Whatever else it prints must not block it. The thread ends with the demo.
        thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        Ok(Demo { child, stdin, pid })
    }

    fn stop(mut self, root: Root) -> anyhow::Result<()> {
        drop(self.stdin.take());
        let deadline = Instant::now() + DEMO_STOPS_WITHIN;
        while Instant::now() < deadline {
            if self
                .child
                .try_wait()
                .context("waiting for the demo")?
                .is_some()
            {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        say("the demo goes on after its input closed: telling it to stop");
        kill(root, self.pid)?;
        self.child.wait().context("waiting for the demo")?;
        Ok(())
    }
}

/// Reads up to the line that tells the demo's process id.
fn demo_pid(output: &mut BufReader<impl Read>) -> anyhow::Result<u32> {
    let mut line = String::new();
    while output
        .read_line(&mut line)
        .context("reading the demo's output")?
        > 0
    {
        if let Some(pid) = parse_demo_line(&line) {
            say(line.trim_end());
            return Ok(pid);
        }
        line.clear();
    }
    bail!("it ended without a line `faulttrace-demo: pid N`");
}

fn parse_demo_line(line: &str) -> Option<u32> {
    let rest = line.strip_prefix("faulttrace-demo: pid ")?;
    let digits = rest.split(|byte: char| !byte.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_demo_is_for_arguments_without_a_target() {
        for line in [
            "",
            "--duration 15s",
            "-k --format json",
            "--min-duration=1ms",
        ] {
            assert!(!names_target(&words(line)), "{line}");
        }
        for line in [
            "--pid 12",
            "--pid=12,13",
            "-p12",
            "-k --all",
            "--duration 2s -- sleep 1",
            "doctor",
            "--help",
        ] {
            assert!(names_target(&words(line)), "{line}");
        }
    }

    #[test]
    fn arguments_keep_their_double_dash() {
        let all = words("xtask run -k -- run x");
        assert_eq!(arguments_after("run", all), words("-k -- run x"));
    }

    #[test]
    fn the_demo_tells_its_pid_on_one_line() {
        let mut output = BufReader::new("hello\nfaulttrace-demo: pid 123, 4 threads\n".as_bytes());
        assert_eq!(demo_pid(&mut output).unwrap(), 123);
        assert_eq!(parse_demo_line("faulttrace-demo: pid x"), None);
    }

    #[test]
    fn a_demo_that_ends_early_is_an_error() {
        let mut output = BufReader::new("hello\n".as_bytes());
        assert!(demo_pid(&mut output).is_err());
    }

    #[test]
    fn a_signal_is_reported_as_a_shell_does() {
        assert_eq!(exit_code(ExitStatus::from_raw(3 << 8)), ExitCode::from(3));
        assert_eq!(
            exit_code(ExitStatus::from_raw(SIGTERM)),
            ExitCode::from(143)
        );
    }
}
