//! From a struct to its `Shareable` implementation.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{
    Attribute, Data, DeriveInput, Error, Field, Fields, Index, Member, Path, Result,
    WherePredicate, parse_quote,
};

use crate::refuse;

/// The implementation, or the errors that say why there is none.
pub(crate) fn shareable(input: &DeriveInput, room: Path) -> TokenStream {
    try_shareable(input, room).unwrap_or_else(|error| error.into_compile_error())
}

fn try_shareable(input: &DeriveInput, room: Path) -> Result<TokenStream> {
    let room = named_room(&input.attrs)?.unwrap_or(room);
    let fields = fields(input)?;
    refuse_packed(&input.attrs)?;
    refuse::lifetimes(&input.generics)?;
    refuse::fields(fields)?;

    let name = &input.ident;
    let mut generics = input.generics.clone();
    // Without parameters the calls below demand the same, and the compiler's errors then point at
    // the fields.
    if generics.type_params().next().is_some() {
        let bounds = &mut generics.make_where_clause().predicates;
        bounds.extend(fields.iter().map(|field| -> WherePredicate {
            let held = &field.ty;
            parse_quote!(#held: #room::Shareable)
        }));
        bounds.push(parse_quote!(Self: ::core::marker::Send + ::core::marker::Sync + 'static));
    }
    let (before, after, bounds) = generics.split_for_impl();
    let places = fields
        .iter()
        .enumerate()
        .map(|(index, field)| place(index, field, &room));
    let holds = fields
        .iter()
        .enumerate()
        .map(|(index, field)| hold(index, field, &room));
    let held = fields.iter().map(|field| &field.ty);
    // No lint attribute here: a crate that forbids unsafe code may derive, because the compiler
    // does not look into the macros of other crates for that lint, but it would not let us allow it.
    Ok(quote! {
        // SAFETY: every field is `Shareable`, and each item asks every field.
        #[automatically_derived]
        unsafe impl #before #room::Shareable for #name #after #bounds {
            fn placed(&self, here: #room::LastPlace) {
                #(#places)*
            }

            const PINNED: bool = false #(|| <#held as #room::Shareable>::PINNED)*;

            fn is_held_here(&self) -> bool {
                false #(|| #holds)*
            }
        }
    })
}

fn place(index: usize, field: &Field, room: &Path) -> TokenStream {
    let (held, member) = (&field.ty, member(index, field));
    quote!(<#held as #room::Shareable>::placed(&self.#member, here);)
}

fn hold(index: usize, field: &Field, room: &Path) -> TokenStream {
    let (held, member) = (&field.ty, member(index, field));
    quote!(<#held as #room::Shareable>::is_held_here(&self.#member))
}

fn member(index: usize, field: &Field) -> Member {
    match &field.ident {
        Some(name) => Member::Named(name.clone()),
        None => Member::Unnamed(Index {
            index: index as u32,
            span: Span::call_site(),
        }),
    }
}

fn fields(input: &DeriveInput) -> Result<&Fields> {
    match &input.data {
        Data::Struct(data) => Ok(&data.fields),
        Data::Enum(data) => Err(Error::new(
            data.enum_token.span,
            "an enum cannot derive Shareable: a process that is killed while it writes a variant \
             may leave a value that is no variant; use an `AtomicU32` with named constants, or a \
             struct with a field for each case",
        )),
        Data::Union(data) => Err(Error::new(
            data.union_token.span,
            "a union cannot derive Shareable: nobody can tell which of its fields another process \
             wrote; use a struct with a field for each case",
        )),
    }
}

/// The path in `#[shareable(crate = path)]`.
fn named_room(attributes: &[Attribute]) -> Result<Option<Path>> {
    let mut room = None;
    for attribute in attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("shareable"))
    {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("crate") {
                return Err(meta.error("`shareable` knows only `crate = path`"));
            }
            room = Some(meta.value()?.parse()?);
            Ok(())
        })?;
    }
    Ok(room)
}

/// A field of a packed struct cannot be borrowed, so it cannot be placed.
fn refuse_packed(attributes: &[Attribute]) -> Result<()> {
    for attribute in attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("repr"))
    {
        let repr = attribute.meta.require_list()?.tokens.to_string();
        if repr.contains("packed") {
            return Err(Error::new_spanned(
                attribute,
                "a packed struct cannot derive Shareable: its fields are not aligned, so locks and \
                 atomics in it would not work; leave `packed` out",
            ));
        }
    }
    Ok(())
}
