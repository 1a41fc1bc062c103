//! A hostile ring, and hostile memory maps beside it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    faulttrace_fuzz::ring::ring(bytes);
});
