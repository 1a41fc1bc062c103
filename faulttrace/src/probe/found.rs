//! Runs the iterator that finds what threads were stuck on before the programs were attached.

use std::io::Read as _;

use aya::Ebpf;
use aya::programs::Iter;
use faulttrace_ebpf::UserRegisters;

use super::{Probe, Rung, chain};

/// Stable name of the job, as in `doctor` and JSON.
pub const STUCK_JOB: &str = "stuck_before_attach";
/// The kernel's iterator.
const ITERATOR: &str = "task";

impl Probe {
    /// Loads the iterator, so that [`Probe::find_stuck`] takes no time. Without it nothing is
    /// found.
    pub fn prepare_to_find(&mut self) {
        if self.settings.forced.no_iterator {
            self.rungs.push((STUCK_JOB, Rung::None));
            return;
        }
        let loaded = self.load_iterator();
        if let Err(reason) = &loaded {
            log::warn!("what threads were stuck on before is not known: {reason}");
        }
        let rung = if loaded.is_ok() {
            Rung::Iterator
        } else {
            Rung::None
        };
        self.rungs.push((STUCK_JOB, rung));
    }

    fn load_iterator(&mut self) -> Result<(), String> {
        let program = iterator(&mut self.ebpf)?;
        program
            .load(ITERATOR, &self.btf)
            .map_err(|error| chain(&error))
    }

    /// Completes the entries made by [`Probe::insert_inflight`] with address and file, where the
    /// threads' kernel stacks tell them. Returns the registers with which those threads will go on.
    pub fn find_stuck(&mut self) -> Vec<UserRegisters> {
        if self.rungs.last() != Some(&(STUCK_JOB, Rung::Iterator)) {
            return Vec::new();
        }
        match self.iterate() {
            Ok(bytes) => bytes
                .chunks_exact(size_of::<UserRegisters>())
                .map(registers)
                .collect(),
            Err(reason) => {
                log::warn!("what threads were stuck on before is not known: {reason}");
                Vec::new()
            }
        }
    }

    fn iterate(&mut self) -> Result<Vec<u8>, String> {
        let program = iterator(&mut self.ebpf)?;
        let link = program.attach().map_err(|error| chain(&error))?;
        let link = program.take_link(link).map_err(|error| chain(&error))?;
        let mut file = link.into_file().map_err(|error| chain(&error))?;
        let mut bytes = Vec::new();
        // Reading is what runs the program, once for each task.
        file.read_to_end(&mut bytes)
            .map_err(|error| chain(&error))?;
        // Its work is done.
        program.unload().map_err(|error| chain(&error))?;
        Ok(bytes)
    }
}

fn iterator(ebpf: &mut Ebpf) -> Result<&mut Iter, String> {
    let program = ebpf
        .program_mut("stuck_tasks")
        .ok_or("no such program in the object")?;
    program.try_into().map_err(|error| chain(&error))
}

fn registers(bytes: &[u8]) -> UserRegisters {
    // SAFETY: `chunks_exact` gives as many bytes as the type has; integers have no invalid values,
    // and the read does not ask for alignment.
    unsafe { bytes.as_ptr().cast::<UserRegisters>().read_unaligned() }
}
