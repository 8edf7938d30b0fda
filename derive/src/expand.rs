//! The code that a derive makes.

use crate::fields::{Check, Field, Named};
use crate::input::{Body, Derive, Input, Variant, inside};
use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};

pub(crate) fn expand(input: &Input) -> TokenStream {
    let Input { krate, name, .. } = input;
    let trait_name = trait_name(input);
    let (impl_generics, ty_generics, _) = input.generics.split_for_impl();
    let allow = match input.allowed.as_slice() {
        [] => TokenStream::new(),
        allowed => quote!(#[allow(#(#allowed),*)]),
    };
    let tag = tag(input);
    let named = input.fields().filter_map(|field| Some(named_trait(input, field, field.named()?)));
    let no_drop = no_drop(input);

    let bounds = bounds(input);
    let zero_is_valid = zero_is_valid(input);
    let describe = describe(input);
    let walk = match input.derive {
        Derive::ShmSafe => walk(input),
        Derive::ShmData => TokenStream::new(),
    };
    quote! {
        #allow
        const _: () = {
            #tag
            #(#named)*
            #no_drop

            #[automatically_derived]
            unsafe impl #impl_generics #krate::#trait_name for #name #ty_generics #bounds {
                const ZERO_IS_VALID: ::core::primitive::bool = #zero_is_valid;

                fn describe(layout: &mut #krate::memory::Layout) {
                    layout.aggregate::<Self>();
                    #describe
                }

                #walk
            }
        };
    }
}

fn trait_name(input: &Input) -> Ident {
    Ident::new(input.derive.trait_name(), Span::mixed_site())
}

/// The name of the enum that has the discriminants of an enum whose variants have fields.
fn tag_name() -> Ident {
    Ident::new("PsharedTag", Span::mixed_site())
}

/// The variants of an enum with fields once more, without their fields: such an enum can be cast to its discriminant.
fn tag(input: &Input) -> TokenStream {
    let Body::Enum { tag, variants } = &input.body else {
        return TokenStream::new();
    };
    if variants.iter().all(|variant| variant.is_unit) {
        return TokenStream::new();
    }
    let name = tag_name();
    let variants = variants.iter().map(|Variant { name, discriminant, .. }| {
        let name = Ident::new(&name.to_string(), inside(name.span()));
        let discriminant = discriminant.as_ref().map(|value| quote!(= #value));
        quote!(#name #discriminant)
    });
    quote! {
        #[repr(#tag)]
        enum #name { #(#variants),* }
    }
}

/// The discriminant of a variant, an `i128`.
fn discriminant(variants: &[Variant], variant: &Variant) -> TokenStream {
    let name = &variant.name;
    if variants.iter().all(|variant| variant.is_unit) {
        quote!((Self::#name as ::core::primitive::i128))
    } else {
        let tag = tag_name();
        quote!((#tag::#name as ::core::primitive::i128))
    }
}

/// A trait that is implemented for everything that the derive allows, and hands on what that promises. Where a field's
/// type lacks it, its error names the field. `do_not_recommend` keeps the compiler from speaking of the trait behind it
/// instead.
fn named_trait(input: &Input, field: &Field, named: &Named) -> TokenStream {
    let krate = &input.krate;
    let trait_name = trait_name(input);
    let Named { name, message, label } = named;
    let [message, label] = [message, label].map(|text| text.replace('{', "{{").replace('}', "}}"));
    let walk_declared = quote! {
        const HAS_PRIMITIVES: ::core::primitive::bool;
        fn walk(path: &::core::primitive::str, value: &Self, walk: &mut #krate::memory::Walk<'_>);
    };
    let walk_defined = quote! {
        const HAS_PRIMITIVES: ::core::primitive::bool = <T as #krate::ShmSafe>::HAS_PRIMITIVES;
        fn walk(path: &::core::primitive::str, value: &Self, walk: &mut #krate::memory::Walk<'_>) {
            walk.field::<T>(path, value);
        }
    };
    let (walk_declared, walk_defined) = match input.derive {
        Derive::ShmSafe => (walk_declared, walk_defined),
        Derive::ShmData => Default::default(),
    };
    let check = matches!(field.check, Check::Bound(_)).then(|| whatever_the_parameters(input, field, named));
    quote! {
        #[diagnostic::on_unimplemented(message = #message, label = #label)]
        trait #name: ::core::marker::Sized {
            const ZERO_IS_VALID: ::core::primitive::bool;
            fn describe(layout: &mut #krate::memory::Layout);
            #walk_declared
        }
        #[diagnostic::do_not_recommend]
        impl<T: #krate::#trait_name> #name for T {
            const ZERO_IS_VALID: ::core::primitive::bool = <T as #krate::#trait_name>::ZERO_IS_VALID;
            fn describe(layout: &mut #krate::memory::Layout) {
                <T as #krate::#trait_name>::describe(layout);
            }
            #walk_defined
        }
        #check
    }
}

/// A check that there are parameters for which a generic field is allowed.
fn whatever_the_parameters(input: &Input, field: &Field, Named { name, .. }: &Named) -> TokenStream {
    let Input { krate, generics, .. } = input;
    let ty = &field.ty;
    let mut bounded = generics.clone();
    let where_clause = bounded.make_where_clause();
    for parameter in generics.type_params() {
        let parameter = &parameter.ident;
        where_clause.predicates.push(syn::parse_quote!(#parameter: #krate::ShmSafe + #krate::ShmData));
    }
    let (impl_generics, _, where_clause) = bounded.split_for_impl();
    quote! {
        const _: () = {
            fn whatever_the_parameters #impl_generics () #where_clause {
                let _ = <#ty as #name>::ZERO_IS_VALID;
            }
        };
    }
}

/// Two impls that overlap exactly where the type has a destructor.
fn no_drop(input: &Input) -> TokenStream {
    let (impl_generics, ty_generics, where_clause) = input.generics.split_for_impl();
    let name = &input.name;
    let no_drop = Ident::new(&format!("{}MustNotImplDrop", input.derive.trait_name()), Span::mixed_site());
    let for_name = quote_spanned! { inside(name.span()) =>
        impl #impl_generics #no_drop for #name #ty_generics #where_clause {}
    };
    quote! {
        trait #no_drop {}
        impl<T: ::core::ops::Drop> #no_drop for T {}
        #for_name
    }
}

/// The impl's where clause.
fn bounds(input: &Input) -> TokenStream {
    let krate = &input.krate;
    let trait_name = trait_name(input);
    let mut generics = input.generics.clone();
    for field in input.fields().filter(|field| matches!(field.check, Check::Bound(_))) {
        let ty = &field.ty;
        generics.make_where_clause().predicates.push(syn::parse_quote!(#ty: #krate::#trait_name));
    }
    generics.where_clause.to_token_stream()
}

/// The trait by which the field's type has what is asked of it. It is named in the same way everywhere, so that the
/// compiler finds one and the same error wherever it is not implemented, and tells it once.
fn allowed_by(input: &Input, field: &Field) -> TokenStream {
    let krate = &input.krate;
    let trait_name = trait_name(input);
    match &field.check {
        Check::Named(Named { name, .. }) => quote!(#name),
        Check::Trait | Check::Bound(_) | Check::Refused => quote!(#krate::#trait_name),
    }
}

/// A constant of each field, joined by an operator.
fn constants(input: &Input, fields: &[Field], operator: &TokenStream, constant: &str) -> TokenStream {
    let constant = Ident::new(constant, Span::mixed_site());
    let constants = fields.iter().filter(|field| !field.is_refused()).map(|field| {
        let ty = &field.ty;
        let allowed_by = allowed_by(input, field);
        quote!(#operator <#ty as #allowed_by>::#constant)
    });
    quote!(#(#constants)*)
}

fn zero_is_valid(input: &Input) -> TokenStream {
    let and = quote!(&&);
    match &input.body {
        Body::Struct(fields) => {
            let fields = constants(input, fields, &and, "ZERO_IS_VALID");
            quote!(true #fields)
        }
        Body::Enum { variants, .. } => {
            let variants_of_zero = variants.iter().map(|variant| {
                let discriminant = discriminant(variants, variant);
                let fields = constants(input, &variant.fields, &and, "ZERO_IS_VALID");
                quote!((#discriminant == 0 #fields))
            });
            quote!(false #(|| #variants_of_zero)*)
        }
    }
}

fn describe(input: &Input) -> TokenStream {
    let fields = |fields: &[Field], place: &dyn Fn(&Field, TokenStream) -> TokenStream| {
        let fields = fields.iter().filter(|field| !field.is_refused()).map(|field| {
            let ty = &field.ty;
            let allowed_by = allowed_by(input, field);
            // A closure, since a path that is passed on would be one more place at which the compiler tells an error.
            place(field, quote!(|layout| <#ty as #allowed_by>::describe(layout)))
        });
        quote!(#(#fields)*)
    };
    let described = match &input.body {
        Body::Struct(all) => fields(all, &|Field { member, path, .. }, describe| {
            quote!(layout.field(#path, ::core::mem::offset_of!(Self, #member), #describe);)
        }),
        Body::Enum { tag, variants } => {
            let variants = variants.iter().map(|variant| {
                let name = crate::input::unraw(&variant.name);
                let discriminant = discriminant(variants, variant);
                let fields = fields(&variant.fields, &|Field { path, ty, .. }, describe| {
                    quote!(layout.variant_field::<#ty>(&mut end, #path, #describe);)
                });
                let end = (!fields.is_empty())
                    .then(|| quote!(let mut end = ::core::mem::size_of::<::core::primitive::#tag>();));
                quote! {
                    layout.variant(#name, #discriminant);
                    #end
                    #fields
                }
            });
            quote!(#(#variants)*)
        }
    };
    let exhaustive = match input.derive {
        // `walk` names every field.
        Derive::ShmSafe => TokenStream::new(),
        Derive::ShmData => {
            let arms = arms(input, &|_, _| None);
            quote!(let _ = |value: &Self| match *value { #arms };)
        }
    };
    quote!(#described #exhaustive)
}

fn walk(input: &Input) -> TokenStream {
    let krate = &input.krate;
    let has_primitives = input.bodies().map(|fields| constants(input, fields, &quote!(||), "HAS_PRIMITIVES"));
    let arms = arms(input, &|field, value| {
        let Field { path, ty, check, .. } = field;
        Some(match check {
            Check::Named(Named { name, .. }) => quote!(<#ty as #name>::walk(#path, #value, walk);),
            Check::Trait | Check::Bound(_) | Check::Refused => quote!(walk.field::<#ty>(#path, #value);),
        })
    });
    quote! {
        const HAS_PRIMITIVES: ::core::primitive::bool = false #(#has_primitives)*;

        fn walk(&self, walk: &mut #krate::memory::Walk<'_>) {
            let _ = &walk;
            match *self { #arms }
        }
    }
}

/// The arms of a match that names every field of the type, and so does not compile where another macro adds one that was
/// not checked here. `each` may use a field by reference.
fn arms(input: &Input, each: &dyn Fn(&Field, &Ident) -> Option<TokenStream>) -> TokenStream {
    let arm = |path: TokenStream, fields: &[Field]| {
        let (patterns, uses): (Vec<_>, Vec<_>) = fields
            .iter()
            .enumerate()
            .map(|(index, field)| {
                let member = &field.member;
                let value = format_ident!("field{index}", span = Span::mixed_site());
                match Some(field).filter(|field| !field.is_refused()).and_then(|field| each(field, &value)) {
                    Some(used) => (quote!(#member: ref #value), used),
                    None => (quote!(#member: _), TokenStream::new()),
                }
            })
            .unzip();
        quote!(#path { #(#patterns),* } => { #(#uses)* })
    };
    match &input.body {
        Body::Struct(fields) => arm(quote!(Self), fields),
        Body::Enum { variants, .. } => {
            let arms = variants.iter().map(|Variant { name, fields, .. }| arm(quote!(Self::#name), fields));
            quote!(#(#arms)*)
        }
    }
}
