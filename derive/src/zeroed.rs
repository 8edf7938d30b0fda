//! `#[pshared(zeroed)]`: whether zero bytes are a value that any code may create.

use crate::expand::constants;
use crate::fields::{Check, Field};
use crate::input::{Body, Input};
use crate::layout;
use crate::names::inside;
use crate::tag;
use crate::text::text;
use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;

/// Returns the value of `ZERO_IS_VALID`.
pub(crate) fn is_valid(input: &Input) -> TokenStream {
    if input.zeroed.is_none() {
        return quote!(false);
    }
    let checked = layout::checked(input);
    let fields = |fields| constants(input, fields, &quote!(&&), "ZERO_IS_VALID");
    let is_valid = match &input.body {
        Body::Struct(all) => {
            let fields = fields(all);
            quote!(true #fields)
        }
        Body::Enum { variants, .. } => {
            let variants_of_zero = variants.iter().map(|variant| {
                let discriminant = tag::discriminant(&quote!(Self), variants, variant);
                let fields = fields(&variant.fields);
                quote!((#discriminant == 0 #fields))
            });
            quote!(false #(|| #variants_of_zero)*)
        }
    };
    quote!({ #checked #is_valid })
}

/// Generates the errors for `#[pshared(zeroed)]` on a type for which it cannot be true. A field
/// whose type depends on a parameter is not checked, because it only makes the value conditional.
pub(crate) fn check(input: &Input) -> TokenStream {
    let Some(zeroed) = input.zeroed.filter(|_| input.is_correct) else {
        return TokenStream::new();
    };
    match &input.body {
        Body::Struct(fields) => {
            let fields = fields
                .iter()
                .map(|field| check_field(input, field, &quote!(true)));
            quote!(#(#fields)*)
        }
        Body::Enum { variants, .. } => {
            // The variants of a generic enum without fields cannot be named here.
            if tag::is_unit_only(variants) && input.is_generic() {
                return TokenStream::new();
            }
            let owner = input.name.to_token_stream();
            let is_zero = Vec::from_iter(variants.iter().map(|variant| {
                let discriminant = tag::discriminant(&owner, variants, variant);
                quote!(#discriminant == 0)
            }));
            let message = format!(
                "`{}` has no variant of discriminant 0, so zero bytes are not a value of it: write `= 0` after a \
                 variant, or remove `#[pshared(zeroed)]`",
                input.name
            );
            let any = assert(zeroed, &quote!(false #(|| #is_zero)*), &message);
            let fields = variants
                .iter()
                .zip(&is_zero)
                .flat_map(|(variant, is_zero)| {
                    variant
                        .fields
                        .iter()
                        .map(move |field| check_field(input, field, is_zero))
                });
            quote!(#any #(#fields)*)
        }
    }
}

/// Generates the error for a field that may not be zero bytes, if `condition` holds.
fn check_field(input: &Input, field: &Field, condition: &TokenStream) -> TokenStream {
    if matches!(field.check, Check::Bound(_)) || names_self(field.ty.to_token_stream()) {
        return TokenStream::new();
    }
    let constant = constants(
        input,
        std::slice::from_ref(field),
        &TokenStream::new(),
        "ZERO_IS_VALID",
    );
    let Field { path, ty, .. } = field;
    let message = format!(
        "field `{path}: {ty}` does not allow zero bytes: use a type that does (your own type needs \
         `#[pshared(zeroed)]`), or remove the attribute from `{}`",
        input.name,
        ty = text(ty),
    );
    assert(ty.span(), &quote!(!(#condition) || #constant), &message)
}

fn assert(at: Span, condition: &TokenStream, message: &str) -> TokenStream {
    let message = message.replace('{', "{{").replace('}', "}}");
    quote_spanned! {inside(at)=>
        const _: () = ::core::assert!(#condition, #message);
    }
}

fn names_self(ty: TokenStream) -> bool {
    ty.into_iter().any(|token| match token {
        TokenTree::Ident(name) => name == "Self",
        TokenTree::Group(group) => names_self(group.stream()),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}
