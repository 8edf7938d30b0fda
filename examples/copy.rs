//! Copies a file through two maps and compares the copy with the original.
//!
//! ```text
//! cargo run --release --example copy -- Cargo.lock /tmp/Cargo.lock
//! ```

#![deny(unsafe_code)]

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use pshared::memory::Advice;
use pshared::{Map, MapOptions};
use std::error::Error;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tempfile::NamedTempFile;

/// Copies a file through two maps, one for each file, and compares the copy with the original byte
/// by byte.
///
/// The copy appears complete or not at all. No process may shorten the original during the copy.
#[derive(Debug, Parser)]
#[command(name = "copy", version)]
struct Options {
    /// The file to copy
    from: PathBuf,

    /// The copy; it must not exist yet
    to: PathBuf,

    /// Replace the copy if it exists
    #[arg(long)]
    force: bool,
}

/// The number of bytes copied from map to map at a time.
const STEP: usize = 1 << 20;

/// The file length in bytes from which a progress bar is shown.
const LONG: u64 = 64 << 20;

fn main() -> ExitCode {
    match copy(&Options::parse()) {
        Ok(length) => {
            println!("copied and compared {length} bytes");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("copy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn copy(options: &Options) -> Result<u64, Box<dyn Error>> {
    let (from, to) = (&options.from, &options.to);
    let with_path = |error: std::io::Error| format!("{}: {error}", from.display());
    let original = from.metadata().map_err(with_path)?;
    if !original.is_file() {
        return Err(format!(
            "{} is not a regular file, and only regular files can be mapped",
            from.display()
        )
        .into());
    }
    match to.symlink_metadata() {
        Ok(there) if (there.dev(), there.ino()) == (original.dev(), original.ino()) => {
            return Err(
                format!("{} and {} are the same file", from.display(), to.display()).into(),
            );
        }
        Ok(_) if !options.force => {
            return Err(format!("{} exists; use --force to replace it", to.display()).into());
        }
        _ => {}
    }

    let mut source = File::open(from).map_err(with_path)?;
    // The copy is written to a temporary file in the same directory and renamed at the end. So no
    // process finds an incomplete copy, and a replaced file is not shortened while another process
    // maps it.
    let directory = to
        .parent()
        .filter(|parent| *parent != Path::new(""))
        .unwrap_or(Path::new("."));
    let mut target = NamedTempFile::new_in(directory)?;
    let length = original.len();
    // An empty map is not possible. An empty file needs no bytes copied.
    if length > 0 {
        copy_bytes(&source, target.as_file(), length)?;
    }
    if !same_bytes(&mut source, target.as_file_mut())? {
        return Err(format!("{} changed during the copy", from.display()).into());
    }
    target.as_file().set_permissions(original.permissions())?;
    match options.force {
        true => target.persist(to),
        false => target.persist_noclobber(to),
    }
    .map_err(|error| format!("{}: {}", to.display(), error.error))?;
    Ok(length)
}

/// Maps both files and copies from one map to the other.
fn copy_bytes(source: &File, target: &File, length: u64) -> Result<(), pshared::Error> {
    let length = length as usize;
    let from = MapOptions::shared()
        .read_only()
        .len(length)
        .advice(Advice::Sequential);
    // A new file is empty: `reserve` extends it. It also allocates the disk blocks, so a full disk
    // is an error here and not a SIGBUS at a later write.
    let to = MapOptions::shared().len(length).reserve();
    #[expect(
        unsafe_code,
        reason = "the caller must ensure that the file is not changed by other means"
    )]
    // SAFETY: no other process knows the target. The user must ensure that no process shortens the
    // source, as `--help` says.
    let (from, to) = unsafe { (Map::file(source, from)?, Map::file(target, to)?) };

    let progress = progress_bar(length as u64);
    let mut bytes = vec![0; STEP.min(length)];
    for start in (0..length).step_by(STEP) {
        let bytes = &mut bytes[..STEP.min(length - start)];
        from.read_at(start, bytes)?;
        to.write_at(start, bytes)?;
        progress.inc(bytes.len() as u64);
    }
    to.flush()?;
    progress.finish_and_clear();
    Ok(())
}

/// Compares two files by reading them, without a map.
fn same_bytes(one: &mut File, other: &mut File) -> std::io::Result<bool> {
    one.rewind()?;
    other.rewind()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    loop {
        ours.clear();
        theirs.clear();
        one.take(STEP as u64).read_to_end(&mut ours)?;
        other.take(STEP as u64).read_to_end(&mut theirs)?;
        if ours != theirs {
            return Ok(false);
        }
        if ours.is_empty() {
            return Ok(true);
        }
    }
}

/// Returns a progress bar, hidden for a short copy. It draws nothing if standard error is not a
/// terminal.
fn progress_bar(length: u64) -> ProgressBar {
    if length < LONG {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(
        "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}
