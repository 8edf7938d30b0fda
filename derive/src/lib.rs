//! The derives of `pshared`: [`ShmSafe`](macro@ShmSafe) and [`ShmData`](macro@ShmData).
//!
//! Use them as `pshared::ShmSafe` and `pshared::ShmData`. The traits of the same names document the
//! guarantees and have examples.

mod advice;
mod checks;
mod expand;
mod fields;
mod input;
mod layout;
mod names;
mod repr;
mod tag;
mod text;
mod zeroed;

use input::Input;
use names::Derive;
use proc_macro::TokenStream;

/// Derives `pshared::ShmSafe`: the type may be placed in a map.
///
/// Accepts `#[repr(C)]` and `#[repr(transparent)]` structs, and enums with an integer
/// representation (`#[repr(u8)]`), also generic ones. Every field must be `ShmSafe`. A field that
/// is not is rejected with an error that names the field and what to use instead. Lifetime
/// parameters, `Drop`, unions and `packed` are also rejected.
///
/// An attribute macro below the derive must not change the item. Write it above the derive. The
/// compiler compares the names, types and offsets of the fields, the size, the alignment and the
/// discriminants with those that the derive saw. For a generic type, it does so where the layout is
/// used. A representation that the macro removes is accepted if the layout remains the same,
/// because no program can read the attributes of a compiled type.
///
/// `#[pshared(zeroed)]` sets `ZERO_IS_VALID`: zero bytes are the type's initial state, and any code
/// may create a value of them, also if the fields are private. The type must have no invariant that
/// zero bytes break. A field that does not allow zero bytes is an error, and so is an enum without
/// a variant of discriminant 0. If a field depends on a parameter, the parameter decides. Without
/// this attribute, `ZERO_IS_VALID` is false.
///
/// `#[pshared(crate = "path")]` sets the path of the crate if it is not `::pshared`.
#[proc_macro_derive(ShmSafe, attributes(pshared))]
pub fn derive_shm_safe(input: TokenStream) -> TokenStream {
    derive(input, Derive::ShmSafe)
}

/// Derives `pshared::ShmData`: the type is plain data that may lie under a lock.
///
/// Accepts the types that [`ShmSafe`](macro@ShmSafe) accepts, if every field is `ShmData`.
/// Primitives are not `ShmData`; cells are.
///
/// The attribute `pshared` and the rule for attribute macros below the derive are those of
/// [`ShmSafe`](macro@ShmSafe). A type that derives both traits has the attribute once for both.
#[proc_macro_derive(ShmData, attributes(pshared))]
pub fn derive_shm_data(input: TokenStream) -> TokenStream {
    derive(input, Derive::ShmData)
}

fn derive(input: TokenStream, derive: Derive) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    let mut errors = Vec::new();
    let expanded = match Input::new(input, derive, &mut errors) {
        Some(input) => expand::expand(&input),
        None => proc_macro2::TokenStream::new(),
    };
    // The impl is generated even with errors if possible, so that a mistake is reported once, at
    // its location, and not again at each use of the type.
    let errors = errors.iter().map(syn::Error::to_compile_error);
    quote::quote!(#(#errors)* #expanded).into()
}
