//! Any bytes as a program with tables for unwinding. The corpus begins with one of two functions.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    faulttrace_fuzz::parsers::unwind(bytes);
});
