//! Tables made by hand, of both forms, and what is left of them when they are broken.

use super::pclntab::{Pclntab, Place};
use super::*;
use crate::process::elf_names::ElfFrame;

/// Where the code is.
const CODE: u64 = 0x40_1000;
const GO_118: u32 = 0xffff_fff0;
const GO_120: u32 = 0xffff_fff1;

/// A table and what follows `go:func.*`: `main.outer` of 16 bytes, into whose second quarter `main.inner`
/// is inlined.
fn table(magic: u32) -> (Vec<u8>, Vec<u8>) {
    let is_118 = magic == GO_118;
    let names = b"main.outer\0main.inner\0".to_vec();
    let units = 0_u32.to_le_bytes().to_vec();
    let files = b"/src/main.go\0".to_vec();
    // Steps from -1 on, each as twice its size (odd: less one, negative), with how far it holds.
    let values = [
        &[0][..],
        // The file: 0.
        &[2, 16, 0],
        // The line: 10, then 20.
        &[22, 8, 20, 8, 0],
        // What is inlined: nothing, the first call, nothing.
        &[0, 4, 2, 4, 1, 8, 0],
    ]
    .concat();
    let (file, line, inlined_at) = (1, 4, 9);
    // Function table: where it begins, its description; where it ends.
    let description = 16_u32;
    let mut functions = words(&[0, description, 16, 0]);
    // Entry, name, arguments, deferreturn, frame sizes, file, line, tables of values, unit.
    functions.extend(words(&[0, 0, 0, 0, 0, file, line, 3, 0]));
    if !is_118 {
        // The function's own line.
        functions.extend(words(&[10]));
    }
    functions.extend([0, 0, 0, 4]);
    functions.extend(words(&[0, 0, inlined_at]));
    // Other tables of the function: none but the calls inlined.
    functions.extend(words(&[u32::MAX, u32::MAX, u32::MAX, 8]));
    let (inner, call_at) = (11_u32, 12_u32);
    let call = if is_118 {
        words(&[0xffff, 0, 21, inner, call_at])
    } else {
        words(&[0, inner, call_at, 5])
    };
    let gofunc = [vec![0; 8], call].concat();
    let mut bytes = magic.to_le_bytes().to_vec();
    bytes.extend([0, 0, 1, 8]);
    let parts = [names, units, files, values, functions];
    let mut at = 8 + 8 * 8;
    // Functions, files, where the code is; where each part is.
    let mut header = vec![1, 1, if is_118 { CODE } else { 0 }];
    for part in &parts {
        header.push(at);
        at += part.len() as u64;
    }
    bytes.extend(header.into_iter().flat_map(u64::to_le_bytes));
    bytes.extend(parts.concat());
    (bytes, gofunc)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().copied().flat_map(u32::to_le_bytes).collect()
}

fn frame(function: &str, line: u32, offset: Option<u64>) -> ElfFrame {
    ElfFrame {
        function: function.to_owned(),
        offset,
        file: Some(b"/src/main.go".to_vec()),
        line: Some(line),
        inlined: offset.is_none(),
    }
}

fn place(gofunc: &[u8]) -> Place<'_> {
    Place { text: CODE, gofunc }
}

#[test]
fn functions_lines_and_inlined_calls_are_found() {
    for magic in [GO_118, GO_120] {
        let (bytes, gofunc) = table(magic);
        let pclntab = Pclntab::new(&bytes).expect("a table");
        let frames = |at| pclntab.frames(place(&gofunc), CODE + at).expect("frames");
        assert_eq!(frames(0), [frame("main.outer", 10, Some(0))]);
        // The line of an inlined call is that of the instruction; its caller's, where the call is.
        let inner = frame("main.inner", 10, None);
        assert_eq!(frames(5), [inner, frame("main.outer", 20, Some(5))]);
        assert_eq!(frames(15), [frame("main.outer", 20, Some(15))]);
        assert_eq!(frames(16), []);
        assert_eq!(pclntab.frames(place(&gofunc), CODE - 1), Some(Vec::new()));
        // Without what the offsets refer to, the function is still known.
        let alone = pclntab.frames(place(&[]), CODE + 5).expect("frames");
        assert_eq!(alone, [frame("main.outer", 10, Some(5))]);
    }
}

#[test]
fn what_is_not_known_is_not_guessed() {
    // Go 1.16, Go 1.2, and what may come.
    for magic in [0xffff_fffa_u32, 0xffff_fffb, 0xffff_fff2] {
        let (mut bytes, _) = table(GO_120);
        bytes[..4].copy_from_slice(&magic.to_le_bytes());
        assert!(Pclntab::new(&bytes).is_none(), "{magic:#x}");
    }
    let our_own = File::open("/proc/self/exe").expect("our own program");
    assert!(GoProgram::open(&our_own).is_none());
}

#[test]
fn a_broken_table_has_fewer_names_and_nothing_worse() {
    for magic in [GO_118, GO_120] {
        let (bytes, gofunc) = table(magic);
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut broken = bytes.clone();
                broken[at] = value;
                look_at_all(&broken, &gofunc);
            }
            look_at_all(&bytes[..at], &gofunc);
        }
        for at in 0..gofunc.len() {
            let mut broken = gofunc.clone();
            broken[at] = 0xff;
            look_at_all(&bytes, &broken);
        }
    }
}

fn look_at_all(bytes: &[u8], gofunc: &[u8]) {
    let Some(pclntab) = Pclntab::new(bytes) else {
        return;
    };
    for at in 0..20 {
        let frames = pclntab.frames(place(gofunc), CODE + at).unwrap_or_default();
        assert!(frames.len() <= 65);
    }
}

#[test]
fn an_image_is_read_by_address() {
    let bytes = std::fs::read("/proc/self/exe").expect("our own program");
    let image = Image::new(&bytes).expect("an ELF file");
    let text = image.section(&[".nothing", ".text"]).expect("code");
    assert_eq!(
        image.from(text.address).map(|found| found[0]),
        Some(text.bytes[0])
    );
    let offset = text.bytes.as_ptr().addr() - bytes.as_ptr().addr();
    assert_eq!(image.address_of(offset as u64), Some(text.address));
    assert_eq!(image.from(u64::MAX), None);
    assert_eq!(image.address_of(u64::MAX), None);
    // It is position-independent: its pointers are in relocations.
    let array = image.section(&[".init_array"]).expect("initializers");
    let first = image.pointer(array.address).expect("a pointer");
    assert!(image.from(first).is_some());
    assert!(image.pointers_to(first).contains(&array.address));
    assert!(Image::new(&bytes[..100]).is_none());
    assert!(Image::new(b"not an ELF file").is_none());
}

#[test]
fn what_tables_refer_to_is_found_in_programs_of_each_version() {
    let at_inlined_call = 128 + 5;
    for program in [
        &include_bytes!("../../../../fuzz/corpus/go/go1.19")[..],
        include_bytes!("../../../../fuzz/corpus/go/go1.26.6"),
        include_bytes!("../../../../fuzz/corpus/go/go1.27.3"),
    ] {
        let parts = Parts::of(program).expect("a Go program");
        let frames = parts.frames(program, at_inlined_call).expect("a table");
        let names: Vec<_> = frames.iter().map(|frame| frame.function.as_str()).collect();
        assert_eq!(names, ["main.inner", "main.outer"]);
        assert_eq!(parts.frames(program, u64::MAX), Some(Vec::new()));
        // Of a version that is not known, what is inlined is not guessed at.
        let mut newer = program.to_vec();
        let version = newer.windows(4).position(|bytes| bytes == b"go1.");
        let minor = version.expect("its version") + 4;
        newer[minor..minor + 2].copy_from_slice(b"99");
        let parts = Parts::of(&newer).expect("a Go program");
        let frames = parts.frames(&newer, at_inlined_call).expect("a table");
        assert_eq!(frames.len(), 1);
    }
}
