//! Owns threads, channels and shutdown order.
