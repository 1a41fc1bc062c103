//! Folds many faults into totals per thread, file, stack and cause.
