//! Generated checks of a type's layout.
//!
//! A macro below the derive may change the representation, the order of the fields, or the
//! discriminants, after the derive saw them. The checks compare the layout of the compiled type
//! with the layout that follows from what the derive saw. They run in the compiler.

use crate::expand::arms;
use crate::fields::Field;
use crate::input::{Body, Input, Variant};
use crate::names::{inside, local};
use crate::tag;
use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;

/// Generates the check, as a constant. The compiler's errors contain its name.
///
/// The check of a type without parameters runs where the type is declared. The check of a generic
/// type runs where the layout is used, for the parameters that are used there.
pub(crate) fn check(input: &Input, bounds: &TokenStream) -> TokenStream {
    if !input.is_correct {
        return TokenStream::new();
    }
    let name = &input.name;
    let (impl_generics, ty_generics, _) = input.generics.split_for_impl();
    let checks = match &input.body {
        Body::Struct(fields) => of_struct(input, fields),
        Body::Enum { tag, variants } => of_enum(input, tag, variants),
    };
    // The closure is never called. It compares the types of the fields. The other checks do not run
    // if it has an error.
    let arms = arms(input, &|_, value| quote!(let _ = #value;));
    let value = local("value");
    let types = quote!(let _ = |#value: &Self| match *#value { #arms };);
    let at_declaration = (!input.is_generic()).then(|| {
        quote! {
            const _: () = <#name as PsharedLayout>::UNCHANGED_BELOW_DERIVE;
        }
    });
    quote! {
        trait PsharedLayout {
            const UNCHANGED_BELOW_DERIVE: ();
        }
        impl #impl_generics PsharedLayout for #name #ty_generics #bounds {
            const UNCHANGED_BELOW_DERIVE: () = {
                #types
                #checks
            };
        }
        #at_declaration
    }
}

/// Returns a statement that runs the check.
pub(crate) fn checked(input: &Input) -> TokenStream {
    if input.is_correct {
        quote!(let () = <Self as PsharedLayout>::UNCHANGED_BELOW_DERIVE;)
    } else {
        TokenStream::new()
    }
}

/// Compares each offset with the one that `repr(C)` gives, and then the size and the alignment.
fn of_struct(input: &Input, fields: &[Field]) -> TokenStream {
    let layout = local("layout");
    let new = new_layout(input);
    let fields = fields.iter().map(|field| {
        let Field {
            member, path, ty, ..
        } = field;
        let offset = quote!(#layout.field::<#ty>());
        // The only field with bytes is at the start, and the offsets of the others have no meaning.
        if input.transparent {
            return quote!(let _ = #offset;);
        }
        let real = quote!(::core::mem::offset_of!(Self, #member));
        assert(
            input,
            inside(member.span()),
            &quote!(#offset == #real),
            &format!("moves field `{path}` of"),
        )
    });
    let size = size(input);
    quote! {
        #[allow(unused_mut)]
        let mut #layout = #new;
        #(#fields)*
        #size
    }
}

/// Compares the size and the alignment, the size of the tag, and then each variant.
///
/// `offset_of!` does not support variants yet. The check of a variant therefore writes the tag that
/// the derive saw to memory without a value, and matches on it. The match must select the variant,
/// and the references to its fields have their offsets.
fn of_enum(input: &Input, tag: &Ident, variants: &[Variant]) -> TokenStream {
    let krate = &input.krate;
    let tag = &quote!(::core::primitive::#tag);
    let [layout, variant_layout] = ["layout", "variant"].map(local);
    let new = new_layout(input);
    let offsets_of = |index| local(&format!("offsets{index}"));
    let offsets = variants.iter().enumerate().map(|(index, variant)| {
        let offsets = offsets_of(index);
        let count = variant.fields.len();
        let types = variant.fields.iter().map(|field| &field.ty);
        quote! {
            #[allow(unused_mut)]
            let mut #variant_layout = #krate::memory::FieldLayout::after_tag::<#tag>();
            let #offsets: [::core::primitive::usize; #count] = [#(#variant_layout.field::<#types>()),*];
            #layout.include(&#variant_layout);
        }
    });
    let size = size(input);
    let at = inside(input.name.span());
    let tag_size = assert(
        input,
        at,
        &quote_spanned!(at=> #krate::memory::VariantCheck::<Self>::has_tag::<#tag>()),
        "changes the representation of",
    );
    let checks = variants
        .iter()
        .enumerate()
        .map(|(index, variant)| of_variant(input, tag, variants, variant, &offsets_of(index)));
    quote! {
        let mut #layout = #new;
        #(#offsets)*
        #size
        #tag_size
        #(#checks)*
    }
}

fn of_variant(
    input: &Input,
    tag: &TokenStream,
    variants: &[Variant],
    variant: &Variant,
    offsets: &Ident,
) -> TokenStream {
    let krate = &input.krate;
    let Variant { name, fields, .. } = variant;
    let discriminant = tag::discriminant(&quote!(Self), variants, variant);
    let [check, real_value] = ["check", "value"].map(local);
    let members = fields.iter().map(|field| &field.member);
    let values = Vec::from_iter((0..fields.len()).map(|index| local(&format!("field{index}"))));
    let asserts = fields
        .iter()
        .zip(&values)
        .enumerate()
        .map(|(index, (field, value))| {
            assert(
                input,
                inside(name.span()),
                &quote!(unsafe { #check.offset(#value) } == #offsets[#index]),
                &format!("moves field `{}` of", field.path),
            )
        });
    let other = assert(
        input,
        inside(name.span()),
        &quote!(false),
        &format!("changes the discriminant of variant `{name}` of"),
    );
    let real = quote_spanned! {inside(name.span())=>
        let #check = #krate::memory::VariantCheck::<Self>::new(#discriminant as #tag);
        let #real_value = unsafe { #check.value() };
    };
    quote! {
        #real
        match *#real_value {
            Self::#name { #(#members: ref #values),* } => { #(#asserts)* }
            #[allow(unreachable_patterns)]
            _ => { #other }
        }
    }
}

/// Generates an empty layout with the alignment that the type's attributes ask for.
fn new_layout(input: &Input) -> TokenStream {
    let krate = &input.krate;
    let aligns = &input.aligns;
    quote!(#krate::memory::FieldLayout::new(&[#(#aligns),*]))
}

fn size(input: &Input) -> TokenStream {
    let layout = local("layout");
    assert(
        input,
        inside(input.name.span()),
        &quote!(#layout.is_that_of::<Self>()),
        "changes the size or the alignment of",
    )
}

/// Generates an assertion with a location in the user's source. `change` completes "a macro below
/// the derive ... `Name`".
fn assert(input: &Input, at: Span, condition: &TokenStream, change: &str) -> TokenStream {
    let derive = format!("`#[derive({})]`", input.derive.trait_name());
    let name = &input.name;
    let message =
        format!("a macro below {derive} {change} `{name}`: write the macro above {derive}");
    quote_spanned!(at=> ::core::assert!(#condition, #message);)
}
