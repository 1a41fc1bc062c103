//! Where variables of the runtime are, by the machine code of functions that use them: for programs without
//! a symbol table. x86-64 alone.
//!
//! Functions as Go 1.19 and 1.21 to 1.27 compile them (runtime/proc.go, runtime/asm_amd64.s). Whatever
//! does not agree is not known: a wrong address would be worse than none.

use std::collections::{HashMap, HashSet};

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Register};

use super::image::Image;
use super::long;
use super::pclntab::Pclntab;

/// More of a function is not decoded; the longest here has 5 KiB.
const MAX_FUNCTION_BYTES: usize = 64 << 10;
/// They put a goroutine, or some, into the global run queue, and count it.
const QUEUEING: [&str; 5] = [
    "runtime.(*p).destroy",
    "runtime.goschedImpl",
    "runtime.injectglist",
    "runtime.runqputslow",
    "runtime.schedEnableUser",
];
/// They read or write the current goroutine.
const SWITCHING: [&str; 4] = [
    "gogo",
    "runtime.mcall",
    "runtime.systemstack",
    "runtime.asmcgocall",
];

/// The code of a program.
pub(super) struct Machine<'d> {
    pub(super) image: &'d Image<'d>,
    pub(super) functions: Pclntab<'d>,
    /// `moduledata.text`.
    pub(super) text: u64,
}

impl<'d> Machine<'d> {
    /// `runtime.gomaxprocs`: `procresize` loads it, and gives its address to what swaps it; who starts the
    /// world loads it, too.
    pub(super) fn gomaxprocs(&self) -> Option<u64> {
        let is_load = |code| code == Code::Mov_r32_rm32;
        let is_swap = |code| matches!(code, Code::Lea_r64_m | Code::Xchg_rm32_r32);
        let swapped = self.variables("runtime.procresize", is_swap);
        let loaded = self.variables("runtime.procresize", is_load);
        let elsewhere = self.variables("runtime.startTheWorldWithSema", is_load);
        let agreed = swapped.intersection(&loaded).copied();
        only(agreed.filter(|address| elsewhere.contains(address)))
    }

    /// The number of goroutines in the global run queue, which all that queue there add to.
    pub(super) fn runq_size(&self) -> Option<u64> {
        let is_count = |code| {
            matches!(
                code,
                Code::Inc_rm32 | Code::Add_rm32_r32 | Code::Add_rm32_imm8 | Code::Add_rm32_imm32
            )
        };
        let mut users = HashMap::<u64, usize>::new();
        let mut functions = 0;
        for name in QUEUEING {
            let counted = self.variables(name, is_count);
            functions += usize::from(!counted.is_empty());
            for address in counted {
                *users.entry(address).or_default() += 1;
            }
        }
        let by_all = users.iter().filter(|(_, count)| **count == functions);
        only(by_all.map(|(address, _)| *address)).filter(|_| functions >= 2)
    }

    /// Where the current goroutine is, relative to the thread pointer. In each of these functions, nothing
    /// else is there.
    pub(super) fn tls_g(&self) -> Option<i64> {
        let mut offsets = HashSet::new();
        let mut functions = 0;
        for name in SWITCHING {
            let found = self.thread_offsets(name)?;
            functions += usize::from(!found.is_empty());
            offsets.extend(found);
        }
        // Below the thread pointer, as in all programs of this architecture.
        only(offsets.into_iter()).filter(|offset| functions >= 2 && *offset < 0 && offset % 8 == 0)
    }

    /// The offsets from the thread pointer that a function uses; `None` if one is not known.
    fn thread_offsets(&self, name: &str) -> Option<HashSet<i64>> {
        let mut constants = HashMap::<Register, i64>::new();
        let mut offsets = HashSet::new();
        for instruction in self.instructions(name) {
            if instruction.segment_prefix() == Register::FS {
                let base = instruction.memory_base();
                let start = if base == Register::None {
                    0
                } else {
                    *constants.get(&base)?
                };
                let further = instruction.memory_displacement64().cast_signed();
                offsets.insert(start.checked_add(further)?);
            }
            match (instruction.code(), self.constant(&instruction)) {
                (Code::Mov_rm64_imm32 | Code::Mov_r64_rm64, Some(constant)) => {
                    constants.insert(instruction.op0_register(), constant);
                }
                (Code::Mov_r64_rm64, None) => {
                    constants.remove(&instruction.op0_register());
                }
                _ => {}
            }
        }
        Some(offsets)
    }

    /// What an instruction puts into a register, if that is known: a number in it, or one that the linker
    /// left in the file.
    fn constant(&self, instruction: &Instruction) -> Option<i64> {
        match instruction.code() {
            Code::Mov_rm64_imm32 => Some(instruction.immediate32to64()),
            Code::Mov_r64_rm64 if instruction.is_ip_rel_memory_operand() => {
                let slot = self.image.from(instruction.ip_rel_memory_address())?;
                Some(long(slot, 0)?.cast_signed())
            }
            _ => None,
        }
    }

    /// The variables that a function refers to by these instructions.
    fn variables(&self, name: &str, is_wanted: impl Fn(Code) -> bool) -> HashSet<u64> {
        self.instructions(name)
            .filter(|instruction| is_wanted(instruction.code()))
            .filter_map(|instruction| self.variable(&instruction))
            .collect()
    }

    /// The variable of 32 bits that an instruction refers to by its address.
    fn variable(&self, instruction: &Instruction) -> Option<u64> {
        if !instruction.is_ip_rel_memory_operand() {
            return None;
        }
        let address = instruction.ip_rel_memory_address();
        let is_one = address.is_multiple_of(4) && self.image.is_data(address, 4);
        is_one.then_some(address)
    }

    /// The instructions of all functions of a name.
    fn instructions(&self, name: &str) -> impl Iterator<Item = Instruction> + '_ {
        let places = self.functions.named(name, self.text).into_iter();
        let codes = places.filter_map(|(start, end)| {
            let length = usize::try_from(end.checked_sub(start)?).ok()?;
            let code = self.image.from(start)?;
            let code = code.get(..length.min(MAX_FUNCTION_BYTES))?;
            Some(Decoder::with_ip(64, code, start, DecoderOptions::NONE))
        });
        codes.flat_map(Decoder::into_iter)
    }
}

/// What there is exactly one of.
fn only<T>(mut all: impl Iterator<Item = T>) -> Option<T> {
    let first = all.next()?;
    all.next().is_none().then_some(first)
}
