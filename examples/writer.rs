//! Writes messages into a file's map, for any number of `reader`s that may have been started before or come later.
//!
//! ```text
//! cargo run --example reader                    # in one terminal, or in several
//! cargo run --example writer                    # in another: type lines
//! cargo run --example writer -- --messages 5
//! ```

#![deny(unsafe_code)]

mod message;

use arrayvec::ArrayString;
use clap::Parser;
use message::{Board, Message};
use std::error::Error;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

/// Writes messages into a file's map: each line of standard input, or so many of its own.
///
/// Readers wake for each. The program `reader` shows them; either may be started first.
#[derive(Debug, Parser)]
#[command(name = "writer", version)]
struct Options {
    /// The file; it is made if it is not there
    #[arg(default_value_os_t = message::default_file())]
    file: PathBuf,

    /// Write so many messages and end, instead of reading lines
    #[arg(long, value_name = "N")]
    messages: Option<u64>,
}

fn main() -> ExitCode {
    match write(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("writer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(options: &Options) -> Result<(), Box<dyn Error>> {
    let board = message::open(&options.file)?;
    if let Some(messages) = options.messages {
        for message in 1..=messages {
            publish(&board, &format!("message {message} of {messages}"))?;
        }
    } else {
        if io::stdin().is_terminal() {
            eprintln!("each line becomes a message; end with Ctrl-D");
        }
        for line in io::stdin().lines() {
            publish(&board, &line?)?;
        }
    }
    Ok(())
}

fn publish(board: &Board, text: &str) -> Result<(), pshared::Error> {
    let mut latest = board.latest()?;
    let number = board.begun.add(1) + 1;
    *latest = Message {
        number,
        text: beginning(text),
    };
    drop(latest);
    board.news.set();
    Ok(())
}

/// As much of the text as there is room for.
fn beginning<const ROOM: usize>(text: &str) -> ArrayString<ROOM> {
    let mut beginning = ArrayString::new();
    // The first character that does not fit ends it.
    let _ = text
        .chars()
        .try_for_each(|character| beginning.try_push(character));
    beginning
}
