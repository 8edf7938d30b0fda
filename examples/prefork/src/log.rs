//! What is told to whoever reads along.

use std::fmt;
use std::io::{self, Write};

/// A line to stderr. Its reader may be gone, and its disk full: that must not end the server, as it would by `eprintln!`, which panics.
pub fn log_line(what: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "prefork: {what}");
}
