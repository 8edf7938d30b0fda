//! The fields of a struct or of a variant: what each must be, and what is said where it is not.

use crate::advice::{self, Advice};
use crate::names::{Derive, unraw};
use crate::text::text;
use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::{ToTokens, format_ident};
use syn::{Error, Fields, Generics, Member, Type};

pub(crate) struct Field {
    pub(crate) member: Member,
    /// What stands for it in a field path: `name`, or `Variant.name`.
    pub(crate) path: String,
    pub(crate) ty: Type,
    pub(crate) check: Check,
}

/// How it is checked that a field's type is what the derive asks for.
pub(crate) enum Check {
    /// By the trait alone: the type is one that is allowed in any case.
    Trait,
    /// By a trait of its own, whose error names the field.
    Named(Named),
    /// By a bound on the impl: whether the type is allowed depends on the type's parameters. Where its name says that
    /// no parameters can make it so, that is told already where the type is defined.
    Bound(Option<Named>),
    /// An error was already reported for it.
    Rejected,
}

/// A trait that everything allowed implements, and the words of the compiler's error for a type that does not.
pub(crate) struct Named {
    pub(crate) name: Ident,
    pub(crate) message: String,
    pub(crate) label: String,
}

/// Takes the fields of one type, and collects the errors in them.
pub(crate) struct FieldReader<'i> {
    pub(crate) derive: Derive,
    pub(crate) generics: &'i Generics,
    pub(crate) errors: &'i mut Vec<Error>,
    /// How many fields were read. It tells their traits apart.
    pub(crate) count: usize,
    /// Whether the type lacks what the traits are built on (`Sized`, `Send`, `Sync`), so that an impl would only repeat
    /// in the compiler's words what was said already.
    pub(crate) is_hopeless: bool,
}

impl FieldReader<'_> {
    /// The fields of `owner`, which is a struct, or a variant in whose field paths a `prefix` stands.
    pub(crate) fn read(&mut self, fields: &Fields, prefix: &str, owner: &str) -> Vec<Field> {
        let members = fields.members();
        fields
            .iter()
            .zip(members)
            .map(|(field, member)| self.read_one(field, member, prefix, owner))
            .collect()
    }

    fn read_one(&mut self, field: &syn::Field, member: Member, prefix: &str, owner: &str) -> Field {
        let name = match &member {
            Member::Named(name) => unraw(name),
            Member::Unnamed(index) => index.index.to_string(),
        };
        let check = self.check(
            &field.ty,
            &format!("field `{name}: {}` of `{owner}`", text(&field.ty)),
        );
        self.count += 1;
        Field {
            member,
            path: format!("{prefix}{name}"),
            ty: field.ty.clone(),
            check,
        }
    }

    /// Decides how the type of `field` is checked. What can be refused by its syntax alone is refused here.
    fn check(&mut self, ty: &Type, field: &str) -> Check {
        let named = |advice: Advice| Named {
            name: format_ident!("{}Field{}", self.derive.trait_name(), self.count),
            message: format!("{field} {}", advice.problem),
            label: advice.instead,
        };
        match advice::known(ty, self.derive) {
            Some(Advice {
                certain: true,
                problem,
                instead,
            }) => {
                self.errors.push(Error::new_spanned(
                    ty,
                    format!("{field} {problem}: {instead}"),
                ));
                self.is_hopeless |=
                    matches!(ty, Type::Ptr(_) | Type::TraitObject(_) | Type::Slice(_));
                Check::Rejected
            }
            known if depends(ty.to_token_stream(), self.generics) => Check::Bound(known.map(named)),
            Some(known) => Check::Named(named(known)),
            None if advice::is_plain(ty) => Check::Trait,
            None => Check::Named(named(advice::unknown(ty, self.derive))),
        }
    }
}

impl Field {
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.check, Check::Rejected)
    }

    /// The trait whose error names this field, if it has one.
    pub(crate) fn named(&self) -> Option<&Named> {
        match &self.check {
            Check::Named(named) | Check::Bound(Some(named)) => Some(named),
            Check::Trait | Check::Bound(None) | Check::Rejected => None,
        }
    }
}

/// Whether any type or const parameter is named in a type.
fn depends(ty: TokenStream, generics: &Generics) -> bool {
    let is_parameter = |name: &Ident| {
        let mut types = generics.type_params().map(|parameter| &parameter.ident);
        let mut consts = generics.const_params().map(|parameter| &parameter.ident);
        types.any(|parameter| parameter == name) || consts.any(|parameter| parameter == name)
    };
    ty.into_iter().any(|token| match token {
        TokenTree::Ident(name) => is_parameter(&name),
        TokenTree::Group(group) => depends(group.stream(), generics),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}
