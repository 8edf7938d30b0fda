//! What the programs `writer` and `reader` share: a type, and how the file is opened that it lies in.

use arrayvec::ArrayString;
use pshared::{
    Error, LockError, Shared, SharedCounter, SharedEvent, SharedMutex, SharedMutexGuard, ShmData,
    ShmSafe,
};
use std::path::{Path, PathBuf};

/// The value in the file.
#[derive(ShmSafe)]
#[repr(C)]
pub struct Board {
    /// Set once for each message, after it was written.
    pub news: SharedEvent,
    /// How many messages were ever begun: where the next one's number comes from.
    pub begun: SharedCounter,
    latest: SharedMutex<Message>,
}

/// A message. Its text lies in place: a `String` would be a pointer into one process's memory, and does not compile here.
#[derive(Debug, Clone, Copy, Default, ShmData)]
#[repr(C)]
pub struct Message {
    /// 1 for the first message; 0 says that there is none.
    pub number: u64,
    /// The text, of at most 100 bytes.
    pub text: ArrayString<100>,
}

impl Board {
    /// The latest message, locked.
    ///
    /// A writer that was killed in the middle of a message has left a mixture of two. Nobody gets to read it: whoever
    /// locks next puts an empty message in its place.
    pub fn latest(&self) -> Result<SharedMutexGuard<'_, Message>, Error> {
        match self.latest.lock() {
            Err(LockError::Poisoned(poisoned)) => {
                eprintln!("{}: its message is dropped", poisoned.cause());
                Ok(poisoned.replace(Message::default()))
            }
            other => Ok(other?),
        }
    }
}

/// Opens the board in the file, or makes one there: whoever comes first does, writer or reader.
pub fn open(path: &Path) -> Result<Shared<Board>, Error> {
    #[expect(
        unsafe_code,
        reason = "whoever opens a file answers for what else is done to the file"
    )]
    // SAFETY: the file belongs to these two programs, which change it by this crate only.
    unsafe {
        Shared::open_or_create(path, || Board {
            news: SharedEvent::new(),
            begun: SharedCounter::new(0),
            latest: SharedMutex::new(Message::default()),
        })
    }
}

/// The file where none is given.
pub fn default_file() -> PathBuf {
    std::env::temp_dir().join("pshared-news")
}
