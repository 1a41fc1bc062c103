//! Any bytes as a Go program. The corpus begins with tables of both forms, made by hand.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    faulttrace_fuzz::parsers::go(bytes);
});
