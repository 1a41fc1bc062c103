//! What the measurements share.

pub mod made_up;
