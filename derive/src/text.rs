//! Formats types as written in source code, for the error messages.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;

/// Returns the type's source text: `SharedMutex<[u8; 4]>`. `TokenStream::to_string` returns
/// `SharedMutex < [u8 ; 4] >`.
pub(crate) fn text(tokens: &impl ToTokens) -> String {
    let mut text = String::new();
    push(tokens.to_token_stream(), &mut text);
    text
}

fn push(tokens: TokenStream, text: &mut String) {
    let mut arrow = false;
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{ ", " }"),
                    Delimiter::None => ("", ""),
                };
                // A space as in `&'static [T]`, but none in `fn(T)`.
                if open == "[" {
                    space(text);
                }
                text.push_str(open);
                push(group.stream(), text);
                text.push_str(close);
            }
            TokenTree::Punct(punct) => {
                match (punct.as_char(), arrow) {
                    ('>', true) => text.push_str("> "),
                    (',', _) => text.push_str(", "),
                    (';', _) => text.push_str("; "),
                    ('+', _) => text.push_str(" + "),
                    ('=', _) => text.push_str(" = "),
                    ('-', _) => text.push_str(" -"),
                    (other, _) => text.push(other),
                }
                arrow = punct.as_char() == '-';
            }
            TokenTree::Ident(_) | TokenTree::Literal(_) => {
                space(text);
                text.push_str(&token.to_string());
            }
        }
    }
}

/// Adds a space between two words: `'static str`, `dyn Trait`, `extern "C" fn`.
fn space(text: &mut String) {
    if text.ends_with(|last: char| last.is_alphanumeric() || last == '_' || last == '"') {
        text.push(' ');
    }
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn types_are_formatted_as_in_the_source() {
        for source in [
            "SharedMutex<[u8; 4]>",
            "&'static mut str",
            "&'static [u64]",
            "*const c_void",
            "*mut [u8; 4]",
            "unsafe extern \"C\" fn(*mut u8)",
            "Box<dyn Fn(u8, &str) -> Option<u8> + Send>",
            "<T as Shape>::Area",
            "std::collections::HashMap<String, Vec<u8>>",
            "[u8; { N + 1 }]",
            "(u8, r#type)",
        ] {
            let ty: syn::Type = syn::parse_str(source).unwrap();
            assert_eq!(text(&ty), source);
        }
    }
}
