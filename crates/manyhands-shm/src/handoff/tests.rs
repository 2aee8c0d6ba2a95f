//! Values that cross.

use std::cell::Cell;

use crate::arena::Arena;

thread_local! {
    /// Lets a test receive as another participant than the process is.
    pub(super) static ARENA: Cell<Option<&'static Arena>> = const { Cell::new(None) };
}
