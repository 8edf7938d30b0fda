//! The derives of `pshared`: [`ShmSafe`](macro@ShmSafe) and [`ShmData`](macro@ShmData).
//!
//! Use them as `pshared::ShmSafe` and `pshared::ShmData`. The traits of the same names document the
//! guarantees and have examples.

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
/// Accepts `#[repr(C)]` and `#[repr(transparent)]` structs, and enums with an integer
/// representation (`#[repr(u8)]`), also generic ones. Every field must be `ShmSafe`. A field that
/// is not is rejected with an error that names the field and what to use instead. Lifetime
/// parameters, `Drop`, unions and `packed` are also rejected.
///
/// An attribute macro below the derive must not change the fields. Write it above the derive.
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
/// An attribute macro below the derive must not change the fields. Write it above the derive.
///
/// `#[pshared(crate = "path")]` sets the path of the crate if it is not `::pshared`.
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
