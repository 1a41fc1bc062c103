//! Settings of the kernel that a test changes.

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the kernel's with one value, until dropped: then it has the one from before again.
pub struct Setting {
    file: PathBuf,
    before: String,
}

impl Setting {
    /// Sets it.
    #[must_use]
    pub fn set(file: impl AsRef<Path>, value: &str) -> Setting {
        let file = file.as_ref().to_owned();
        let name = file.display();
        let before = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
        fs::write(&file, value).unwrap_or_else(|error| panic!("set {name}: {error}"));
        // Of several values to choose from, the chosen one is in brackets.
        let chosen = before
            .split_once('[')
            .and_then(|(_, rest)| rest.split_once(']'));
        let before = chosen
            .map_or(before.trim_end(), |(chosen, _)| chosen)
            .to_owned();
        Setting { file, before }
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let _back = fs::write(&self.file, &self.before);
    }
}
