//! Child processes: their lines as they come, deadlines for everything, no survivors.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A line of a child's output and when it came.
#[derive(Debug, Clone)]
pub struct Line {
    pub at: Instant,
    pub text: String,
}

/// A running child whose output is read all the time. Killed and reaped on drop.
pub struct Running {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<Line>,
    errors: Arc<Mutex<Vec<u8>>>,
    errors_reader: JoinHandle<()>,
}

impl Running {
    /// Starts it.
    pub fn start(name: &str, command: &mut Command) -> Running {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        die_with_parent(command);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("start {name}: {error}"));
        let output = child.stdout.take().expect("piped");
        let mut error_output = child.stderr.take().expect("piped");
        let (sender, lines) = channel();
        thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut bytes = Vec::new();
            while output
                .read_until(b'\n', &mut bytes)
                .is_ok_and(|count| count > 0)
            {
                let text = String::from_utf8_lossy(bytes.trim_ascii_end()).into_owned();
                bytes.clear();
                if sender
                    .send(Line {
                        at: Instant::now(),
                        text,
                    })
                    .is_err()
                {
                    return;
                }
            }
        });
        let errors = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&errors);
        let errors_reader = thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = error_output.read(&mut part) {
                sink.lock()
                    .expect("not poisoned")
                    .extend_from_slice(&part[..count]);
            }
        });
        let input = child.stdin.take();
        Running {
            name: name.to_owned(),
            child,
            input,
            lines,
            errors,
            errors_reader,
        }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it was started as, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next line; `None` at the end of its output. Panics at the deadline.
    pub fn next_line(&self, deadline: Instant, awaited: &str) -> Option<Line> {
        match self.poll_line(deadline) {
            Ok(line) => line,
            Err(Late) => self.fail(&format!("{awaited} did not come in time")),
        }
    }

    /// The next line; `None` at the end of its output.
    pub fn poll_line(&self, deadline: Instant) -> Result<Option<Line>, Late> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(Late),
        }
    }

    /// Writes a line to its input.
    pub fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("its input is open");
        if let Err(error) = writeln!(input, "{line}").and_then(|()| input.flush()) {
            self.fail(&format!("cannot be told {line:?}: {error}"));
        }
    }

    /// Closes its input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.nix_pid(), signal).unwrap_or_else(|error| {
            self.fail(&format!("cannot be sent {signal}: {error}"));
        });
    }

    fn nix_pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.pid()).expect("a pid"))
    }

    /// Waits for its end. Panics at the deadline.
    pub fn wait(&mut self, deadline: Instant) -> ExitStatus {
        match wait_until(&mut self.child, deadline) {
            Some(status) => {
                // What it said last may still be on its way. A child of its own that lives on keeps
                // the pipe open, hence the bound.
                let bound = Instant::now() + Duration::from_secs(2);
                while !self.errors_reader.is_finished() && Instant::now() < bound {
                    thread::yield_now();
                }
                status
            }
            None => self.fail("did not end in time"),
        }
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.errors.lock().expect("not poisoned")).into_owned()
    }

    /// Panics with what it said last.
    pub fn fail(&self, message: &str) -> ! {
        panic!(
            "{} (pid {}) {message}\n{}",
            self.name,
            self.pid(),
            tail(&self.stderr())
        );
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.input = None;
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            // A stopped child cannot be reaped before it goes on.
            let _gone = kill(self.nix_pid(), Signal::SIGKILL);
            let _going = kill(self.nix_pid(), Signal::SIGCONT);
            // In a fault on a file system that is itself being torn down it may take a while;
            // the deadline keeps a test that fails from hanging.
            wait_until(&mut self.child, Instant::now() + Duration::from_secs(5));
        }
    }
}

/// The deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late;

/// The last lines of a program's stderr, for a failure message.
pub fn tail(stderr: &str) -> String {
    let lines: Vec<_> = stderr.lines().collect();
    let last = &lines[lines.len().saturating_sub(30)..];
    format!("--- end of its stderr ---\n{}\n---", last.join("\n"))
}

/// The kernel kills the child when the test dies, so that a killed test leaves nothing running.
pub fn die_with_parent(command: &mut Command) {
    // SAFETY: prctl is async-signal-safe and touches no memory.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}

/// Polls, because std has no wait with a deadline; the interval decides nothing but when we see
/// it.
fn wait_until(child: &mut Child, deadline: Instant) -> Option<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait().expect("wait for a child") {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until something outside this process holds. Panics at the deadline.
pub fn until(what: &str, within: Duration, holds: impl FnMut() -> bool) {
    until_or(what, within, holds, || "");
}

/// The same; says why it may not be so.
pub fn until_or<T: Display>(
    what: &str,
    within: Duration,
    mut holds: impl FnMut() -> bool,
    why: impl FnOnce() -> T,
) {
    let deadline = Instant::now() + within;
    while !holds() {
        if Instant::now() >= deadline {
            panic!("within {within:?} it did not happen that {what} {}", why());
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Runs a command to its end; panics at the deadline, whatever its exit code.
pub fn run(command: &mut Command, within: Duration) -> Output {
    let name = format!("{command:?}");
    let mut running = Running::start(&name, command);
    running.close_input();
    let deadline = Instant::now() + within;
    let mut stdout = String::new();
    while let Some(line) = running.next_line(deadline, "the end of its output") {
        stdout.push_str(&line.text);
        stdout.push('\n');
    }
    let status = running.wait(deadline);
    Output {
        status,
        stdout: stdout.into_bytes(),
        stderr: running.stderr().into_bytes(),
    }
}

/// Runs a command that must succeed; its output without the last newline.
pub fn must<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> String {
    must_run(Command::new(program).args(arguments))
}

/// The same of a command.
pub fn must_run(command: &mut Command) -> String {
    let output = run(command, Duration::from_secs(60));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        tail(&stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .trim_end()
        .to_owned()
}

/// Runs a program that must succeed, to its end; its process id.
pub fn pid_of_run(command: &mut Command) -> u32 {
    let mut child = command.spawn().expect("started");
    let pid = child.id();
    assert!(child.wait().expect("ended").success(), "{command:?}");
    pid
}

/// A line of /proc/meminfo, bytes.
pub fn meminfo(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next());
    kib.and_then(|kib| kib.parse::<u64>().ok()).expect(key) << 10
}
