//! Why a session could not do its work.

use crate::process::launch;

/// Why a session could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A privilege, a kernel feature or the target is missing; the text says how to mend it.
    #[error("{0}")]
    NotPossible(String),
    /// The command could not be launched.
    #[error(transparent)]
    Launch(#[from] launch::Error),
    /// Anything else.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

impl Failure {
    pub(super) fn target(error: &dyn std::error::Error) -> Self {
        Self::NotPossible(error.to_string())
    }
}

impl From<crate::probe::Error> for Failure {
    fn from(error: crate::probe::Error) -> Self {
        Self::NotPossible(format!(
            "{error}\nfor what this kernel offers: faulttrace doctor"
        ))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.into())
    }
}
