//! What a dying process can still say.
