//! A parent and its child write to each other through a map.
//!
//! A map blocks nobody: a reader that is early reads what was there before. Here each letter has an event, and whoever
//! waits for the letter sleeps until it is there. Nobody waits for a time.
//!
//! ```text
//! cargo run --example mailbox
//! cargo run --example mailbox -- --map file
//! ```

#![deny(unsafe_code)]

use arrayvec::ArrayString;
use clap::{Parser, ValueEnum};
use pshared::{Shared, SharedEvent, SharedMutex, ShmSafe, fork};
use std::process::ExitCode;

/// The parent writes "hello, world" to its child, which waits for it and answers "nihao father!!".
#[derive(Debug, Parser)]
#[command(name = "mailbox", version)]
struct Options {
    /// Where the mailboxes lie
    #[arg(long, value_enum, default_value_t = MapKind::Anonymous)]
    map: MapKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MapKind {
    /// Memory without a file, shared with children
    Anonymous,
    /// A file in the directory for temporary files
    File,
}

/// Room for one letter.
#[derive(ShmSafe)]
#[repr(C)]
struct Mailbox {
    letter: SharedMutex<ArrayString<64>>,
    delivered: SharedEvent,
}

#[derive(ShmSafe)]
#[repr(C)]
struct Mailboxes {
    childs: Mailbox,
    parents: Mailbox,
}

impl Mailbox {
    fn empty() -> Self {
        Mailbox {
            letter: SharedMutex::new(ArrayString::new()),
            delivered: SharedEvent::new(),
        }
    }

    fn deliver(&self, text: &str) -> Result<(), Error> {
        *self.letter.lock()? = ArrayString::from(text).map_err(|_| "the letter is too long")?;
        self.delivered.set();
        Ok(())
    }

    /// Waits for the letter.
    fn receive(&self) -> Result<ArrayString<64>, Error> {
        self.delivered.wait();
        Ok(*self.letter.lock()?)
    }
}

type Error = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match correspond(Options::parse().map) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mailbox: {error}");
            ExitCode::FAILURE
        }
    }
}

fn correspond(map: MapKind) -> Result<(), Error> {
    let empty = Mailboxes {
        childs: Mailbox::empty(),
        parents: Mailbox::empty(),
    };
    let mailboxes = match map {
        MapKind::Anonymous => Shared::anonymous(empty)?,
        MapKind::File => in_a_file(empty)?,
    };
    let child = fork::spawn(|| {
        let letter = mailboxes.childs.receive().expect("the parent's letter");
        println!("child received: {letter}");
        mailboxes
            .parents
            .deliver("nihao father!!")
            .expect("the answer");
    })?;
    mailboxes.childs.deliver("hello, world")?;
    // Without this a child that died before it answered would leave its parent waiting.
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("the child failed: {status}").into());
    }
    println!("parent received: {}", mailboxes.parents.receive()?);
    Ok(())
}

/// Places the mailboxes in a new file, which loses its name at once: the child has the map.
fn in_a_file(empty: Mailboxes) -> Result<Shared<Mailboxes>, Error> {
    let directory = tempfile::tempdir()?;
    #[expect(
        unsafe_code,
        reason = "whoever places a value in a file answers for what else is done to the file"
    )]
    // SAFETY: the directory is this program's own, so nobody else has the file.
    let mailboxes = unsafe { Shared::create(directory.path().join("mailboxes"), empty) }?;
    Ok(mailboxes)
}
