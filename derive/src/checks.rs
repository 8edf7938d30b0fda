//! Generated checks, with which the compiler rejects what a derive cannot see.

use crate::fields::{Check, Field, Named};
use crate::input::Input;
use crate::names::{Derive, inside};
use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};

/// Generates a trait that is implemented for every type that the derive allows, and forwards the
/// constants and functions of the derived trait. If a field's type lacks it, the compiler's error
/// names the field. `do_not_recommend` keeps the compiler from reporting the underlying trait
/// instead. The functions are constants because the compiler points at the type if a constant is
/// missing. If a function is missing, some versions point at the whole call.
pub(crate) fn named_trait(input: &Input, field: &Field, named: &Named) -> TokenStream {
    let krate = &input.krate;
    let trait_name = input.derive.trait_ident();
    let Named {
        name,
        message,
        label,
    } = named;
    let [message, label] = [message, label].map(|text| text.replace('{', "{{").replace('}', "}}"));
    let bool = quote!(::core::primitive::bool);
    let describe = quote!(fn(&mut #krate::memory::Layout));
    let visit =
        quote!(fn(&::core::primitive::str, &Self, &mut #krate::memory::PrimitiveVisitor<'_>));
    let visit_declared = quote! {
        const HAS_PRIMITIVES: #bool;
        const VISIT: #visit;
    };
    let visit_defined = quote! {
        const HAS_PRIMITIVES: #bool = <T as #krate::ShmSafe>::HAS_PRIMITIVES;
        const VISIT: #visit = |path, value, visitor| visitor.field::<T>(path, value);
    };
    let (visit_declared, visit_defined) = match input.derive {
        Derive::ShmSafe => (visit_declared, visit_defined),
        Derive::ShmData => Default::default(),
    };
    let check =
        matches!(field.check, Check::Bound(_)).then(|| check_some_parameters(input, field, named));
    quote! {
        #[diagnostic::on_unimplemented(message = #message, label = #label)]
        trait #name: ::core::marker::Sized {
            const ZERO_IS_VALID: #bool;
            const DESCRIBE: #describe;
            #visit_declared
        }
        #[diagnostic::do_not_recommend]
        impl<T: #krate::#trait_name> #name for T {
            const ZERO_IS_VALID: #bool = <T as #krate::#trait_name>::ZERO_IS_VALID;
            const DESCRIBE: #describe = <T as #krate::#trait_name>::describe;
            #visit_defined
        }
        #check
    }
}

/// Generates a check that a generic field is allowed for some parameters.
fn check_some_parameters(input: &Input, field: &Field, named: &Named) -> TokenStream {
    let Input {
        krate, generics, ..
    } = input;
    let constant = named_constant(field, named, "ZERO_IS_VALID");
    let mut bounded = generics.clone();
    let where_clause = bounded.make_where_clause();
    for parameter in generics.type_params() {
        let parameter = &parameter.ident;
        where_clause
            .predicates
            .push(syn::parse_quote!(#parameter: #krate::ShmSafe + #krate::ShmData));
    }
    let (impl_generics, _, where_clause) = bounded.split_for_impl();
    quote! {
        const _: () = {
            fn check_some_parameters #impl_generics () #where_clause {
                let _ = #constant;
            }
        };
    }
}

/// Generates two impls that overlap exactly if the type has a destructor.
pub(crate) fn no_drop(input: &Input) -> TokenStream {
    let (impl_generics, ty_generics, where_clause) = input.generics.split_for_impl();
    let name = &input.name;
    let no_drop = Ident::new(
        &format!("{}MustNotImplDrop", input.derive.trait_name()),
        Span::mixed_site(),
    );
    let for_name = quote_spanned! { inside(name.span()) =>
        impl #impl_generics #no_drop for #name #ty_generics #where_clause {}
    };
    quote! {
        trait #no_drop {}
        impl<T: ::core::ops::Drop> #no_drop for T {}
        #for_name
    }
}

/// Returns `<Type as Trait>::constant` for the trait that names the field in its error.
///
/// It is written in the same way everywhere, with the location and the context of the type in the
/// user's source. The compiler therefore finds the identical error at each use for which the type
/// lacks the trait, and reports it once, at that location.
pub(crate) fn named_constant(
    field: &Field,
    Named { name, .. }: &Named,
    constant: &str,
) -> TokenStream {
    let ty = &field.ty;
    let mut tokens = ty.to_token_stream().into_iter();
    let first = tokens
        .next()
        .map_or_else(Span::mixed_site, |token| token.span());
    let last = tokens.last().map_or(first, |token| token.span());
    let name = Ident::new(&name.to_string(), last);
    let constant = Ident::new(constant, last);
    let open = quote_spanned!(first=> <);
    let close = quote_spanned!(last=> as #name>::#constant);
    quote!(#open #ty #close)
}
