//! Which module an address lies in.
