//! The binary: see the library of the same name.

#![deny(unsafe_code)]

use prefork::listener::Listener;
use prefork::options::Options;
use prefork::shared_state::SharedState;
use prefork::{demo, supervisor};
use std::error::Error;
use std::io::{Write, stdout};
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = Options::from_command_line();
    let outcome = match options.demo {
        true => demo::run(&options),
        false => serve(&options).map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("prefork: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    let state = SharedState::place(options.map.as_deref())?;
    // Handle signals before the process id is printed and before a client can connect.
    let signals = supervisor::prepare(state, options)?;
    let listener = Listener::bind(options.listen)?;
    // Standard output may be closed: ignore the error.
    let _ = writeln!(
        stdout(),
        "prefork: {} workers listen on http://{}/ (supervisor: process {})",
        options.workers,
        listener.address(),
        std::process::id()
    );
    supervisor::run(state, &listener, options, &signals)
}
