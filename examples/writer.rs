//! Writes messages into a file's map for any number of processes of the example `reader`. Readers
//! may start before or after the writer.
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
use message::{Channel, Message};
use std::error::Error;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

/// Writes messages into a file's map: the lines of standard input, or generated messages.
///
/// Each message wakes the readers. The program `reader` prints the messages. Either program may be
/// started first.
#[derive(Debug, Parser)]
#[command(name = "writer", version)]
struct Options {
    /// The file; created if it does not exist
    #[arg(default_value_os_t = message::default_file())]
    file: PathBuf,

    /// Write this many generated messages, then exit, instead of reading lines
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
    let channel = message::open(&options.file)?;
    if let Some(messages) = options.messages {
        for message in 1..=messages {
            publish(&channel, &format!("message {message} of {messages}"))?;
        }
    } else {
        if io::stdin().is_terminal() {
            eprintln!("each line is sent as a message; press Ctrl-D to exit");
        }
        for line in io::stdin().lines() {
            publish(&channel, &line?)?;
        }
    }
    Ok(())
}

fn publish(channel: &Channel, text: &str) -> Result<(), pshared::Error> {
    let mut latest = channel.latest()?;
    let number = channel.begun.add(1) + 1;
    *latest = Message {
        number,
        text: beginning(text),
    };
    drop(latest);
    channel.updated.set();
    Ok(())
}

/// Returns as many leading characters of the text as fit.
fn beginning<const CAPACITY: usize>(text: &str) -> ArrayString<CAPACITY> {
    let mut beginning = ArrayString::new();
    // An error ends the loop at the first character that does not fit.
    let _ = text
        .chars()
        .try_for_each(|character| beginning.try_push(character));
    beginning
}
