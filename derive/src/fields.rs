//! The fields of a struct or of a variant: the trait that each needs, and the error if it is
//! missing.

use crate::advice::{self, Advice};
use crate::names::{Derive, unraw};
use crate::text::text;
use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::{ToTokens, format_ident};
use syn::{Error, Fields, Generics, Member, Type};

pub(crate) struct Field {
    pub(crate) member: Member,
    /// The field's name in a field path: `name`, or `Variant.name`.
    pub(crate) path: String,
    pub(crate) ty: Type,
    pub(crate) check: Check,
}

/// How the derive checks that a field's type has the required trait.
pub(crate) enum Check {
    /// By the trait alone, because the type is always allowed.
    Trait,
    /// By a trait of its own. The error for that trait names the field.
    Named(Named),
    /// By a bound on the impl, because the type's parameters decide whether the type is allowed. If
    /// its name shows that no parameters can make it allowed, the error is reported at the
    /// definition of the type.
    Bound(Option<Named>),
    /// An error was already reported for it.
    Rejected,
}

/// A trait that every allowed type implements, and the text of the compiler's error for a type that
/// does not.
pub(crate) struct Named {
    pub(crate) name: Ident,
    pub(crate) message: String,
    pub(crate) label: String,
}

/// Reads the fields of one type, and collects the errors in them.
pub(crate) struct FieldReader<'i> {
    pub(crate) derive: Derive,
    pub(crate) generics: &'i Generics,
    pub(crate) errors: &'i mut Vec<Error>,
    /// The number of fields that were read. It distinguishes their traits.
    pub(crate) count: usize,
    /// Whether the type lacks what the traits are built on (`Sized`, `Send`, `Sync`). An impl would
    /// then only make the compiler repeat the reported error.
    pub(crate) suppresses_impl: bool,
}

impl FieldReader<'_> {
    /// Reads the fields of `owner`, a struct or a variant. The field paths begin with `prefix`,
    /// which is empty for a struct.
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

    /// Decides how the type of `field` is checked. Rejects at once what syntax alone shows to be
    /// invalid.
    fn check(&mut self, ty: &Type, field: &str) -> Check {
        let named = |advice: Advice| Named {
            name: format_ident!("{}Field{}", self.derive.trait_name(), self.count),
            message: format!("{field} {}", advice.problem),
            label: advice.instead,
        };
        if has_macro(ty.to_token_stream()) {
            self.errors.push(Error::new_spanned(
                ty,
                format!(
                    "{field} has a type that a macro makes, which may be another type each time the macro is expanded: \
                     write the type itself, or a type alias (`type Name = ...;`)"
                ),
            ));
            return Check::Rejected;
        }
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
                self.suppresses_impl |=
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

    /// Returns the trait that names this field in its error, if there is one.
    pub(crate) fn named(&self) -> Option<&Named> {
        match &self.check {
            Check::Named(named) | Check::Bound(Some(named)) => Some(named),
            Check::Trait | Check::Bound(None) | Check::Rejected => None,
        }
    }
}

/// Returns whether a type contains a macro invocation, for example in the length of an array. The
/// generated code repeats the type, and each repetition expands the macro again.
fn has_macro(ty: TokenStream) -> bool {
    let mut tokens = ty.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let is_invoked = |next: Option<&TokenTree>| matches!(next, Some(TokenTree::Punct(punct)) if punct.as_char() == '!');
        let has_macro = match token {
            TokenTree::Ident(_) => is_invoked(tokens.peek()),
            TokenTree::Group(group) => has_macro(group.stream()),
            TokenTree::Punct(_) | TokenTree::Literal(_) => false,
        };
        if has_macro {
            return true;
        }
    }
    false
}

/// Returns whether a type names any type or const parameter.
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
