//! Any bytes as a program.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    faulttrace_fuzz::parsers::build_id(bytes);
});
