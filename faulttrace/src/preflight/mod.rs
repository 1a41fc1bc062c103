//! preflight (stub)
