//! What a process may use.
