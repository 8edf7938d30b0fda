//! Checks whether a type's representation fixes its layout.

use crate::names::Derive;
use proc_macro2::{Group, Span, TokenStream};
use syn::{Attribute, Data, DeriveInput, Error, Ident, Meta, Path};

/// The integers that may be an enum's representation. `u128` and `i128` are left out, because an
/// enum with them has no layout that C defines.
const INTEGERS: [&str; 10] = [
    "u8", "u16", "u32", "u64", "usize", "i8", "i16", "i32", "i64", "isize",
];

/// The `repr` attributes of a type.
#[derive(Default)]
struct Reprs {
    c: Option<Ident>,
    transparent: Option<Ident>,
    packed: Option<Ident>,
    integer: Option<Ident>,
    aligns: Vec<TokenStream>,
    other: Option<Path>,
}

impl Reprs {
    fn parse(attributes: &[Attribute]) -> syn::Result<Self> {
        let mut reprs = Reprs::default();
        for attribute in attributes {
            let Meta::List(_) = &attribute.meta else {
                continue;
            };
            if !attribute.path().is_ident("repr") {
                continue;
            }
            attribute.parse_nested_meta(|meta| {
                let arguments = if meta.input.peek(syn::token::Paren) {
                    meta.input.parse::<Group>()?.stream()
                } else {
                    TokenStream::new()
                };
                match meta.path.get_ident() {
                    Some(name) if name == "C" => reprs.c = Some(name.clone()),
                    Some(name) if name == "transparent" => reprs.transparent = Some(name.clone()),
                    Some(name) if name == "packed" => reprs.packed = Some(name.clone()),
                    Some(name) if name == "align" => reprs.aligns.push(arguments),
                    Some(name) if INTEGERS.iter().any(|integer| name == integer) => {
                        reprs.integer = Some(name.clone());
                    }
                    _ => reprs.other = Some(meta.path),
                }
                Ok(())
            })?;
        }
        Ok(reprs)
    }
}

/// What the rest of the derive needs to know of a type's representation.
pub(crate) struct Repr {
    /// The integer type of an enum's discriminant.
    pub(crate) tag: Ident,
    pub(crate) packed: bool,
    /// Whether the representation is that of the only field that has bytes.
    pub(crate) transparent: bool,
    /// The alignments in bytes that the type asks for.
    pub(crate) aligns: Vec<TokenStream>,
}

/// Checks that the layout is fixed. Returns the representation even after an error, so that the
/// rest can be checked too.
pub(crate) fn check(input: &DeriveInput, derive: Derive, errors: &mut Vec<Error>) -> Repr {
    let reprs = Reprs::parse(&input.attrs).unwrap_or_else(|error| {
        errors.push(error);
        Reprs::default()
    });
    let name = &input.ident;
    let trait_name = derive.trait_name();
    if let Some(packed) = &reprs.packed {
        errors.push(Error::new_spanned(
            packed,
            format!(
                "`{name}` is packed: a reference to a field of it may be unaligned, and atomics and locks need their \
                 alignment; write `#[repr(C)]` and order the fields by size"
            ),
        ));
    } else if let Some(other) = &reprs.other {
        errors.push(Error::new_spanned(
            other,
            format!(
                "`{name}` has a representation that `#[derive({trait_name})]` does not know: write {}",
                match input.data {
                    Data::Enum(_) => "an integer of at most 64 bits, for example `#[repr(u8)]`",
                    _ => "`#[repr(C)]`",
                }
            ),
        ));
    } else if let Some(message) = missing(input, &reprs) {
        let at = reprs
            .c
            .as_ref()
            .or(reprs.transparent.as_ref())
            .unwrap_or(name);
        errors.push(Error::new_spanned(at, message));
    }
    Repr {
        packed: reprs.packed.is_some(),
        transparent: reprs.transparent.is_some(),
        aligns: reprs.aligns,
        tag: reprs
            .integer
            .unwrap_or_else(|| Ident::new("isize", Span::mixed_site())),
    }
}

/// Returns what is wrong with a type that has only known representations.
fn missing(input: &DeriveInput, reprs: &Reprs) -> Option<String> {
    let name = &input.ident;
    match &input.data {
        Data::Struct(_) if reprs.c.is_some() || reprs.transparent.is_some() => None,
        Data::Struct(_) => Some(format!(
            "`{name}` has no fixed layout, and two programs may disagree on where its fields lie: write `#[repr(C)]` \
             above `struct {name}`, or `#[repr(transparent)]` if it wraps a single field"
        )),
        Data::Enum(_) if reprs.c.is_some() && reprs.integer.is_some() => Some(format!(
            "`{name}` has a C tag before a C union: write `#[repr({})]` alone, which lays each variant out as a struct \
             that starts with the tag",
            reprs
                .integer
                .as_ref()
                .map(Ident::to_string)
                .unwrap_or_default(),
        )),
        Data::Enum(_) if reprs.c.is_some() => Some(format!(
            "`{name}` has no fixed layout: `#[repr(C)]` leaves the size of an enum's tag to the C compiler of each \
             target; write an integer, for example `#[repr(u8)]`"
        )),
        Data::Enum(_) if reprs.transparent.is_some() => Some(format!(
            "`{name}` has no tag that `#[repr(transparent)]` would fix: write an integer, for example `#[repr(u8)]`"
        )),
        Data::Enum(_) if reprs.integer.is_some() => None,
        Data::Enum(_) => Some(format!(
            "`{name}` has no fixed layout, and two programs may disagree on its tag: write an integer representation \
             above `enum {name}`, for example `#[repr(u8)]`"
        )),
        Data::Union(_) => None,
    }
}
