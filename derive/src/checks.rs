//! Generated checks, with which the compiler rejects what a derive cannot see.

use crate::fields::{Check, Field, Named};
use crate::input::Input;
use crate::names::{Derive, inside};
use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::Type;

/// Generates a trait that is implemented for every type that the derive allows, and forwards the
/// constants and functions of the derived trait. If a field's type lacks it, the compiler's error
/// names the field. `do_not_recommend` keeps the compiler from reporting the underlying trait
/// instead. The functions are constants because the compiler points at the type if a constant is
/// missing. If a function is missing, some versions point at the whole call.
///
/// An expression in the user's type, such as a discriminant, is repeated in the scope of the
/// generated trait and may hold an impl of it. `Allowed` prevents such an impl for a type that
/// lacks the derived trait: `Allowed` must be the type itself (see [`same_type`]) and have the
/// derived trait. A supertrait would prevent it too, but would appear in the errors.
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
            type Allowed: #krate::#trait_name + PsharedIs<Type = Self>;
            const ZERO_IS_VALID: #bool;
            const DESCRIBE: #describe;
            #visit_declared
        }
        #[diagnostic::do_not_recommend]
        impl<T: #krate::#trait_name> #name for T {
            type Allowed = T;
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

/// Generates the trait that [`declared`] uses. `U` implements it for `T` exactly if `U` is `T`. It
/// reports the error for a field of another type.
///
/// `PsharedIs` is implemented for all types, so no other impl of it can exist. Its associated types
/// are the type itself. `Same` is therefore both `Self` and `T`, in any impl.
pub(crate) fn same_type(input: &Input) -> TokenStream {
    if input.fields().all(Field::is_refused) {
        return TokenStream::new();
    }
    let derive = format!("`#[derive({})]`", input.derive.trait_name());
    let message =
        format!("a macro below {derive} changes the type of this field from `{{T}}` to `{{Self}}`");
    let label = format!("write the macro above {derive}, which checked only `{{T}}`");
    let sized = quote!(::core::marker::Sized);
    quote! {
        struct PsharedField<'v, T: ?#sized>(&'v T);

        trait PsharedIs {
            type Type: ?#sized;
            type Also: ?#sized;
        }
        impl<T: ?#sized> PsharedIs for T {
            type Type = T;
            type Also = T;
        }

        #[diagnostic::on_unimplemented(message = #message, label = #label)]
        trait PsharedSameType<T: ?#sized> {
            type Same: ?#sized + PsharedIs<Type = Self, Also = T>;
            fn declared<'v>(field: PsharedField<'v, Self>) -> &'v T;
        }
        #[diagnostic::do_not_recommend]
        impl<T: ?#sized> PsharedSameType<T> for T {
            type Same = T;
            fn declared<'v>(field: PsharedField<'v, T>) -> &'v T {
                field.0
            }
        }
    }
}

/// Generates a check that a field has the type that the derive saw. A macro below the derive may
/// have changed it. `value` is a reference to the field, before and after the check.
///
/// The reference can be coerced: `&&u64` becomes `&u64` if `&u64` is expected. The first statement
/// therefore infers the field's type, and names no other type. The second statement compares the
/// two types. Its argument is a struct, which is not coerced. In a single statement, the expected
/// type could reach the reference.
pub(crate) fn declared(field: &Field, value: &Ident) -> TokenStream {
    let ty = &field.ty;
    let (first, last) = ends(ty);
    // The error's location is this path, which spans the type in the user's source.
    let open = quote_spanned!(inside(first)=> <_ as PsharedSameType<);
    let close = quote_spanned!(inside(last)=> >>::declared);
    quote! {
        let #value = PsharedField(#value);
        let #value = #open #ty #close (#value);
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
    let (first, last) = ends(ty);
    let name = Ident::new(&name.to_string(), last);
    let constant = Ident::new(constant, last);
    let open = quote_spanned!(first=> <);
    let close = quote_spanned!(last=> as #name>::#constant);
    quote!(#open #ty #close)
}

/// Returns the spans of the type's first and last token.
fn ends(ty: &Type) -> (Span, Span) {
    let mut tokens = ty.to_token_stream().into_iter();
    let first = tokens
        .next()
        .map_or_else(Span::mixed_site, |token| token.span());
    let last = tokens.last().map_or(first, |token| token.span());
    (first, last)
}
