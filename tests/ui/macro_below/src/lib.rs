//! Attribute macros for programs that derive `ShmSafe` and `ShmData`. An attribute macro below a
//! derive expands after it, so the derive sees the item before the macro changes it.

use proc_macro::{Group, TokenStream, TokenTree};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Returns the item as it is.
#[proc_macro_attribute]
pub fn unchanged(_: TokenStream, item: TokenStream) -> TokenStream {
    item
}

/// Replaces one sequence of tokens in the item by another: `#[replace(u64 => &'static u64)]`.
///
/// # Panics
///
/// Panics if the argument has no `=>`, or nothing in front of it.
#[proc_macro_attribute]
pub fn replace(argument: TokenStream, item: TokenStream) -> TokenStream {
    let argument = Vec::from_iter(argument);
    let arrow = argument
        .windows(2)
        .position(|pair| matches!(pair, [a, b] if is_punct(a, '=') && is_punct(b, '>')))
        .expect("the argument is `from => to`");
    let (from, to) = (&argument[..arrow], &argument[arrow + 2..]);
    assert!(!from.is_empty(), "the argument is `from => to`");
    replace_in(item, from, to)
}

fn is_punct(token: &TokenTree, char: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == char)
}

fn replace_in(tokens: TokenStream, from: &[TokenTree], to: &[TokenTree]) -> TokenStream {
    let tokens = Vec::from_iter(tokens);
    let mut rest = tokens.as_slice();
    let mut replaced = TokenStream::new();
    while let [first, others @ ..] = rest {
        if rest.len() >= from.len() && rest.iter().zip(from).all(|(a, b)| is_same(a, b)) {
            replaced.extend(to.iter().cloned());
            rest = &rest[from.len()..];
        } else {
            replaced.extend([match first {
                TokenTree::Group(group) => {
                    let inner = replace_in(group.stream(), from, to);
                    let mut new = Group::new(group.delimiter(), inner);
                    new.set_span(group.span());
                    TokenTree::Group(new)
                }
                other => other.clone(),
            }]);
            rest = others;
        }
    }
    replaced
}

fn is_same(a: &TokenTree, b: &TokenTree) -> bool {
    a.to_string() == b.to_string()
}

/// Expands to `&'static u64` for the first and the fourth time, and to `u64` otherwise. A type that
/// is written with this macro is another one each time.
#[proc_macro]
pub fn now_and_then(_: TokenStream) -> TokenStream {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let ty = match COUNT.fetch_add(1, Ordering::Relaxed) {
        0 | 3 => "&'static u64",
        _ => "u64",
    };
    ty.parse().expect("it is a type")
}
