//! What does not compile, and in which words. `TRYBUILD=overwrite cargo test --test it ui` writes the words anew.

#[test]
fn what_cannot_be_shared_is_refused_in_words_that_help() {
    let tests = trybuild::TestCases::new();
    tests.pass("tests/ui/pass/*.rs");
    tests.compile_fail("tests/ui/*.rs");
}
