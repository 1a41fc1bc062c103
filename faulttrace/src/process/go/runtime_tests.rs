//! Programs made by hand, with all that is looked for in a runtime, and what is left of it when they are
//! broken.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::build_info::MAX_MODULE;
use super::layout::{Offsets, Structures};
use super::runtime::GoRuntime;
use crate::model::LayoutSource;

/// Address of the first byte of the file; all of it is loaded.
const BASE: u64 = 0x1_0000;
/// Sections' places in the file. What is not used in between is zero.
const BUILD_INFO: usize = 0x200;
const MODULE: usize = 0x300;
const DATA: usize = 0x400;
const CODE: usize = 0x500;
const TABLE: usize = 0x700;
const INFO: usize = 0xa00;
const ABBREV: usize = 0xc00;
const SYMBOLS: usize = 0xc80;
const NAMES: usize = 0xd00;
const SECTIONS: usize = 0xe00;
const END: usize = SECTIONS + 8 * 64;

const GOMAXPROCS: u64 = BASE + DATA as u64;
const RUNQ_SIZE: u64 = GOMAXPROCS + 8;
const TLS_G: i32 = -24;

/// The members, with offsets that no version has.
const MEMBERS: [(&str, &[(&str, u8)]); 5] = [
    (
        "runtime.g",
        &[
            ("m", 1),
            ("atomicstatus", 2),
            ("goid", 3),
            ("startpc", 4),
            ("gopc", 5),
            ("labels", 6),
        ],
    ),
    (
        "runtime.m",
        &[("g0", 7), ("curg", 8), ("procid", 9), ("p", 10)],
    ),
    (
        "runtime.p",
        &[
            ("id", 11),
            ("runqhead", 12),
            ("runqtail", 13),
            ("runnext", 14),
        ],
    ),
    ("runtime.schedt", &[("runq", 6)]),
    ("runtime.gQueue", &[("size", 2)]),
];

/// A function's name and code.
type Function = (&'static str, Vec<u8>);

/// A program of a version, with code, symbols and debug information as asked for.
struct Sample {
    version: &'static str,
    code: Vec<Function>,
    symbols: bool,
    /// `.debug_info`, and the flags of its section.
    info: (Vec<u8>, u64),
}

impl Sample {
    fn new() -> Self {
        Self {
            version: "go1.27.3",
            code: code(),
            symbols: false,
            info: (Vec::new(), 0),
        }
    }

    fn with_info(info: Vec<u8>) -> Self {
        Self {
            info: (info, 0),
            ..Self::new()
        }
    }

    fn read(&self) -> GoRuntime {
        GoRuntime::read(&self.bytes()).expect("a Go program")
    }

    fn bytes(&self) -> Vec<u8> {
        let mut file = vec![0; END];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &header());
        put(BUILD_INFO, &build_info(self.version));
        let code = self.code.iter().map(|(_, code)| code.as_slice());
        let code: Vec<u8> = code.flatten().copied().collect();
        put(CODE, &code);
        put(TABLE, &self.table());
        let text = BASE + CODE as u64;
        put(MODULE, &(BASE + TABLE as u64).to_le_bytes());
        put(MODULE + 176, &text.to_le_bytes());
        put(MODULE + 184, &(text + code.len() as u64).to_le_bytes());
        put(INFO, &self.info.0);
        put(ABBREV, ABBREVIATIONS);
        let mut names = b"\0".to_vec();
        let mut name = |text: &str| {
            names.extend(text.bytes());
            names.push(0);
            u32::try_from(names.len() - text.len() - 1).expect("short")
        };
        let variables = [("runtime.gomaxprocs", 0), ("runtime.sched", 0x20 - 8)];
        let symbols = variables.map(|(text, at)| symbol(name(text), GOMAXPROCS + at));
        put(SYMBOLS + 24, &symbols.concat());
        let symbols = if self.symbols { 3 * 24 } else { 24 };
        let sections = [
            section(name(".go.buildinfo"), 1, 0, BUILD_INFO, MODULE - BUILD_INFO),
            section(name(".go.module"), 1, 0, MODULE, DATA - MODULE),
            section(name(".gopclntab"), 1, 0, TABLE, INFO - TABLE),
            section(name(".debug_info"), 1, self.info.1, INFO, self.info.0.len()),
            section(name(".debug_abbrev"), 1, 0, ABBREV, ABBREVIATIONS.len()),
            section(name(".symtab"), 2, 0, SYMBOLS, symbols),
            section(name(".strtab"), 3, 0, NAMES, SECTIONS - NAMES),
        ];
        put(SECTIONS + 64, &sections.concat());
        put(NAMES, &names);
        file
    }

    /// The functions' table, as Go 1.20 and later have it: where they are and their names.
    fn table(&self) -> Vec<u8> {
        let count = self.code.len();
        let mut names = Vec::new();
        let mut functions = Vec::new();
        let mut descriptions = Vec::new();
        let mut at = 0_usize;
        for (index, (name, code)) in self.code.iter().enumerate() {
            functions.extend([at, count * 8 + 4 + index * 8]);
            descriptions.extend([at, names.len()]);
            names.extend(name.bytes().chain([0]));
            at += code.len();
        }
        functions.push(at);
        functions.extend(descriptions);
        let words = functions
            .into_iter()
            .map(|word| u32::try_from(word).expect("short"));
        let words: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
        let start = 8 + 8 * 8_usize;
        let behind = start + names.len();
        let header = [count, 0, 0, start, start, start, start, behind];
        let header = header.into_iter().flat_map(usize::to_le_bytes).collect();
        let magic = [0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8].to_vec();
        [magic, header, names, words].concat()
    }
}

/// The header of the file, and that of its one segment.
fn header() -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    bytes.extend(
        [0, 64, SECTIONS as u64]
            .into_iter()
            .flat_map(u64::to_le_bytes),
    );
    bytes.extend([0; 4]);
    // Sizes and numbers of headers; the last section has the names.
    bytes.extend(
        [64, 56, 1, 64, 8, 7_u16]
            .into_iter()
            .flat_map(u16::to_le_bytes),
    );
    // Loaded: read, written, executed.
    bytes.extend([1, 0, 0, 0, 7, 0, 0, 0]);
    let segment = [0, BASE, BASE, END as u64, END as u64, 0x1000];
    bytes.extend(segment.into_iter().flat_map(u64::to_le_bytes));
    bytes
}

fn section(name: u32, kind: u32, flags: u64, at: usize, length: usize) -> Vec<u8> {
    let mut bytes = [name, kind].map(u32::to_le_bytes).concat();
    let rest = [flags, BASE + at as u64, at as u64, length as u64];
    bytes.extend(rest.into_iter().flat_map(u64::to_le_bytes));
    // Names of symbols are in the last section.
    bytes.extend([7, 0_u32].into_iter().flat_map(u32::to_le_bytes));
    let entry = if kind == 2 { 24 } else { 0_u64 };
    bytes.extend([1, entry].into_iter().flat_map(u64::to_le_bytes));
    bytes
}

/// A variable of some section.
fn symbol(name: u32, address: u64) -> Vec<u8> {
    let mut bytes = name.to_le_bytes().to_vec();
    bytes.extend([1, 0, 1, 0]);
    bytes.extend([address, 8].into_iter().flat_map(u64::to_le_bytes));
    bytes
}

fn build_info(version: &str) -> Vec<u8> {
    let text = |text: &[u8]| [&[u8::try_from(text.len()).expect("short")], text].concat();
    let modules = [&[0; 16][..], b"path\ta.b/c/d\nmod\ta.b/c\tv1\n", &[0; 16]].concat();
    let start = [b"\xff Go buildinf:\x08\x02".to_vec(), vec![0; 16]].concat();
    [start, text(version.as_bytes()), text(&modules)].concat()
}

/// Functions of the runtime: what refers to variables, and nothing else.
fn code() -> Vec<Function> {
    let tls = TLS_G.to_le_bytes();
    // From here on, addresses that are relative to the instruction's end are put in by `linked`.
    let functions = [
        // mov edx, [gomaxprocs]; lea rsi, [gomaxprocs]; mov ecx, [gomaxprocs + 4]
        (
            "runtime.procresize",
            vec![
                (&[0x8b, 0x15][..], 0),
                (&[0x48, 0x8d, 0x35], 0),
                (&[0x8b, 0x0d], 4),
            ],
        ),
        // mov eax, [gomaxprocs]
        ("runtime.startTheWorldWithSema", vec![(&[0x8b, 0x05], 0)]),
        // inc dword [runqsize]
        ("runtime.(*p).destroy", vec![(&[0xff, 0x05], 8)]),
        // add [runqsize], ecx; inc dword [another]
        (
            "runtime.injectglist",
            vec![(&[0x01, 0x0d], 8), (&[0xff, 0x05], 12)],
        ),
    ];
    let mut at = BASE + CODE as u64;
    let mut linked = Vec::new();
    for (name, instructions) in functions {
        let mut code = Vec::new();
        for (instruction, variable) in instructions {
            code.extend(instruction);
            let end = at + code.len() as u64 + 4;
            let distance = GOMAXPROCS.wrapping_add(variable).wrapping_sub(end);
            code.extend(&distance.to_le_bytes()[..4]);
        }
        code.push(0xc3);
        at += code.len() as u64;
        linked.push((name, code));
    }
    // mov fs:[g], rdx
    let direct = [&[0x64, 0x48, 0x89, 0x14, 0x25][..], &tls, &[0xc3]].concat();
    // mov rcx, g; mov fs:[rcx], r14
    let by_register = [
        &[0x48, 0xc7, 0xc1][..],
        &tls,
        &[0x64, 0x4c, 0x89, 0x31, 0xc3],
    ]
    .concat();
    linked.extend([("gogo", direct), ("runtime.mcall", by_register)]);
    linked
}

/// A unit (name, language), a structure (name), a member (name, place).
const ABBREVIATIONS: &[u8] = &[
    1, 0x11, 1, 0x03, 0x08, 0x13, 0x0b, 0, 0, //
    2, 0x13, 1, 0x03, 0x08, 0, 0, //
    3, 0x0d, 0, 0x03, 0x08, 0x38, 0x0f, 0, 0, //
    0,
];
const GO: u8 = 0x16;
const C: u8 = 0x0c;

fn unit(dwarf: u8, name: &str, language: u8, structures: &[(&str, &[(&str, u8)])]) -> Vec<u8> {
    let text = |text: &str| [text.as_bytes(), &[0]].concat();
    let mut entries = [vec![1], text(name), vec![language]].concat();
    for (structure, members) in structures {
        entries.extend([vec![2], text(structure)].concat());
        for (member, offset) in *members {
            entries.extend([vec![3], text(member), vec![*offset]].concat());
        }
        entries.push(0);
    }
    entries.push(0);
    let head = if dwarf == 5 {
        vec![5, 0, 1, 8, 0, 0, 0, 0]
    } else {
        vec![dwarf, 0, 0, 0, 0, 0, 8]
    };
    let length = u32::try_from(head.len() + entries.len()).expect("short");
    [length.to_le_bytes().to_vec(), head, entries].concat()
}

fn debug_information(dwarf: u8) -> Vec<u8> {
    let others = [
        unit(dwarf, "runtime", C, &MEMBERS[..1]),
        unit(dwarf, "runtime", GO, &[]),
        unit(dwarf, "main", GO, &MEMBERS[1..2]),
    ];
    [others.concat(), unit(dwarf, "runtime", GO, &MEMBERS)].concat()
}

#[test]
fn a_stripped_program_is_known_by_its_version_and_its_code() {
    let found = Sample::new().read();
    assert_eq!(found.version, "go1.27.3");
    assert_eq!(found.module.as_deref(), Some("a.b/c"));
    let layout = found.layout.expect("a layout");
    let known = Structures::of_version("go1.27").expect("known");
    assert_eq!(
        (layout.offsets, layout.source),
        (known.offsets, LayoutSource::Table)
    );
    assert_eq!(layout.gomaxprocs, Some(GOMAXPROCS));
    assert_eq!(layout.runq_size, Some(RUNQ_SIZE));
    assert_eq!(layout.tls_g, Some(TLS_G.into()));
    assert_eq!(layout.code_segment, (BASE, 0));
    assert_eq!(layout.text.0, BASE + CODE as u64);
    let unknown = Sample {
        version: "go1.99",
        ..Sample::new()
    };
    assert_eq!(unknown.read().layout, None);
    let mut other = Sample::new().bytes();
    // For aarch64.
    other[18] = 0xb7;
    assert_eq!(GoRuntime::read(&other).expect("a Go program").layout, None);
}

#[test]
fn debug_information_comes_before_the_table() {
    for dwarf in [4, 5] {
        let plain = Sample::with_info(debug_information(dwarf));
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&plain.info.0).expect("compressed");
        let length = plain.info.0.len() as u64;
        let head = [1, length, 1].map(u64::to_le_bytes).concat();
        let bytes = [head, encoder.finish().expect("compressed")].concat();
        let compressed = Sample {
            info: (bytes, 0x800),
            ..Sample::new()
        };
        for sample in [plain, compressed] {
            // Then the version does not matter.
            let sample = Sample {
                version: "go1.99",
                ..sample
            };
            let layout = sample.read().layout.expect("a layout");
            assert_eq!(layout.source, LayoutSource::DebugInfo);
            let wanted = Offsets {
                g_m: 1,
                g_status: 2,
                g_goid: 3,
                g_start_pc: 4,
                g_go_pc: 5,
                g_labels: 6,
                m_g0: 7,
                m_curg: 8,
                m_procid: 9,
                m_p: 10,
                p_id: 11,
                p_runq_head: 12,
                p_runq_tail: 13,
                p_run_next: 14,
            };
            assert_eq!(layout.offsets, wanted);
        }
    }
    let incomplete = unit(5, "runtime", GO, &MEMBERS[1..]);
    let layout = Sample::with_info(incomplete).read().layout;
    assert_eq!(layout.expect("a layout").source, LayoutSource::Table);
}

#[test]
fn symbols_come_before_the_code() {
    let sample = Sample {
        symbols: true,
        code: vec![("main.main", vec![0xc3])],
        ..Sample::with_info(debug_information(5))
    };
    let layout = sample.read().layout.expect("a layout");
    assert_eq!(layout.gomaxprocs, Some(GOMAXPROCS));
    // `runq.size`, as far as the debug information says.
    assert_eq!(layout.runq_size, Some(GOMAXPROCS + 0x20));
    assert_eq!(layout.tls_g, None);
}

#[test]
fn code_that_does_not_agree_tells_nothing() {
    let read = |name: &str, change: &dyn Fn(&mut Function)| {
        let mut sample = Sample::new();
        let functions = sample.code.iter_mut();
        functions.filter(|one| one.0 == name).for_each(change);
        let layout = sample.read().layout.expect("a layout");
        (layout.gomaxprocs, layout.runq_size, layout.tls_g)
    };
    let all @ (gomaxprocs, runq_size, tls_g) = read("", &|_| {});
    assert!(gomaxprocs.is_some() && runq_size.is_some() && tls_g.is_some());
    // Addresses begin after two bytes, the thread's offset after five.
    let elsewhere = |name, at: usize| read(name, &|function| function.1[at] ^= 0x10);
    for name in ["runtime.procresize", "runtime.startTheWorldWithSema"] {
        assert_eq!(elsewhere(name, 2), (None, runq_size, tls_g));
    }
    let uncounted = elsewhere("runtime.(*p).destroy", 2);
    assert_eq!(uncounted, (gomaxprocs, None, tls_g));
    assert_eq!(elsewhere("gogo", 5), (gomaxprocs, runq_size, None));
    // One function alone is not enough.
    let without = |name| read(name, &|function| function.0 = "runtime.other");
    assert_eq!(without("runtime.injectglist"), uncounted);
    assert_eq!(without("runtime.mcall"), (gomaxprocs, runq_size, None));
    assert_eq!(without("main.main"), all);
    // A register that nothing is known of: this puts the number into another.
    let unknown = read("runtime.mcall", &|function| function.1[2] = 0xc0);
    assert_eq!(unknown, (gomaxprocs, runq_size, None));
}

#[test]
fn versions_in_between_are_not_taken_for_releases() {
    for minor in 18..=27 {
        let known = Structures::of_version(&format!("go1.{minor}.1")).expect("known");
        assert!(known.offsets.are_plausible());
    }
    let known = [
        "go1.26rc1",
        "go1.25.3 X:boringcrypto",
        "go1.22.5 (Red Hat 1.22.5-1)",
    ];
    assert!(
        known
            .iter()
            .all(|one| Structures::of_version(one).is_some())
    );
    for unknown in [
        "go1.17",
        "go1.28",
        "go2.20",
        "devel go1.27-4fe1a2b Mon",
        "go1.27-devel_4fe1a2b",
        "go1.25 X:staticlockranking",
        "go1.25 X:boringcrypto,staticlockranking",
        "",
    ] {
        assert_eq!(Structures::of_version(unknown), None, "{unknown}");
    }
}

#[test]
fn an_answer_is_believed_as_far_as_it_can_be_true() {
    let good = Sample::new().read();
    assert_eq!(good.clone().believed(), Some(good.clone()));
    let without = |change: &dyn Fn(&mut GoRuntime)| {
        let mut changed = good.clone();
        change(&mut changed);
        changed.believed()
    };
    assert_eq!(without(&|one| one.version = "1".repeat(1000)), None);
    let long = without(&|one| one.module = Some("m".repeat(MAX_MODULE + 1)));
    assert_eq!(long.expect("the rest").module, None);
    let layout = |change: &dyn Fn(&mut super::runtime::Layout)| {
        let changed = without(&|one| one.layout.iter_mut().for_each(change));
        changed.expect("the rest").layout
    };
    assert_eq!(layout(&|one| one.offsets.m_p = u32::MAX), None);
    assert_eq!(layout(&|one| one.tls_g = Some(i64::MIN)), None);
    assert_eq!(layout(&|one| one.text.1 = 0), None);
}

#[test]
fn a_broken_program_has_less_to_tell_and_nothing_worse() {
    let symbols = Sample {
        symbols: true,
        ..Sample::with_info(debug_information(4))
    };
    for bytes in [symbols.bytes(), Sample::new().bytes()] {
        for at in 0..bytes.len() {
            for value in [0, 0x7f, 0x80, 0xff] {
                let mut broken = bytes.clone();
                if std::mem::replace(&mut broken[at], value) != value {
                    look_at(&broken);
                }
            }
        }
        for length in (0..bytes.len()).step_by(3) {
            look_at(&bytes[..length]);
        }
    }
}

fn look_at(bytes: &[u8]) {
    if let Some(found) = GoRuntime::read(bytes) {
        assert_eq!(found.clone().believed(), Some(found));
    }
}
