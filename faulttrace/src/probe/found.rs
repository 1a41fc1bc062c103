//! Runs the iterator that finds what threads were stuck on before the programs were attached.

use std::io::Read as _;

use aya::programs::Iter;
use faulttrace_ebpf::UserRegisters;

use super::{Error, Probe, Rung, chain};

/// Stable name of the job, as in `doctor` and JSON.
pub const STUCK_JOB: &str = "stuck_before_attach";
/// The kernel's iterator.
const ITERATOR: &str = "task";

impl Probe {
    /// Completes the entries made by [`Probe::insert_inflight`] with address and file, where the
    /// threads' kernel stacks tell them. Returns the registers with which those threads will go on.
    pub fn find_stuck(&mut self) -> Result<Vec<UserRegisters>, Error> {
        let found = self.iterate();
        let rung = if found.is_ok() {
            Rung::Iterator
        } else {
            Rung::None
        };
        self.rungs.push((STUCK_JOB, rung));
        let bytes = found.map_err(|reason| Error::Program {
            job: STUCK_JOB,
            reason,
        })?;
        Ok(bytes
            .chunks_exact(size_of::<UserRegisters>())
            .map(registers)
            .collect())
    }

    fn iterate(&mut self) -> Result<Vec<u8>, String> {
        let program = self
            .ebpf
            .program_mut("stuck_tasks")
            .ok_or("no such program in the object")?;
        let program: &mut Iter = program.try_into().map_err(|error| chain(&error))?;
        program
            .load(ITERATOR, &self.btf)
            .map_err(|error| chain(&error))?;
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

fn registers(bytes: &[u8]) -> UserRegisters {
    // SAFETY: `chunks_exact` gives as many bytes as the type has; integers have no invalid values,
    // and the read does not ask for alignment.
    unsafe { bytes.as_ptr().cast::<UserRegisters>().read_unaligned() }
}
