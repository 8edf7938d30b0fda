//! What must be true of a file with any bytes: opening it is an error that leaves the file as it
//! was, or returns a value whose every primitive can be used.
//!
//! An input is one byte that selects the type, the way to open, and how the rest of the input makes
//! the bytes of the file. The starting point is a file that this crate made, so no offset of the
//! header is written here.
//!
//! Every process that can write to a file is trusted, so not all bytes are in scope:
//!
//! - The header and the directory may hold anything.
//! - The words of primitives may hold anything if no process uses the file, because the opener
//!   resets them then. A memfd is not reset: its primitives may then refuse every call, but no call
//!   may crash.
//! - The data of an enum is always valid. Nothing checks the data under a lock that is whole.

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use pshared::memory::Placeable;
use pshared::{
    Error, LockError, Shared, SharedAutoResetEvent, SharedBarrier, SharedCondvar, SharedCounter,
    SharedEvent, SharedGauge, SharedMutex, SharedOnce, SharedOnceLock, SharedPermits,
    SharedReentrantLock, SharedRoster, SharedRwLock, SharedSemaphore, ShmData, ShmSafe,
};
use std::cell::Cell;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

/// Checks one input. Files are made in `directory`, which no other thread may use meanwhile.
///
/// # Panics
///
/// Panics if a file was changed although it was refused, or if a primitive cannot be used.
pub fn check(input: &[u8], directory: &Path) {
    static SEEDS: [OnceLock<Seed>; 4] = [const { OnceLock::new() }; 4];
    let Some((&selector, rest)) = input.split_first() else {
        return;
    };
    let ty = usize::from(selector % 4);
    let seed = SEEDS[ty].get_or_init(|| match ty {
        0 => seed::<Number>(directory),
        1 => seed::<Counters>(directory),
        2 => seed::<State>(directory),
        _ => seed::<Card>(directory),
    });
    let mut bytes = match selector >> 3 & 3 {
        0 => raw(rest),
        1 => seed.with_patches(rest),
        _ => seed.with_other_directory(rest),
    };
    if !seed.data_may_vary {
        seed.restore_value(&mut bytes);
    }
    let by_descriptor = selector >> 2 & 1 == 1;
    match ty {
        0 => open::<Number>(&bytes, directory, by_descriptor),
        1 => open::<Counters>(&bytes, directory, by_descriptor),
        2 => open::<State>(&bytes, directory, by_descriptor),
        _ => open::<Card>(&bytes, directory, by_descriptor),
    }
}

/// Returns the inputs from which a search of others starts: each type unchanged, in each way.
pub fn first_inputs(directory: &Path) -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    for (ty, seed) in [
        seed::<Number>(directory),
        seed::<Counters>(directory),
        seed::<State>(directory),
        seed::<Card>(directory),
    ]
    .into_iter()
    .enumerate()
    {
        let header = seed.bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
        let zeroes = (seed.bytes.len() - header) as u16;
        for way in [0, 4] {
            let selector = ty as u8 | way;
            let mut raw = vec![selector];
            raw.extend(zeroes.to_le_bytes());
            raw.extend(&seed.bytes[..header]);
            inputs.push(raw);
            inputs.push(vec![selector | 8]);
            inputs.push(vec![selector | 16]);
        }
    }
    inputs
}

/// Takes a number of two bytes, and then the bytes of a file without the zeroes at its end.
fn raw(input: &[u8]) -> Vec<u8> {
    let Some((zeroes, bytes)) = input.split_first_chunk() else {
        return Vec::new();
    };
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len() + usize::from(u16::from_le_bytes(*zeroes)), 0);
    bytes
}

/// A file that this crate made.
struct Seed {
    bytes: Vec<u8>,
    value_size: usize,
    data_may_vary: bool,
    directory: Option<Directory>,
}

/// Where the text of the directory lies in a file, and its length and its hash.
struct Directory {
    start: usize,
    end: usize,
    length_at: usize,
    hash_at: usize,
}

fn seed<T: Fuzzed + ?Sized>(directory: &Path) -> Seed {
    let path = directory.join("seed");
    let value_size = size_of_val(&*T::create(&path).expect("a new file"));
    let bytes = fs::read(&path).expect("the file that was just made");
    fs::remove_file(&path).expect("the file that was just made");
    Seed {
        directory: Directory::find(&bytes[..bytes.len() - value_size]),
        bytes,
        value_size,
        data_may_vary: T::DATA_MAY_VARY,
    }
}

impl Directory {
    /// The text is the end of the header, apart from zeroes. A word before it holds its hash, and
    /// another one its length.
    fn find(header: &[u8]) -> Option<Directory> {
        let end = header.iter().rposition(|byte| *byte != 0)? + 1;
        (8..end).step_by(8).find_map(|start| {
            let text = &header[start..end];
            let word_of = |number: u64| {
                let mut words = header[..start].chunks(8);
                Some(8 * words.position(|word| word == number.to_le_bytes())?)
            };
            Some(Directory {
                start,
                end,
                length_at: word_of(text.len() as u64)?,
                hash_at: word_of(fnv_1a(text))?,
            })
        })
    }
}

fn fnv_1a(text: &[u8]) -> u64 {
    text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

impl Seed {
    /// Takes patches: an offset of two bytes, the number of new bytes, and the new bytes.
    fn with_patches(&self, mut input: &[u8]) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        while let Some(([low, high, length], rest)) = input.split_first_chunk() {
            let at = usize::from(u16::from_le_bytes([*low, *high])) % bytes.len();
            let length = (usize::from(length % 8) + 1)
                .min(rest.len())
                .min(bytes.len() - at);
            bytes[at..at + length].copy_from_slice(&rest[..length]);
            input = &rest[length..];
        }
        bytes
    }

    /// Takes edits of the directory's text: an offset of two bytes, how many bytes are removed
    /// there, how many are inserted, and these. The header then has the new length and hash.
    fn with_other_directory(&self, mut input: &[u8]) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let Some(directory) = &self.directory else {
            return bytes;
        };
        let mut text = bytes[directory.start..directory.end].to_vec();
        while let Some(([low, high, removed, inserted], rest)) = input.split_first_chunk() {
            let at = usize::from(u16::from_le_bytes([*low, *high])) % (text.len() + 1);
            let end = (at + usize::from(*removed)).min(text.len());
            let inserted = usize::from(*inserted).min(rest.len());
            text.splice(at..end, rest[..inserted].iter().copied());
            input = &rest[inserted..];
        }
        text.truncate(bytes.len() - self.value_size - directory.start);
        bytes[directory.start..directory.end].fill(0);
        bytes[directory.start..][..text.len()].copy_from_slice(&text);
        bytes[directory.length_at..][..8].copy_from_slice(&(text.len() as u64).to_le_bytes());
        bytes[directory.hash_at..][..8].copy_from_slice(&fnv_1a(&text).to_le_bytes());
        bytes
    }

    /// Makes the value whole again, which lies at the end of a file.
    fn restore_value(&self, bytes: &mut [u8]) {
        let value = &self.bytes[self.bytes.len() - self.value_size..];
        if let Some(start) = bytes.len().checked_sub(value.len()) {
            bytes[start..].copy_from_slice(value);
        }
    }
}

fn open<T: Fuzzed + ?Sized>(bytes: &[u8], directory: &Path, by_descriptor: bool) {
    match by_descriptor {
        true => open_memfd::<T>(bytes),
        false => open_file::<T>(bytes, directory),
    }
}

fn open_file<T: Fuzzed + ?Sized>(bytes: &[u8], directory: &Path) {
    let path = directory.join("damaged");
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options
        .open(&path)
        .and_then(|mut file| file.write_all(bytes));
    written.expect("a file with the bytes");
    // SAFETY: the file is not in use, and is changed only after it is closed. Its value is valid or
    // of numbers.
    match unsafe { Shared::<T>::open(&path) } {
        Err(error) => {
            let _ = error.to_string();
            assert!(fs::read(&path).is_ok_and(|now| now == bytes), "{error}");
        }
        Ok(value) => {
            value.use_all(true);
            drop(value);
            // The file can be opened again.
            // SAFETY: as above.
            let again = unsafe { Shared::<T>::open(&path) };
            again.expect("it was opened before").use_all(true);
        }
    }
}

fn open_memfd<T: Fuzzed + ?Sized>(bytes: &[u8]) {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let descriptor = memfd_create(c"damaged", flags).expect("a memfd");
    let mut file = File::from(descriptor.try_clone().expect("another descriptor"));
    file.write_all(bytes).expect("memory");
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&descriptor, FcntlArg::F_ADD_SEALS(seals)).expect("a new memfd");
    // SAFETY: no other process has the memory, and its value is valid or of numbers.
    match unsafe { Shared::<T>::from_fd(descriptor) } {
        Err(error) => _ = error.to_string(),
        Ok(value) => value.use_all(false),
    }
}

/// A type of a value in the file.
trait Fuzzed: Placeable {
    /// Whether all bytes are valid data.
    const DATA_MAY_VARY: bool;

    fn create(path: &Path) -> Result<Shared<Self>, Error>;

    /// Uses all primitives. If `is_reset`, none of them may refuse.
    fn use_all(&self, is_reset: bool);
}

type Number = SharedMutex<u64>;
type Counters = [SharedCounter];

impl Fuzzed for Number {
    const DATA_MAY_VARY: bool = true;

    fn create(path: &Path) -> Result<Shared<Self>, Error> {
        // SAFETY: only this thread uses the file.
        unsafe { Shared::create(path, SharedMutex::new(7)) }
    }

    fn use_all(&self, is_reset: bool) {
        use_mutex(self, is_reset, 8);
    }
}

impl Fuzzed for Counters {
    const DATA_MAY_VARY: bool = true;

    fn create(path: &Path) -> Result<Shared<Self>, Error> {
        // SAFETY: only this thread uses the file.
        unsafe { Shared::create_from_fn(path, 5, |number| SharedCounter::new(number as u64)) }
    }

    fn use_all(&self, _: bool) {
        for counter in self {
            let before = counter.add(1);
            assert_eq!(counter.get(), before.wrapping_add(1));
        }
    }
}

/// Not all bytes are one of these.
#[derive(Clone, Copy, ShmData)]
#[repr(u8)]
enum Suit {
    Clubs,
    Hearts { value: u8 },
}

#[derive(ShmSafe)]
#[repr(C)]
struct Card {
    suit: SharedRwLock<Suit>,
}

impl Fuzzed for Card {
    const DATA_MAY_VARY: bool = false;

    fn create(path: &Path) -> Result<Shared<Self>, Error> {
        let card = Card {
            suit: SharedRwLock::new(Suit::Hearts { value: 3 }),
        };
        // SAFETY: only this thread uses the file.
        unsafe { Shared::create(path, card) }
    }

    fn use_all(&self, is_reset: bool) {
        use_rwlock(&self.suit, is_reset, Suit::Clubs);
    }
}

/// Every primitive.
#[derive(ShmSafe)]
#[repr(C)]
struct State {
    mutex: SharedMutex<[u32; 3]>,
    rwlock: SharedRwLock<u64>,
    reentrant: SharedReentrantLock<Cell<u64>>,
    condvar: SharedCondvar,
    semaphore: SharedSemaphore,
    once: SharedOnce,
    cell: SharedOnceLock<[u64; 2]>,
    permits: SharedPermits<2>,
    roster: SharedRoster<SharedCounter, 2>,
    barrier: SharedBarrier<2>,
    event: SharedEvent,
    auto_reset: SharedAutoResetEvent,
    gauge: SharedGauge,
}

impl Fuzzed for State {
    const DATA_MAY_VARY: bool = true;

    fn create(path: &Path) -> Result<Shared<Self>, Error> {
        let state = State {
            mutex: SharedMutex::new([1, 2, 3]),
            rwlock: SharedRwLock::new(4),
            reentrant: SharedReentrantLock::new(Cell::new(5)),
            condvar: SharedCondvar::new(),
            semaphore: SharedSemaphore::new(6),
            once: SharedOnce::new(),
            cell: SharedOnceLock::new(),
            permits: SharedPermits::new(),
            roster: SharedRoster::default(),
            barrier: SharedBarrier::new(),
            event: SharedEvent::new(),
            auto_reset: SharedAutoResetEvent::new(),
            gauge: SharedGauge::new(7),
        };
        // SAFETY: only this thread uses the file.
        unsafe { Shared::create(path, state) }
    }

    fn use_all(&self, is_reset: bool) {
        use_mutex(&self.mutex, is_reset, [0; 3]);
        use_rwlock(&self.rwlock, is_reset, 0);
        self.use_reentrant(is_reset);
        self.use_condvar();
        self.use_members(is_reset);
        self.use_others(is_reset);
    }
}

impl State {
    fn use_reentrant(&self, is_reset: bool) {
        match self.reentrant.try_lock() {
            Ok(outer) => {
                let inner = self.reentrant.try_lock().expect("this thread owns it");
                inner.set(outer.get().wrapping_add(1));
            }
            Err(LockError::Poisoned(poisoned)) => {
                drop(poisoned.replace(Cell::new(0)));
            }
            Err(other) => assert!(!is_reset, "reentrant: {other}"),
        }
    }

    fn use_condvar(&self) {
        self.condvar.notify_one();
        self.condvar.notify_all();
        if let Ok(guard) = self.mutex.try_lock() {
            drop(self.condvar.wait_timeout(guard, Duration::ZERO));
        }
    }

    fn use_members(&self, is_reset: bool) {
        let all = [self.permits.try_acquire(), self.permits.try_acquire()];
        assert!(
            !is_reset || all.iter().all(Result::is_ok),
            "{:?}",
            self.permits.available()
        );
        drop(all);
        let all = [self.roster.try_join(), self.roster.try_join()];
        assert!(
            !is_reset || all.iter().all(Result::is_ok),
            "{:?}",
            self.roster.abandoned()
        );
        for slot in all.iter().flatten() {
            slot.add(1);
        }
        drop(all);
        if self.barrier.join().is_err() {
            let reset = self.barrier.reset();
            assert!(!is_reset || reset.is_ok(), "{reset:?}");
        }
        let party = self.barrier.join();
        assert!(!is_reset || party.is_ok(), "no party: {:?}", party.err());
        if let Ok(party) = party {
            assert!(party.wait_timeout(Duration::ZERO).is_err());
        }
    }

    fn use_others(&self, is_reset: bool) {
        let _ = self.semaphore.post();
        drop(self.semaphore.try_acquire());
        let ran = self.once.try_call_once_force(|_| ());
        assert!(
            !is_reset || ran.is_ok() && self.once.is_completed(),
            "{ran:?}"
        );
        let made = self.cell.try_get_or_init_with(|_| [1; 2]);
        assert!(!is_reset || made.is_ok(), "{:?}", made.err());
        self.event.set();
        assert!(self.event.is_set());
        self.event.wait();
        self.event.reset();
        self.auto_reset.set();
        assert!(self.auto_reset.try_wait());
        self.gauge.add(1);
    }
}

fn use_mutex<T: ShmData>(mutex: &SharedMutex<T>, is_reset: bool, value: T) {
    match mutex.try_lock() {
        Ok(mut guard) => *guard = value,
        Err(LockError::Poisoned(poisoned)) => drop(poisoned.replace(value)),
        Err(other) => assert!(!is_reset, "mutex: {other}"),
    }
}

fn use_rwlock<T: ShmData + Copy + Sync>(lock: &SharedRwLock<T>, is_reset: bool, value: T) {
    match lock.try_write() {
        Ok(mut guard) => *guard = value,
        Err(LockError::Poisoned(poisoned)) => drop(poisoned.replace(value)),
        Err(other) => assert!(!is_reset, "writer: {other}"),
    }
    match lock.try_read() {
        Ok(guard) => _ = *guard,
        Err(other) => assert!(!is_reset, "reader: {other}"),
    }
}
