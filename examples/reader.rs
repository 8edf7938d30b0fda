//! Shows the messages that `writer`s write into a file's map. It sleeps until there is news.
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

/// Shows the messages that the program `writer` writes into a file's map, the latest one first.
///
/// It wakes when there is news, and may be started before the first writer. A reader that is slower than the writer sees
/// several messages as one, and never misses the last.
#[derive(Debug, Parser)]
#[command(name = "reader", version)]
struct Options {
    /// The file; it is made if it is not there
    #[arg(default_value_os_t = message::default_file())]
    file: PathBuf,

    /// Show so many messages and end
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
    let board = message::open(&options.file)?;
    let mut seen = 0;
    let mut last = 0;
    let mut left = options.messages;
    while left > 0 {
        seen = board.news.wait_past(seen);
        let message = *board.latest()?;
        // The news may be of a message that was shown already: it was there before its news was.
        if message.number > last {
            last = message.number;
            left -= 1;
            println!("{last}: {}", message.text);
        }
    }
    Ok(())
}
