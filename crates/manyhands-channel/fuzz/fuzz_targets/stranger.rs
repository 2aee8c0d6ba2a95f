//! What a stranger may say to a listener or a client: `cargo +nightly fuzz run stranger`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use manyhands_channel::socket::fuzz::stranger;

fuzz_target!(|script: &[u8]| stranger(script));
