//! Runs the examples as programs. The output of each must show what guide/tour.md says.

mod counter;
mod files;
mod messages;
mod small;

use crate::harness::Test;
use crate::program::example;
use std::process::Stdio;

pub fn tests() -> Vec<Test> {
    [
        counter::tests(),
        small::tests(),
        files::tests(),
        messages::tests(),
    ]
    .concat()
}

/// The outcome of a program's run.
struct Outcome {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Outcome {
    #[track_caller]
    fn of(name: &str, arguments: &[&str]) -> Self {
        let output = example(name)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("the example runs");
        Outcome {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// Returns the standard output of a program that succeeds and writes nothing to standard error.
    #[track_caller]
    fn success(name: &str, arguments: &[&str]) -> String {
        let outcome = Self::of(name, arguments);
        assert_eq!(outcome.err, "", "{name} {arguments:?}");
        assert_eq!(
            outcome.code,
            Some(0),
            "{name} {arguments:?}: {}",
            outcome.out
        );
        outcome.out
    }

    /// Returns the standard error of a program that fails with exit code `code`.
    #[track_caller]
    fn failure(name: &str, arguments: &[&str], code: i32) -> String {
        let outcome = Self::of(name, arguments);
        assert_eq!(
            outcome.code,
            Some(code),
            "{name} {arguments:?}: {}{}",
            outcome.out,
            outcome.err
        );
        outcome.err
    }
}
