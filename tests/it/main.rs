//! The integration tests: one binary, a module for each subject.

// Deaths at every instruction, and storms of deaths: what survives them.
mod crash;
