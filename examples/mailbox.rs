//! A parent and its child send each other a letter through a map.
//!
//! A map does not block: a process that reads too early reads the previous contents. Here each
//! letter has an event, and the receiver sleeps until the event is set. No process sleeps for a
//! fixed time.
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

/// Sends a letter from a parent to its child and another letter back, through a map.
///
/// The parent sends "hello, world". The child waits for it and answers "nihao father!!".
#[derive(Debug, Parser)]
#[command(name = "mailbox", version)]
struct Options {
    /// The memory that holds the mailboxes
    #[arg(long, value_enum, default_value_t = MapKind::Anonymous)]
    map: MapKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MapKind {
    /// Anonymous memory, shared with the child
    Anonymous,
    /// A file in the directory for temporary files
    File,
}

/// Holds one letter.
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

    /// Waits for the letter and returns it.
    fn receive(&self) -> Result<ArrayString<64>, Error> {
        self.delivered.wait();
        Ok(*self.letter.lock()?)
    }
}

type Error = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match exchange_letters(Options::parse().map) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mailbox: {error}");
            ExitCode::FAILURE
        }
    }
}

fn exchange_letters(map: MapKind) -> Result<(), Error> {
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
    // Without this check, the parent would wait forever for the letter of a child that died.
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("the child failed: {status}").into());
    }
    println!("parent received: {}", mailboxes.parents.receive()?);
    Ok(())
}

/// Places the mailboxes in a new file and removes the file's name at once. The child inherits the
/// map.
fn in_a_file(empty: Mailboxes) -> Result<Shared<Mailboxes>, Error> {
    let directory = tempfile::tempdir()?;
    #[expect(
        unsafe_code,
        reason = "the caller must ensure that the file is not changed by other means"
    )]
    // SAFETY: this program created the directory for itself, so no other program uses the file.
    let mailboxes = unsafe { Shared::create(directory.path().join("mailboxes"), empty) }?;
    Ok(mailboxes)
}
