//! `cargo xtask docs`: writes the documents that are generated from the code. A unit test fails when
//! they are not what the code says.

use anyhow::{Context as _, ensure};

use crate::cargo::cargo;
use crate::shell::{describe, root, say};

/// Examples that print a document, and where it goes.
const GENERATED: [(&str, &str); 1] = [("trace-schema", "docs/trace-schema.md")];

/// Writes all of them.
pub(crate) fn docs() -> anyhow::Result<()> {
    for (example, document) in GENERATED {
        let mut command = cargo()?;
        command.args([
            "run",
            "--quiet",
            "--package",
            "faulttrace",
            "--example",
            example,
        ]);
        say(&describe(&command));
        let output = command
            .stderr(std::process::Stdio::inherit())
            .output()
            .context("starting cargo")?;
        ensure!(output.status.success(), "{example}: {}", output.status);
        let path = root()?.join(document);
        std::fs::write(&path, output.stdout).with_context(|| path.display().to_string())?;
        say(&format!("wrote {document}"));
    }
    Ok(())
}
