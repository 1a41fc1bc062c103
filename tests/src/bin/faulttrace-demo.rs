//! A program that really gets stuck in page faults, to try faulttrace on.

fn main() -> std::process::ExitCode {
    match faulttrace_tests::demo::main() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("faulttrace-demo: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
