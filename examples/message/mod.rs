//! The value that the programs `writer` and `reader` share, and the function that opens its file.

use arrayvec::ArrayString;
use pshared::{
    Error, LockError, Shared, SharedCounter, SharedEvent, SharedMutex, SharedMutexGuard, ShmData,
    ShmSafe,
};
use std::path::{Path, PathBuf};

/// The value in the file.
#[derive(ShmSafe)]
#[repr(C)]
pub struct Channel {
    /// Set once for each message, after the message is written.
    pub updated: SharedEvent,
    /// The number of messages that writers have begun. The next message takes its number from it.
    pub begun: SharedCounter,
    latest: SharedMutex<Message>,
}

/// A message. Its text is stored inline: a `String` holds a pointer into one process's memory and
/// does not compile here.
#[derive(Debug, Clone, Copy, Default, ShmData)]
#[repr(C)]
pub struct Message {
    /// 1 for the first message. 0 means that there is no message.
    pub number: u64,
    /// The text, at most 100 bytes.
    pub text: ArrayString<100>,
}

impl Channel {
    /// Locks the latest message.
    ///
    /// A writer that is killed while it writes can leave a mixture of two messages. No process
    /// reads the mixture: the next locker replaces it with an empty message.
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

/// Opens the channel in the file. The first process that calls this creates it, writer or reader.
pub fn open(path: &Path) -> Result<Shared<Channel>, Error> {
    #[expect(
        unsafe_code,
        reason = "the caller must ensure that the file is not changed by other means"
    )]
    // SAFETY: only these two programs use the file, and they change it only through this crate.
    unsafe {
        Shared::open_or_create(path, || Channel {
            updated: SharedEvent::new(),
            begun: SharedCounter::new(0),
            latest: SharedMutex::new(Message::default()),
        })
    }
}

/// Returns the path of the default file.
pub fn default_file() -> PathBuf {
    std::env::temp_dir().join("pshared-messages")
}
