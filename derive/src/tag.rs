//! The discriminants of an enum.

use crate::input::{Body, Input, Variant};
use crate::names::inside;
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;

/// The name of the generated enum of discriminants. It is generated for an enum with fields in its
/// variants.
fn tag_name() -> Ident {
    Ident::new("PsharedTag", Span::mixed_site())
}

/// Returns whether the enum itself can be cast to its discriminant.
pub(crate) fn is_unit_only(variants: &[Variant]) -> bool {
    variants.iter().all(|variant| variant.is_unit)
}

/// Generates the variants of an enum with fields again, without the fields: such an enum can be
/// cast to its discriminant.
pub(crate) fn tag(input: &Input) -> TokenStream {
    let Body::Enum { tag, variants } = &input.body else {
        return TokenStream::new();
    };
    if is_unit_only(variants) {
        return TokenStream::new();
    }
    let name = tag_name();
    let variants = variants.iter().map(|variant| {
        let mut name = variant.name.clone();
        name.set_span(inside(name.span()));
        let discriminant = variant.discriminant.as_ref().map(|value| quote!(= #value));
        quote!(#name #discriminant)
    });
    quote! {
        #[repr(#tag)]
        enum #name { #(#variants),* }
    }
}

/// Returns the discriminant of a variant, as an `i128`. `owner` is the name of the enum in the
/// scope of the result.
pub(crate) fn discriminant(
    owner: &TokenStream,
    variants: &[Variant],
    variant: &Variant,
) -> TokenStream {
    let name = &variant.name;
    if is_unit_only(variants) {
        quote!((#owner::#name as ::core::primitive::i128))
    } else {
        let tag = tag_name();
        quote!((#tag::#name as ::core::primitive::i128))
    }
}
