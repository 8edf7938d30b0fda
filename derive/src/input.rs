//! The type that a trait is derived for, checked.

use crate::fields::{Field, FieldReader};
use crate::names::{Derive, unraw};
use crate::repr::{self, Repr};
use crate::text::text;
use proc_macro2::{Span, TokenStream};
use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DeriveInput, Error, Expr, Fields, GenericParam, Generics, Ident, LitStr, Meta,
    Path,
};

/// A type for which an impl can be generated.
pub(crate) struct Input {
    pub(crate) derive: Derive,
    /// The path of `pshared`.
    pub(crate) krate: Path,
    pub(crate) name: Ident,
    pub(crate) generics: Generics,
    pub(crate) body: Body,
    /// Whether the type is packed. An error was already reported for it.
    pub(crate) packed: bool,
    /// Whether the type is `repr(transparent)`.
    pub(crate) transparent: bool,
    /// The alignments in bytes that the type asks for.
    pub(crate) aligns: Vec<TokenStream>,
    /// The location of `zeroed`, if the type says that any code may create a value of zero bytes.
    pub(crate) zeroed: Option<Span>,
    /// Whether no error was reported.
    pub(crate) is_correct: bool,
    /// The lints that the type allows. They also apply to the generated code, which repeats the
    /// field types.
    pub(crate) allowed: Vec<TokenStream>,
}

pub(crate) enum Body {
    Struct(Vec<Field>),
    Enum { tag: Ident, variants: Vec<Variant> },
}

pub(crate) struct Variant {
    pub(crate) name: Ident,
    pub(crate) discriminant: Option<Expr>,
    pub(crate) is_unit: bool,
    pub(crate) fields: Vec<Field>,
}

impl Input {
    /// Checks `input`, and collects every mistake in it. Returns `None` if no impl can be
    /// generated.
    pub(crate) fn new(input: DeriveInput, derive: Derive, errors: &mut Vec<Error>) -> Option<Self> {
        let name = &input.ident;
        let trait_name = derive.trait_name();
        if let Data::Union(union) = &input.data {
            errors.push(Error::new_spanned(
                union.union_token,
                format!(
                    "`{name}` is a union: nothing tells which of its fields another process has written; use an enum \
                     with an integer representation, for example `#[repr(u8)]`"
                ),
            ));
            return None;
        }
        let lifetimes = errors.len();
        for parameter in input.generics.lifetimes() {
            errors.push(Error::new_spanned(
                parameter,
                format!(
                    "`{name}` has a lifetime parameter, so it borrows from one process's memory: `{trait_name}` types \
                     are `'static`; hold the values themselves"
                ),
            ));
        }
        let without_lifetimes = errors.len() == lifetimes;

        let Repr {
            tag,
            packed,
            transparent,
            aligns,
        } = repr::check(&input, derive, errors);
        let Keys { krate, zeroed } = Keys::parse(&input.attrs, errors);
        let owner = name.to_string();
        let mut reader = FieldReader {
            derive,
            generics: &input.generics,
            errors,
            count: 0,
            suppresses_impl: !without_lifetimes,
        };
        let body = match &input.data {
            Data::Enum(data) => Body::Enum {
                tag,
                variants: Vec::from_iter(data.variants.iter().map(|variant| {
                    let name = unraw(&variant.ident);
                    Variant {
                        name: variant.ident.clone(),
                        discriminant: variant
                            .discriminant
                            .as_ref()
                            .map(|(_, value)| value.clone()),
                        is_unit: matches!(variant.fields, Fields::Unit),
                        fields: reader.read(
                            &variant.fields,
                            &format!("{name}."),
                            &format!("{owner}::{name}"),
                        ),
                    }
                })),
            },
            Data::Struct(data) => Body::Struct(reader.read(&data.fields, "", &owner)),
            Data::Union(_) => return None,
        };
        let suppresses_impl = reader.suppresses_impl;
        (!suppresses_impl).then(|| Input {
            derive,
            krate,
            name: input.ident,
            generics: generics(input.generics),
            body,
            packed,
            transparent,
            aligns,
            zeroed,
            is_correct: errors.is_empty(),
            allowed: allowed(&input.attrs),
        })
    }
}

impl Input {
    /// The fields of the struct, or of each variant.
    pub(crate) fn bodies(&self) -> impl Iterator<Item = &[Field]> {
        let (fields, variants): (&[Field], &[Variant]) = match &self.body {
            Body::Struct(fields) => (fields, &[]),
            Body::Enum { variants, .. } => (&[], variants),
        };
        std::iter::once(fields).chain(variants.iter().map(|variant| variant.fields.as_slice()))
    }

    /// Returns whether the type has a type parameter or a const parameter.
    pub(crate) fn is_generic(&self) -> bool {
        !self.generics.params.is_empty()
    }

    pub(crate) fn fields(&self) -> impl Iterator<Item = &Field> {
        self.bodies().flatten()
    }
}

/// What `#[pshared(...)]` says.
struct Keys {
    krate: Path,
    zeroed: Option<Span>,
}

impl Keys {
    fn parse(attributes: &[Attribute], errors: &mut Vec<Error>) -> Self {
        let mut krate = None;
        let mut zeroed = None;
        for attribute in attributes
            .iter()
            .filter(|attribute| attribute.path().is_ident("pshared"))
        {
            let parsed = attribute.parse_nested_meta(|meta| {
                let is_repeated = if meta.path.is_ident("crate") {
                    let path: LitStr = meta.value()?.parse()?;
                    krate.replace(path.parse::<Path>()?).is_some()
                } else if meta.path.is_ident("zeroed") {
                    zeroed.replace(meta.path.span()).is_some()
                } else {
                    return Err(meta.error(
                        "`#[pshared(...)]` has no such key: the keys are `crate = \"path::of::pshared\"` and `zeroed`",
                    ));
                };
                if is_repeated {
                    let key = text(&meta.path);
                    return Err(meta.error(format!("`{key}` is given twice: keep one")));
                }
                Ok(())
            });
            errors.extend(parsed.err());
        }
        Keys {
            krate: krate.unwrap_or_else(|| syn::parse_quote!(::pshared)),
            zeroed,
        }
    }
}

/// Returns the generics of the impl: those of the type, and the bounds that the traits require of
/// every type parameter.
fn generics(mut generics: Generics) -> Generics {
    for parameter in generics.params.clone() {
        if let GenericParam::Type(parameter) = parameter {
            let name = parameter.ident;
            generics
                .make_where_clause()
                .predicates
                .push(syn::parse_quote!(#name: 'static));
        }
    }
    generics
}

/// Returns the lints that the type allows in its own source, for example by `#[allow(deprecated)]`.
/// An `expect` is fulfilled there, so here it becomes an `allow`.
fn allowed(attributes: &[Attribute]) -> Vec<TokenStream> {
    let lints = |attribute: &Attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("allow") || list.path.is_ident("expect") => {
            Some(list.tokens.clone())
        }
        _ => None,
    };
    attributes.iter().filter_map(lints).collect()
}
