//! The log on standard error.

use std::fmt;
use std::io::{self, Write};

/// Writes a line to standard error and ignores errors. `eprintln!` panics if the reader is gone or
/// the disk is full, and this must not end the server.
pub fn log_line(what: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "prefork: {what}");
}
