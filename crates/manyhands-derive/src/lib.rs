#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod expand;
mod refuse;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input, parse_quote};

/// Implements `manyhands_shm::Shareable` for a struct whose fields all are `Shareable`.
///
/// What cannot lie in memory that several processes map is refused by name, with what to use
/// instead. A crate that has `manyhands-shm` under another path says where it is:
/// `#[shareable(crate = other::path)]`.
///
/// Users of the facade `manyhands` get [`FacadeShareable`] under the name `Shareable`.
#[proc_macro_derive(Shareable, attributes(shareable))]
pub fn shareable(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::shareable(&input, parse_quote!(::manyhands_shm)).into()
}

/// The same as [`Shareable`](derive@Shareable), for crates that depend on the facade `manyhands`
/// only: there the trait is `manyhands::Shareable`.
#[proc_macro_derive(FacadeShareable, attributes(shareable))]
pub fn facade_shareable(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::shareable(&input, parse_quote!(::manyhands)).into()
}
