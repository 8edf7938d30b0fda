//! The program: see the library of the same name.

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
    // Before anybody is told whom to signal, or can connect.
    let signals = supervisor::prepare(state, options)?;
    let listener = Listener::bind(options.listen)?;
    // Nobody has to read it.
    let _ = writeln!(
        stdout(),
        "prefork: {} workers answer at http://{}/ (the supervisor is process {})",
        options.workers,
        listener.address(),
        std::process::id()
    );
    supervisor::run(state, &listener, options, &signals)
}
