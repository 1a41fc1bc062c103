//! Runs the iterator that finds what threads were stuck on before the programs were attached.

use std::io::Read as _;

use aya::programs::Iter;
use faulttrace_ebpf::UserRegisters;

use super::{Error, Probe, chain};

/// Stable name of the job, as in `doctor` and JSON.
pub const STUCK_JOB: &str = "stuck_before_attach";
/// The kernel's iterator.
const ITERATOR: &str = "task";

impl Probe {
    /// Completes the entries made by [`Probe::insert_inflight`] with address and file, where the
    /// threads' kernel stacks tell them. Returns the registers with which those threads will go on.
    pub fn find_stuck(&mut self) -> Result<Vec<UserRegisters>, Error> {
        let refused = |reason: String| Error::Program {
            job: STUCK_JOB,
            reason,
        };
        let program = self
            .ebpf
            .program_mut("stuck_tasks")
            .ok_or_else(|| refused("no such program in the object".to_owned()))?;
        let program: &mut Iter = program.try_into().map_err(|error| refused(chain(&error)))?;
        program
            .load(ITERATOR, &self.btf)
            .map_err(|error| refused(chain(&error)))?;
        let mut read = || -> Result<Vec<u8>, String> {
            let link = program.attach().map_err(|error| chain(&error))?;
            let link = program.take_link(link).map_err(|error| chain(&error))?;
            let mut file = link.into_file().map_err(|error| chain(&error))?;
            let mut bytes = Vec::new();
            // Reading is what runs the program, once for each task.
            file.read_to_end(&mut bytes)
                .map_err(|error| chain(&error))?;
            Ok(bytes)
        };
        let bytes = read().map_err(refused)?;
        // Its work is done.
        program.unload().map_err(|error| refused(chain(&error)))?;
        Ok(bytes
            .chunks_exact(size_of::<UserRegisters>())
            .map(registers)
            .collect())
    }
}

fn registers(bytes: &[u8]) -> UserRegisters {
    // SAFETY: `chunks_exact` gives as many bytes as the type has; integers have no invalid values,
    // and the read does not ask for alignment.
    unsafe { bytes.as_ptr().cast::<UserRegisters>().read_unaligned() }
}
