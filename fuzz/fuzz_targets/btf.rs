//! Any bytes as the BTF of a kernel. The corpus begins with part of a real one.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    faulttrace_fuzz::parsers::btf(bytes);
});
