//! view (stub)
