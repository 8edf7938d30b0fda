//! Names: of the derived trait and of fields, and the spans of errors about them.

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

    /// Returns the trait's name as a token with the derive's hygiene.
    pub(crate) fn trait_ident(self) -> Ident {
        Ident::new(self.trait_name(), Span::mixed_site())
    }
}

/// Returns the name without `r#`: `r#type` becomes `type`.
pub(crate) fn unraw(name: &Ident) -> String {
    let name = name.to_string();
    name.strip_prefix("r#").unwrap_or(&name).to_string()
}

/// Returns the name of a generated variable, which the user's source cannot mean.
pub(crate) fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

/// Returns a span with the user's location and the derive's hygiene. Errors point at the user's
/// source, and lints on the user's style do not fire.
pub(crate) fn inside(span: Span) -> Span {
    span.resolved_at(Span::mixed_site())
}
