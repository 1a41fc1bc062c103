//! How much of the kernel's stack the programs take together with what they call: 512 bytes at most
//! (kernel/bpf/verifier.c, check_max_stack_depth). Since 6.13 the kernel gives most programs a stack of
//! their own and takes more of them (the same file, bpf_enable_priv_stack), so that being loaded there
//! proves nothing for earlier ones.

use std::collections::{BTreeMap, HashMap};

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SymbolKind};

use super::OBJECT;

/// `MAX_BPF_STACK` of include/linux/filter.h.
const MOST: u64 = 512;
/// To which the verifier rounds up each function's part, unless it is 6.9 or later and compiles the
/// programs: then it is 16 (round_up_stack_depth).
const GRAIN: u64 = 32;
/// The frame pointer, which cannot be written.
const FRAME: u8 = 10;

/// A function: its section and where it begins there, bytes.
type At = (usize, u64);

/// What one function takes, and what it calls.
#[derive(Default)]
struct Function {
    name: String,
    bytes: u64,
    calls: Vec<At>,
}

/// One instruction (Documentation/bpf/standardization/instruction-set.rst).
struct Instruction {
    code: u8,
    to: u8,
    from: u8,
    offset: i16,
    number: i32,
}

impl Instruction {
    fn new(bytes: &[u8]) -> Self {
        Instruction {
            code: bytes[0],
            to: bytes[1] & 15,
            from: bytes[1] >> 4,
            offset: i16::from_le_bytes([bytes[2], bytes[3]]),
            number: i32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        }
    }

    /// Where in the frame it reads or writes.
    fn accesses(&self) -> Option<i64> {
        let base = match self.code & 7 {
            // BPF_LDX
            1 => self.from,
            // BPF_ST, BPF_STX
            2 | 3 => self.to,
            _ => return None,
        };
        (base == FRAME).then(|| self.offset.into())
    }

    /// A call of another function of the object, not of a helper.
    fn is_call(&self) -> bool {
        (self.code, self.from) == (0x85, 1)
    }
}

/// How deep a function's own part of the stack is, bytes.
fn own_bytes(code: &[u8]) -> u64 {
    let mut lowest = 0;
    // Registers that point into the frame, and where.
    let mut pointers: HashMap<u8, i64> = HashMap::new();
    for one in code.chunks_exact(8).map(Instruction::new) {
        lowest = lowest.min(one.accesses().unwrap_or(0));
        match one.code {
            // A move of a register.
            0xbf => {
                let at = match one.from {
                    FRAME => Some(0),
                    from => pointers.get(&from).copied(),
                };
                pointers.remove(&one.to);
                pointers.extend(at.map(|at| (one.to, at)));
            }
            // An addition to a register.
            0x07 => {
                if let Some(at) = pointers.get_mut(&one.to) {
                    *at += i64::from(one.number);
                    lowest = lowest.min(*at);
                }
            }
            // Whatever else writes a register: loads, arithmetic.
            code if matches!(code & 7, 0 | 1 | 4 | 7) => drop(pointers.remove(&one.to)),
            _ => {}
        }
    }
    lowest.unsigned_abs().max(1).next_multiple_of(GRAIN)
}

fn functions(object: &object::File<'_>) -> BTreeMap<At, Function> {
    let mut found = BTreeMap::new();
    for symbol in object.symbols() {
        let (SymbolKind::Text, Some(section)) = (symbol.kind(), symbol.section_index()) else {
            continue;
        };
        let data = object.section_by_index(section).unwrap().data().unwrap();
        let (begin, size) = (symbol.address(), symbol.size());
        let code = &data[usize::try_from(begin).unwrap()..usize::try_from(begin + size).unwrap()];
        let function = Function {
            name: symbol.name().unwrap().to_owned(),
            bytes: own_bytes(code),
            calls: calls(object, section, begin, code),
        };
        found.insert((section.0, begin), function);
    }
    found
}

/// What a function at `begin` of a section calls.
fn calls(
    object: &object::File<'_>,
    section: object::SectionIndex,
    begin: u64,
    code: &[u8],
) -> Vec<At> {
    let relocations: HashMap<u64, RelocationTarget> = object
        .section_by_index(section)
        .unwrap()
        .relocations()
        .map(|(at, one)| (at, one.target()))
        .collect();
    let mut calls = Vec::new();
    for (at, bytes) in (begin..).step_by(8).zip(code.chunks_exact(8)) {
        let one = Instruction::new(bytes);
        // Counted in instructions, from the next one.
        let steps = u64::try_from(i64::from(one.number) + 1);
        match relocations.get(&at) {
            _ if !one.is_call() => {}
            Some(RelocationTarget::Symbol(index)) => {
                let symbol = object.symbol_by_index(*index).unwrap();
                let section = symbol.section_index().expect("of this object");
                calls.push((section.0, symbol.address() + steps.unwrap() * 8));
            }
            Some(other) => panic!("{other:?}"),
            None => {
                let to = i64::try_from(at).unwrap() + 8 * (i64::from(one.number) + 1);
                calls.push((section.0, to.unsigned_abs()));
            }
        }
    }
    calls
}

/// The deepest way through what a function calls: its length, and who is on it.
fn deepest(at: At, functions: &BTreeMap<At, Function>, above: usize) -> (u64, String) {
    assert!(above < 8, "no more frames than the kernel allows");
    let function = functions.get(&at).expect("calls lead to functions");
    let below = function
        .calls
        .iter()
        .map(|call| deepest(*call, functions, above + 1))
        .max()
        .unwrap_or_default();
    let way = format!("{} {}, {}", function.name, function.bytes, below.1);
    (function.bytes + below.0, way)
}

#[test]
fn the_lowest_place_in_the_frame_counts() {
    let pointer = [
        [0xbf, 0xa1, 0, 0, 0, 0, 0, 0],
        [0x07, 0x01, 0, 0, 0xd8, 0xff, 0xff, 0xff],
        [0x7b, 0x21, 8, 0, 0, 0, 0, 0],
    ];
    // r1 = r10 - 40; *(r1 + 8) = r2
    assert_eq!(own_bytes(pointer.as_flattened()), 64);
    // *(r10 - 8) = r2
    assert_eq!(own_bytes(&[0x7b, 0x2a, 0xf8, 0xff, 0, 0, 0, 0]), GRAIN);
    assert_eq!(own_bytes(&[]), GRAIN, "a frame is never nothing");
}

#[test]
fn the_programs_take_no_more_stack_than_the_oldest_kernel_gives() {
    let object = object::File::parse(OBJECT).unwrap();
    let functions = functions(&object);
    let ways: Vec<_> = functions
        .keys()
        .map(|at| deepest(*at, &functions, 0))
        .collect();
    let (bytes, way) = ways.iter().max().expect("programs");
    assert!(ways.len() > 40, "all programs are there: {}", ways.len());
    assert!(*bytes <= MOST, "{bytes} bytes: {way}");
    // What it is made of was seen: a fault's end sends its page's history.
    let calls_another = |name: &str| ways.iter().any(|(_, way)| way.contains(name));
    assert!(calls_another("sched_switch ") && calls_another("send_history"));
}
