//! The derives of `pshared`: [`ShmSafe`](macro@ShmSafe) and [`ShmData`](macro@ShmData).
//!
//! Use them as `pshared::ShmSafe` and `pshared::ShmData`: the traits of the same names say what they promise and have
//! the examples.

mod advice;
mod checks;
mod expand;
mod fields;
mod input;
mod names;
mod repr;
mod text;

use input::Input;
use names::Derive;
use proc_macro::TokenStream;

/// Derives `pshared::ShmSafe`: the type may be placed in a map.
///
/// Takes `#[repr(C)]` and `#[repr(transparent)]` structs, and enums with an integer representation (`#[repr(u8)]`),
/// generic ones too. Every field must be `ShmSafe`; what is not is refused with the field's name and what to use
/// instead. So are lifetime parameters, `Drop`, unions and `packed`.
///
/// `#[pshared(crate = "path")]` names the crate where it is not `::pshared`.
#[proc_macro_derive(ShmSafe, attributes(pshared))]
pub fn derive_shm_safe(input: TokenStream) -> TokenStream {
    derive(input, Derive::ShmSafe)
}

/// Derives `pshared::ShmData`: the type is plain data that may lie under a lock.
///
/// Takes what [`ShmSafe`](macro@ShmSafe) takes, where every field is `ShmData`: primitives are not, cells are.
///
/// `#[pshared(crate = "path")]` names the crate where it is not `::pshared`.
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
    // The impl is made beside the errors where it can be, so that a mistake is told once, at its place, and not again
    // wherever the type is used.
    let errors = errors.iter().map(syn::Error::to_compile_error);
    quote::quote!(#(#errors)* #expanded).into()
}
