//! Prints `docs/trace-schema.md`; `cargo xtask docs` writes it.

use std::io::Write as _;

fn main() -> std::io::Result<()> {
    std::io::stdout().write_all(faulttrace::trace::schema::markdown().as_bytes())
}
