//! Small programs that tests compile at run time, because what is tested is how they were built.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::process::{must, run, tail};

/// The directory of their sources.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("programs")
}

/// Compiles a C program with debug information and frame pointers.
pub fn compile_c(source: &str, to: &Path) {
    compile_c_with(source, to, &[]);
}

/// As [`compile_c`], with an option for the linker.
pub fn compile_c_linked(source: &str, to: &Path, option: &str) {
    compile_c_with(source, to, &[&format!("-Wl,{option}")]);
}

/// The build id that `readelf` shows for a program or library.
pub fn build_id_of(file: &Path) -> Option<String> {
    let notes = must("readelf", ["-n".as_ref(), file.as_os_str()]);
    let id = |line: &str| Some(line.trim().strip_prefix("Build ID: ")?.to_owned());
    notes.lines().find_map(id)
}

fn compile_c_with(source: &str, to: &Path, options: &[&str]) {
    let mut command = Command::new("gcc");
    command.args([
        "-g",
        "-O2",
        "-fno-omit-frame-pointer",
        "-fno-optimize-sibling-calls",
    ]);
    command
        .args(options)
        .args(["-Wall", "-Werror", "-o"])
        .arg(to)
        .arg(sources().join(source));
    compile(&mut command);
}

/// Compiles a C program with compressed debug information that claims to be larger than any memory.
pub fn compile_c_hostile(source: &str, to: &Path) {
    compile_c_with(source, to, &["-gz=zlib"]);
    let sections = must("readelf", ["-SW".as_ref(), to.as_os_str()]);
    let line = sections
        .lines()
        .find(|line| line.contains(" .debug_info "))
        .expect("debug information");
    let fields = line.rsplit(']').next().expect("fields");
    let offset = fields.split_whitespace().nth(3).expect("an offset");
    let offset = u64::from_str_radix(offset, 16).expect("hexadecimal");
    let file = fs::OpenOptions::new()
        .write(true)
        .open(to)
        .expect("the program");
    // ch_size of an Elf64_Chdr.
    file.write_all_at(&(1_u64 << 60).to_ne_bytes(), offset + 8)
        .expect("change the program");
}

/// Compiles a Rust program with optimization, debug information and frame pointers.
pub fn compile_rust(source: &str, to: &Path) {
    let mut command = Command::new("rustc");
    command.args([
        "--edition=2024",
        "-g",
        "-Copt-level=2",
        "-Cforce-frame-pointers=yes",
        "-o",
    ]);
    // In the sources' directory the workspace's toolchain file applies.
    command
        .arg(to)
        .arg(sources().join(source))
        .current_dir(sources());
    compile(&mut command);
}

/// Builds the Go program of a directory with this `go`, and options for `go build`; with C in it or not.
pub fn compile_go(go: &Path, source: &str, to: &Path, options: &[&str], with_c: bool) {
    let mut command = Command::new(go);
    command.arg("build").args(options).arg("-o").arg(to);
    if with_c {
        command.arg("-tags=withc");
    }
    command
        .args(["main.go", "cgo.go"])
        .current_dir(sources().join(source))
        .env("CGO_ENABLED", if with_c { "1" } else { "0" })
        // This `go` itself, and nothing from the network.
        .envs([("GOTOOLCHAIN", "local"), ("GOFLAGS", "-mod=mod")])
        .env("GOPROXY", "off");
    if std::env::var_os("HOME").is_none() {
        command.env("GOCACHE", to.with_file_name("go-cache"));
    }
    // The first time, all of its standard library is built, in each of several ways.
    compile_within(&mut command, Duration::from_secs(900));
}

fn compile(command: &mut Command) {
    compile_within(command, Duration::from_secs(120));
}

fn compile_within(command: &mut Command, wait: Duration) {
    let output = run(command, wait);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        tail(&stderr)
    );
}

/// The number of the line that has this marker.
pub fn line_of(source: &str, marker: &str) -> u32 {
    let text = fs::read_to_string(sources().join(source)).expect("read a source");
    let index = text.lines().position(|line| line.contains(marker));
    u32::try_from(index.expect("the marker is in the source") + 1).expect("a short source")
}
