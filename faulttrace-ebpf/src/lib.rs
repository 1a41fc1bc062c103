//! The wire format.
#![no_std]
