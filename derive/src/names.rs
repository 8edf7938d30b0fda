//! Names: of the derived trait, of fields, and where an error about one points.

use proc_macro2::{Ident, Span};

/// Which of the two traits is derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Derive {
    ShmSafe,
    ShmData,
}

impl Derive {
    pub(crate) fn trait_name(self) -> &'static str {
        match self {
            Derive::ShmSafe => "ShmSafe",
            Derive::ShmData => "ShmData",
        }
    }

    /// The trait's name as a token of the derive's own.
    pub(crate) fn trait_ident(self) -> Ident {
        Ident::new(self.trait_name(), Span::mixed_site())
    }
}

/// `r#type` is called `type`.
pub(crate) fn unraw(name: &Ident) -> String {
    let name = name.to_string();
    name.strip_prefix("r#").unwrap_or(&name).to_string()
}

/// A span whose place is the user's and whose code is the derive's: an error points at the user's source, and lints on
/// the user's style keep silent.
pub(crate) fn inside(span: Span) -> Span {
    span.resolved_at(Span::mixed_site())
}
