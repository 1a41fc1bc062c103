//! Any bytes as `/tmp/perf-PID.map`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    faulttrace_fuzz::parsers::perf_map(bytes);
});
