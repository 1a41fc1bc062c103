//! The short forms of `cargo xtask chaos` and `cargo xtask soak`.

use std::time::Duration;

use faulttrace_tests::endurance::{chaos, soak};
use faulttrace_tests::harness::start;

#[test]
fn chaos_for_half_a_minute() {
    let bench = start();
    eprintln!("{}", chaos::run(&bench, Duration::from_secs(30), 1));
}

#[test]
fn soak_for_a_quarter_of_a_minute() {
    let bench = start();
    eprintln!("{}", soak::run(&bench, Duration::from_secs(15), 2000));
}
