//! Any bytes as a trace. The corpus begins with real ones, so most of what is tried is nearly one.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static FILE: LazyLock<std::path::PathBuf> = LazyLock::new(|| faulttrace_fuzz::scratch("trace"));

fuzz_target!(|bytes: &[u8]| {
    std::fs::write(&*FILE, bytes).expect("memory");
    faulttrace_fuzz::consume(&FILE);
});
