//! User stacks of programs built, and kept, in different ways.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use faulttrace_tests::harness::disk::evict;
use faulttrace_tests::harness::process::must;
use faulttrace_tests::harness::programs::{
    build_id_of, compile_c, compile_c_hostile, compile_c_linked, compile_rust, line_of,
};
use faulttrace_tests::harness::record::{Fault, Frame};
use faulttrace_tests::harness::slow::{Options, SlowFs};
use faulttrace_tests::harness::tracer::Tracer;
use faulttrace_tests::harness::work::Work;
use faulttrace_tests::harness::{Bench, start};

const PAGES: usize = 8;

fn slow_file(bench: &Bench) -> SlowFs {
    let options = Options {
        delay_us: 5_000,
        pages: PAGES,
        ..Options::default()
    };
    SlowFs::mount(bench, &options)
}

/// Traces a program that touches every page of the slow file; the faults on that file. Where the machine is so
/// busy that names come too late, and the tracer says so, it is done again.
fn trace(slow: &SlowFs, command: &mut Command) -> Vec<Fault> {
    for _ in 0..3 {
        let (faults, late) = attempt(&[], slow, command, || ());
        if late == 0 {
            return faults;
        }
        eprintln!("names of {late} stacks came too late");
        evict(slow.file());
    }
    panic!("names came too late each time");
}

/// The same once, with options for the tracer; `when_ready` runs before it starts.
fn trace_with(
    options: &[&str],
    slow: &SlowFs,
    command: &mut Command,
    when_ready: impl FnOnce(),
) -> Vec<Fault> {
    attempt(options, slow, command, when_ready).0
}

/// The faults, and how many stacks the tracer has no names of because they came too late.
fn attempt(
    options: &[&str],
    slow: &SlowFs,
    command: &mut Command,
    when_ready: impl FnOnce(),
) -> (Vec<Fault>, u64) {
    let mut work = Work::start_command("program", command);
    when_ready();
    let tracer = Tracer::of_with(work.pid(), options);
    work.run();
    let trace = tracer.stop();
    let name = slow
        .file()
        .file_name()
        .expect("a file")
        .to_str()
        .expect("our own name");
    let of_file = |fault: &&Fault| {
        fault
            .facts
            .path
            .as_deref()
            .is_some_and(|path| path.ends_with(&format!("/{name}")))
    };
    let faults: Vec<_> = trace
        .faults(work.pid())
        .into_iter()
        .filter(of_file)
        .cloned()
        .collect();
    trace.check(faults.len() == PAGES, || {
        format!("{PAGES} faults, not {}", faults.len())
    });
    let late = trace.lost_for("symbols_late");
    work.exit();
    (faults, late)
}

fn stack(fault: &Fault) -> &[Frame] {
    fault
        .facts
        .user_stack
        .as_deref()
        .unwrap_or_else(|| panic!("no user stack: {fault:?}"))
}

/// touch_page (inlined) in middle in outer in main, with their lines.
fn check_nested(fault: &Fault) {
    assert!(
        fault
            .facts
            .functions()
            .starts_with(&["touch_page", "middle", "outer", "main"]),
        "{:#?}",
        fault.facts.user_stack
    );
    let frames = stack(fault);
    assert!(frames[0].inlined && !frames[1].inlined, "{frames:#?}");
    for (frame, marker) in [(&frames[0], "FAULT LINE"), (&frames[2], "OUTER LINE")] {
        assert_eq!(frame.line, Some(line_of("nested.c", marker)), "{frame:?}");
        assert!(
            frame
                .file
                .as_deref()
                .is_some_and(|file| file.ends_with("nested.c")),
            "{frame:?}"
        );
    }
}

/// Ways to touch a page in `hidden.c`, in turn: in the C library, in a leaf, in system calls.
const WAYS: [&str; 6] = [
    "by_memcpy",
    "by_memchr",
    "by_strnlen",
    "by_leaf",
    "by_write",
    "by_madvise",
];

#[test]
fn callers_that_frame_pointers_hide_are_told() {
    let bench = start();
    let slow = slow_file(&bench);
    let program = bench.path().join("hidden");
    compile_c("hidden.c", &program);
    let faults = trace(&slow, &mut run(&program, &slow));
    for fault in &faults {
        let page = usize::try_from(fault.facts.offset.expect("an offset") / 4096);
        let way = WAYS[page.expect("a page") % WAYS.len()];
        let frames = stack(fault);
        assert!(frames.len() > 2, "{frames:#?}");
        let functions = fault.facts.functions();
        assert_eq!(functions[1..3], [way, "main"], "{frames:#?}");
        let line = line_of("hidden.c", &format!("{way} LINE"));
        assert_eq!(frames[1].line, Some(line), "{frames:#?}");
        let modules = [&frames[0].module, &frames[1].module];
        assert_eq!(modules[0] == modules[1], way == "by_leaf", "{frames:#?}");
    }
}

fn run(program: &Path, slow: &SlowFs) -> Command {
    let mut command = Command::new(program);
    command.arg(slow.file());
    command
}

#[test]
fn c_with_inlined_function_and_line() {
    let bench = start();
    let slow = slow_file(&bench);
    let program = bench.path().join("nested");
    compile_c("nested.c", &program);
    trace(&slow, &mut run(&program, &slow))
        .iter()
        .for_each(check_nested);
}

#[test]
fn hostile_debug_information_costs_no_more_than_itself() {
    let bench = start();
    let slow = slow_file(&bench);
    let program = bench.path().join("hostile");
    compile_c_hostile("nested.c", &program);
    for fault in &trace(&slow, &mut run(&program, &slow)) {
        // The names of its symbol table, without lines; and those of other files.
        let functions = fault.facts.functions();
        assert!(
            functions.starts_with(&["middle", "outer", "main"]),
            "{functions:?}"
        );
        assert_eq!(stack(fault)[0].line, None, "{fault:?}");
        assert!(
            functions.iter().any(|name| name.contains("libc_start")),
            "{functions:?}"
        );
    }
}

/// Where a function of the program is in its file: (begin, end).
fn place_of(program: &Path, function: &str) -> (u64, u64) {
    let symbols = must("nm", ["--print-size".as_ref(), program.as_os_str()]);
    let line = symbols
        .lines()
        .find(|line| line.ends_with(&format!(" {function}")));
    let fields: Vec<_> = line.expect("the function").split(' ').collect();
    let number = |text| u64::from_str_radix(text, 16).expect("hexadecimal");
    // In these programs the text is at the same offset in the file as in memory.
    (number(fields[0]), number(fields[0]) + number(fields[1]))
}

#[test]
fn stripped_program_has_module_and_offset() {
    let bench = start();
    let slow = slow_file(&bench);
    let (program, stripped) = (bench.path().join("nested"), bench.path().join("stripped"));
    compile_c("nested.c", &program);
    must(
        "strip",
        ["-o".as_ref(), stripped.as_os_str(), program.as_os_str()],
    );
    let (begin, end) = place_of(&program, "middle");
    for fault in &trace(&slow, &mut run(&stripped, &slow)) {
        let frame = &stack(fault)[0];
        assert_eq!(frame.function, None, "{frame:?}");
        let module = frame.module.as_deref().unwrap_or_default();
        assert!(module.ends_with("stripped"), "{frame:?}");
        let offset = frame
            .module_offset
            .or(frame.offset)
            .expect("an offset in the module");
        assert!(
            (begin..end).contains(&offset),
            "{offset:#x} is not in {begin:#x}..{end:#x}"
        );
    }
}

#[test]
fn rust_is_demangled() {
    let bench = start();
    let slow = slow_file(&bench);
    let program = bench.path().join("rust_frames");
    compile_rust("rust_frames.rs", &program);
    for fault in &trace(&slow, &mut run(&program, &slow)) {
        let functions = fault.facts.functions();
        for name in ["read_record", "store::lookup_key"] {
            assert!(
                functions.iter().any(|f| f.contains(name)),
                "{name} in {functions:#?}"
            );
        }
        let mangled = |name: &&str| name.starts_with("_ZN") || name.starts_with("_R");
        assert!(!functions.iter().any(mangled), "{functions:#?}");
        let hashed = |name: &&str| name.rsplit_once("::h").is_some_and(|(_, h)| h.len() == 16);
        assert!(!functions.iter().any(hashed), "a hash in {functions:#?}");
        let frame = &stack(fault)[0];
        let in_source = stack(fault).iter().any(|f| {
            f.file
                .as_deref()
                .is_some_and(|file| file.ends_with("rust_frames.rs"))
        });
        assert!(in_source, "the source file: {frame:?}");
    }
}

#[test]
fn program_in_another_mount_namespace() {
    let bench = start();
    let slow = slow_file(&bench);
    let (program, hidden) = (bench.path().join("nested"), bench.subdirectory("hidden"));
    compile_c("nested.c", &program);
    // The copy is on a tmpfs that exists in the program's namespace only.
    let script =
        "mount -t tmpfs none \"$1\" && cp \"$0\" \"$1/inside\" && exec \"$1/inside\" \"$2\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation=private", "sh", "-c", script]);
    command.args([&*program, &*hidden, slow.file()]);
    let faults = trace_with(&[], &slow, &mut command, || {
        assert!(!hidden.join("inside").exists(), "it is hidden from us");
    });
    faults.iter().for_each(check_nested);
}

#[test]
fn program_deleted_after_its_start() {
    let bench = start();
    let slow = slow_file(&bench);
    let program = bench.path().join("nested");
    compile_c("nested.c", &program);
    let delete = || fs::remove_file(&program).expect("delete the program");
    trace_with(&[], &slow, &mut run(&program, &slow), delete)
        .iter()
        .for_each(check_nested);
}

/// /tmp/perf-PID.map, removed even if the test fails.
struct PerfMap(PathBuf);

impl Drop for PerfMap {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.0);
    }
}

#[test]
fn jit_names_its_functions_in_a_perf_map() {
    let bench = start();
    let slow = slow_file(&bench);
    let program = bench.path().join("jit");
    compile_c("jit.c", &program);
    let mut maps = Vec::new();
    let faults = trace_with(&[], &slow, &mut run(&program, &slow), || {
        let files = fs::read_dir("/tmp")
            .expect("/tmp")
            .flatten()
            .map(|entry| entry.path());
        maps = files
            .filter(|path| perf_map_of_jit(path))
            .map(PerfMap)
            .collect();
    });
    assert!(!maps.is_empty(), "the program wrote its map");
    for fault in &faults {
        let functions = fault.facts.functions();
        assert!(
            functions.starts_with(&["jit_lookup_key", "call_jit", "main"]),
            "{functions:?}"
        );
    }
}

fn perf_map_of_jit(path: &Path) -> bool {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    name.starts_with("perf-")
        && name.ends_with(".map")
        && fs::read_to_string(path).is_ok_and(|map| map.contains("jit_lookup_key"))
}

/// The build ids of the frames of a program and of the C library in a stack. Panics unless each has
/// frames, and they agree.
fn build_ids<'a>(fault: &'a Fault, program: &Path) -> [Option<&'a str>; 2] {
    let name = program.file_name().expect("a name").to_str();
    let name = name.expect("our own name");
    [name, "libc.so.6"].map(|name| {
        let of_it = |frame: &&Frame| {
            let module = frame.module.as_deref().unwrap_or_default();
            module.ends_with(&format!("/{name}"))
        };
        let mut ids: Vec<_> = stack(fault)
            .iter()
            .filter(of_it)
            .map(|frame| frame.build_id.as_deref())
            .collect();
        ids.dedup();
        let [id] = ids[..] else {
            panic!("{ids:?} of {name}: {:#?}", stack(fault));
        };
        id
    })
}

/// Where the C library is, from a stack.
fn libc_of(fault: &Fault) -> &Path {
    let modules = stack(fault).iter().filter_map(|f| f.module.as_deref());
    let mut found = modules.filter(|module| module.ends_with("/libc.so.6"));
    Path::new(found.next().expect("frames of the C library"))
}

#[test]
fn build_ids_are_those_of_the_files() {
    let bench = start();
    let slow = slow_file(&bench);
    let program = bench.path().join("nested");
    compile_c("nested.c", &program);
    let own = build_id_of(&program).expect("gcc makes one by default");
    for fault in &trace(&slow, &mut run(&program, &slow)) {
        check_nested(fault);
        let library = build_id_of(libc_of(fault));
        assert!(library.is_some() && library.as_ref() != Some(&own));
        assert_eq!(
            build_ids(fault, &program),
            [Some(&*own), library.as_deref()]
        );
    }
}

#[test]
fn without_symbols_a_frame_still_tells_what_to_symbolize() {
    let bench = start();
    let slow = slow_file(&bench);
    let program = bench.path().join("nested");
    compile_c("nested.c", &program);
    let own = build_id_of(&program).expect("gcc makes one by default");
    let (begin, end) = place_of(&program, "middle");
    let mut command = run(&program, &slow);
    for fault in &trace_with(&["--no-symbols"], &slow, &mut command, || ()) {
        for frame in stack(fault) {
            assert_eq!((&frame.function, &frame.file), (&None, &None), "{frame:?}");
        }
        let [of_program, of_library] = build_ids(fault, &program);
        assert_eq!(of_program, Some(&*own));
        assert_eq!(of_library, build_id_of(libc_of(fault)).as_deref());
        let offset = stack(fault)[0].module_offset.expect("an offset");
        assert!((begin..end).contains(&offset), "{offset:#x}");
    }
}

#[test]
fn no_build_id_is_null_and_so_is_one_of_more_than_64_bytes() {
    let bench = start();
    let slow = slow_file(&bench);
    let long = format!("--build-id=0x{}", "ab".repeat(65));
    let longest = format!("--build-id=0x{}", "ab".repeat(64));
    for (name, option, id) in [
        ("without", "--build-id=none", None),
        ("long", &*long, None),
        ("longest", &*longest, Some("ab".repeat(64))),
    ] {
        let program = bench.path().join(name);
        compile_c_linked("nested.c", &program, option);
        let faults = trace(&slow, &mut run(&program, &slow));
        for fault in &faults {
            check_nested(fault);
            let [own, library] = build_ids(fault, &program);
            assert_eq!(own, id.as_deref(), "{option}");
            assert!(library.is_some(), "{:#?}", stack(fault));
        }
        evict(slow.file());
    }
}
