//! The code that a derive generates.

use crate::checks::{declared, named_constant, named_trait, no_drop, same_type};
use crate::fields::{Check, Field};
use crate::input::{Body, Input, Variant};
use crate::names::{Derive, local, unraw};
use crate::{layout, tag, zeroed};
use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote};

pub(crate) fn expand(input: &Input) -> TokenStream {
    let Input { krate, name, .. } = input;
    let trait_name = input.derive.trait_ident();
    let (impl_generics, ty_generics, _) = input.generics.split_for_impl();
    let allow = match input.allowed.as_slice() {
        [] => TokenStream::new(),
        allowed => quote!(#[allow(#(#allowed),*)]),
    };
    let tag = tag::tag(input);
    let named = input
        .fields()
        .filter_map(|field| Some(named_trait(input, field, field.named()?)));
    let same_type = same_type(input);
    let no_drop = no_drop(input);

    let bounds = bounds(input);
    let layout = layout::check(input, &bounds);
    let zeroed = zeroed::check(input);
    let zero_is_valid = zeroed::is_valid(input);
    let checked = layout::checked(input);
    let describe = describe(input);
    let visit = match input.derive {
        Derive::ShmSafe => visit(input),
        Derive::ShmData => TokenStream::new(),
    };
    quote! {
        #allow
        const _: () = {
            #tag
            #(#named)*
            #same_type
            #no_drop
            #layout
            #zeroed

            #[automatically_derived]
            unsafe impl #impl_generics #krate::#trait_name for #name #ty_generics #bounds {
                const ZERO_IS_VALID: ::core::primitive::bool = #zero_is_valid;

                fn describe(layout: &mut #krate::memory::Layout) {
                    #checked
                    layout.aggregate::<Self>();
                    #describe
                }

                #visit
            }
        };
    }
}

/// Returns the impl's where clause.
fn bounds(input: &Input) -> TokenStream {
    let krate = &input.krate;
    let trait_name = input.derive.trait_ident();
    let mut generics = input.generics.clone();
    for field in input
        .fields()
        .filter(|field| matches!(field.check, Check::Bound(_)))
    {
        let ty = &field.ty;
        generics
            .make_where_clause()
            .predicates
            .push(syn::parse_quote!(#ty: #krate::#trait_name));
    }
    generics.where_clause.to_token_stream()
}

/// Returns `ZERO_IS_VALID` or `HAS_PRIMITIVES` of each field, joined by an operator.
pub(crate) fn constants(
    input: &Input,
    fields: &[Field],
    operator: &TokenStream,
    constant: &str,
) -> TokenStream {
    let krate = &input.krate;
    let trait_name = input.derive.trait_ident();
    let constants = fields
        .iter()
        .filter(|field| !field.is_refused())
        .map(|field| match &field.check {
            Check::Named(named) => named_constant(field, named, constant),
            Check::Trait | Check::Bound(_) | Check::Rejected => {
                let ty = &field.ty;
                let constant = Ident::new(constant, Span::mixed_site());
                quote!(<#ty as #krate::#trait_name>::#constant)
            }
        });
    quote!(#(#operator #constants)*)
}

fn describe(input: &Input) -> TokenStream {
    let krate = &input.krate;
    let trait_name = input.derive.trait_ident();
    let fields = |fields: &[Field], place: &dyn Fn(&Field, TokenStream) -> TokenStream| {
        let fields = fields
            .iter()
            .filter(|field| !field.is_refused())
            .map(|field| {
                let ty = &field.ty;
                let describe = match &field.check {
                    Check::Named(named) => named_constant(field, named, "DESCRIBE"),
                    Check::Trait | Check::Bound(_) | Check::Rejected => {
                        quote!(<#ty as #krate::#trait_name>::describe)
                    }
                };
                place(field, describe)
            });
        quote!(#(#fields)*)
    };
    match &input.body {
        Body::Struct(all) => fields(all, &|Field { member, path, .. }, describe| {
            let offset = quote!(::core::mem::offset_of!(Self, #member));
            quote!(layout.field(#path, #offset, #describe);)
        }),
        Body::Enum { tag, variants } => {
            let variant_layout = local("variant");
            let variants = variants.iter().map(|variant| {
                let name = unraw(&variant.name);
                let discriminant = tag::discriminant(&quote!(Self), variants, variant);
                let fields = fields(&variant.fields, &|Field { path, ty, .. }, describe| {
                    quote!(layout.field(#path, #variant_layout.field::<#ty>(), #describe);)
                });
                let tag = quote!(::core::primitive::#tag);
                let variant = (!fields.is_empty()).then(
                    || quote!(let mut #variant_layout = #krate::memory::FieldLayout::after_tag::<#tag>();),
                );
                quote! {
                    layout.variant(#name, #discriminant);
                    #variant
                    #fields
                }
            });
            quote!(#(#variants)*)
        }
    }
}

fn visit(input: &Input) -> TokenStream {
    let krate = &input.krate;
    let has_primitives = input
        .bodies()
        .map(|fields| constants(input, fields, &quote!(||), "HAS_PRIMITIVES"));
    let arms = arms(input, &|field, value| {
        let Field {
            path, ty, check, ..
        } = field;
        match check {
            Check::Named(named) => {
                let visit = named_constant(field, named, "VISIT");
                quote!(let visit_field = #visit; visit_field(#path, #value, visitor);)
            }
            Check::Trait | Check::Bound(_) | Check::Rejected => {
                quote!(visitor.field::<#ty>(#path, #value);)
            }
        }
    });
    // A type without fields does not use `visitor`.
    quote! {
        const HAS_PRIMITIVES: ::core::primitive::bool = false #(#has_primitives)*;

        fn visit(&self, visitor: &mut #krate::memory::PrimitiveVisitor<'_>) {
            let _ = &visitor;
            match *self { #arms }
        }
    }
}

/// Generates the arms of a match that names every field of the type and checks its type. It
/// therefore does not compile if another macro adds a field that was not checked here, or changes
/// the type of a field. `each` uses a field by reference.
pub(crate) fn arms(input: &Input, each: &dyn Fn(&Field, &Ident) -> TokenStream) -> TokenStream {
    let arm = |path: TokenStream, fields: &[Field]| {
        let (patterns, uses): (Vec<_>, Vec<_>) = fields
            .iter()
            .enumerate()
            .map(|(index, field)| {
                let member = &field.member;
                // An error was already reported. A reference to a packed field may be another one.
                if field.is_refused() || input.packed {
                    return (quote!(#member: _), TokenStream::new());
                }
                let value = local(&format!("field{index}"));
                let declared = declared(field, &value);
                let used = each(field, &value);
                (quote!(#member: ref #value), quote!(#declared #used))
            })
            .unzip();
        quote!(#path { #(#patterns),* } => { #(#uses)* })
    };
    match &input.body {
        Body::Struct(fields) => arm(quote!(Self), fields),
        Body::Enum { variants, .. } => {
            let arms = variants
                .iter()
                .map(|Variant { name, fields, .. }| arm(quote!(Self::#name), fields));
            quote!(#(#arms)*)
        }
    }
}
