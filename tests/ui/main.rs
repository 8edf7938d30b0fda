//! Checks what does not compile, and the error messages. `TRYBUILD=overwrite cargo test -p
//! pshared-ui` rewrites the expected messages.

#[test]
fn what_cannot_be_shared_is_refused_in_words_that_help() {
    let tests = trybuild::TestCases::new();
    tests.pass("cases/pass/*.rs");
    tests.compile_fail("cases/*.rs");
}
