//! The integration tests: one binary, a module for each subject.

// Deaths at every instruction, and storms of deaths: what survives them.
mod crash;

// Pipes, rings and doorbells between processes.
mod channel;

// What processes own in shared primitives, when they are killed.
mod sync;
