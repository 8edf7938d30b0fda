//! Prints the messages that the example `writer` writes into a file's map. It sleeps until a
//! message is written.
//!
//! ```text
//! cargo run --example reader                    # in one terminal, or in several
//! cargo run --example writer                    # in another: type lines
//! ```

#![deny(unsafe_code)]

mod message;

use clap::Parser;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// Prints the messages that the program `writer` writes into a file's map, starting with the
/// latest.
///
/// The reader sleeps until a message is written. It may be started before the first writer. A
/// reader that is slower than the writer skips messages, but never the latest one.
#[derive(Debug, Parser)]
#[command(name = "reader", version)]
struct Options {
    /// The file; created if it does not exist
    #[arg(default_value_os_t = message::default_file())]
    file: PathBuf,

    /// Print this many messages, then exit
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    messages: u64,
}

fn main() -> ExitCode {
    match read(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reader: {error}");
            ExitCode::FAILURE
        }
    }
}

fn read(options: &Options) -> Result<(), Box<dyn Error>> {
    let channel = message::open(&options.file)?;
    let mut seen = 0;
    let mut last = 0;
    let mut left = options.messages;
    while left > 0 {
        seen = channel.updated.wait_past(seen);
        let message = *channel.latest()?;
        // The event may belong to a message that was already printed: a writer writes the message
        // before it sets the event.
        if message.number > last {
            last = message.number;
            left -= 1;
            println!("{last}: {}", message.text);
        }
    }
    Ok(())
}
