//! Uses a file as memory: writes to a shared map change the file, writes to a private map do not.
//!
//! ```text
//! cargo run --example hello_map
//! cargo run --example hello_map -- hello.txt
//! ```

#![deny(unsafe_code)]

use clap::Parser;
use pshared::{Map, MapOptions};
use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Maps a new file of 20 bytes, writes a greeting into the map, and shows that the file contains
/// it.
#[derive(Debug, Parser)]
#[command(name = "hello_map", version)]
struct Options {
    /// The file; it must not exist yet [default: a temporary file, removed at the end]
    file: Option<PathBuf>,
}

const LENGTH: usize = 20;
const GREETING: &str = "hello mmap";

fn main() -> ExitCode {
    let outcome = match Options::parse().file {
        Some(path) => hello(&path),
        None => tempfile::tempdir()
            .map_err(Into::into)
            .and_then(|directory| hello(&directory.path().join("hello.txt"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hello_map: {error}");
            ExitCode::FAILURE
        }
    }
}

fn hello(path: &Path) -> Result<(), Box<dyn Error>> {
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    // A new file is empty, but a file must be at least as long as its map: `reserve` extends it.
    let map = mapped(&file, MapOptions::shared().len(LENGTH).reserve())?;
    // The map stays valid after the file is closed.
    drop(file);

    map.write_at(0, GREETING.as_bytes())?;
    println!("in the map:              {}", text(&bytes_of(&map)?));
    // Other processes see the bytes at once. `flush` waits until they are on the disk.
    map.flush()?;
    drop(map);
    println!("in the file, afterwards: {}", text(&fs::read(path)?));

    // A private map needs only read access to the file. Writes to it do not change the file.
    let private = mapped(&File::open(path)?, MapOptions::private())?;
    private.write_at(0, b"HELLO")?;
    println!("in a private map:        {}", text(&bytes_of(&private)?));
    drop(private);
    println!("in the file, still:      {}", text(&fs::read(path)?));
    Ok(())
}

fn mapped(file: &File, options: MapOptions) -> Result<Map, pshared::Error> {
    #[expect(
        unsafe_code,
        reason = "the caller must ensure that the file is not changed by other means"
    )]
    // SAFETY: this program created the file, and no other program was given its name to shorten it.
    unsafe {
        Map::file(file, options)
    }
}

fn bytes_of(map: &Map) -> Result<[u8; LENGTH], pshared::Error> {
    let mut bytes = [0; LENGTH];
    map.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// Returns the text before the trailing zero bytes.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim_end_matches('\0')
        .to_string()
}
