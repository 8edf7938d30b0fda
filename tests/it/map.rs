//! Maps of bytes: each mistake that introductions to `mmap` warn of is either impossible to write
//! or an error that says what to do. No mistake ends in a SIGBUS.

use nix::unistd::{SysconfVar, sysconf};
use pshared::{Error, Map, MapOptions};
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::thread;

fn page() -> usize {
    sysconf(SysconfVar::PAGE_SIZE).unwrap().unwrap() as usize
}

/// Creates a file without a name that no other process has open.
fn file_with(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn file_of_len(len: usize) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(len as u64).unwrap();
    file
}

fn content(file: &File) -> Vec<u8> {
    let mut file = file;
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn map_file(file: &File, options: MapOptions) -> Result<Map, Error> {
    // SAFETY: the files of these tests are temporary and belong to one test each, and none is
    // shortened while it is mapped.
    unsafe { Map::file(file, options) }
}

fn bytes_of(map: &Map) -> Vec<u8> {
    let mut bytes = vec![0; map.len()];
    map.read_at(0, &mut bytes).unwrap();
    bytes
}

fn assert_says(error: &Error, parts: &[&str]) {
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "no {part:?} in {message:?}");
    }
}

/// `refused!(result, pattern, "said", "in the message")`: asserts that the error has this variant,
/// and that its message contains these parts.
macro_rules! refused {
    ($result:expr, $pattern:pat, $($part:expr),+ $(,)?) => {
        match $result {
            Err(error @ $pattern) => assert_says(&error, &[$($part.as_ref()),+]),
            other => panic!("not {}: {other:?}", stringify!($pattern)),
        }
    };
}

mod file;
mod flush;
mod limits;
mod memfd;

/// What `/proc/self/smaps` reports about the kernel's map at this address.
struct Vma {
    start: usize,
    end: usize,
    permissions: String,
    lines: Vec<String>,
}

impl Vma {
    fn of(map: &Map) -> Vma {
        let at = map.as_ptr() as usize;
        Vma::all()
            .into_iter()
            .find(|vma| (vma.start..vma.end).contains(&at))
            .expect("the map is in /proc/self/smaps")
    }

    fn all() -> Vec<Vma> {
        let mut all: Vec<Vma> = Vec::new();
        for line in fs::read_to_string("/proc/self/smaps").unwrap().lines() {
            match Vma::header(line) {
                Some(vma) => all.push(vma),
                None => all.last_mut().unwrap().lines.push(line.to_string()),
            }
        }
        all
    }

    fn header(line: &str) -> Option<Vma> {
        let mut words = line.split(' ');
        let (start, end) = words.next()?.split_once('-')?;
        Some(Vma {
            start: usize::from_str_radix(start, 16).ok()?,
            end: usize::from_str_radix(end, 16).ok()?,
            permissions: words.next()?.to_string(),
            lines: vec![line.to_string()],
        })
    }

    fn line(&self, key: &str) -> &str {
        let found = self.lines.iter().find_map(|line| line.strip_prefix(key));
        found.unwrap().trim()
    }

    fn bytes(&self, key: &str) -> usize {
        let kib: usize = self.line(key).strip_suffix(" kB").unwrap().parse().unwrap();
        kib * 1024
    }

    fn dirty(&self) -> usize {
        self.bytes("Shared_Dirty:") + self.bytes("Private_Dirty:")
    }
}

fn assert_send_and_sync<T: Send + Sync>() {}

// W2: zero.

#[test]
fn a_length_of_zero_is_refused_by_every_constructor() {
    let file = file_with(b"some bytes");
    for refusal in [
        Map::anonymous(0),
        Map::dev_zero(0),
        Map::memfd("nothing", 0),
        map_file(&file, MapOptions::shared().len(0)),
        map_file(&file, MapOptions::private().len(0)),
        map_file(&file, MapOptions::shared().len(0).reserve()),
        map_file(&file_with(b""), MapOptions::shared().len(0)),
    ] {
        refused!(
            refusal,
            Error::ZeroLength,
            "0 bytes",
            "ask for 1 byte or more"
        );
    }
}

// W7: bounds.

#[test]
fn reads_and_writes_past_the_end_are_refused_although_the_page_goes_on() {
    let map = Map::anonymous(100).unwrap();
    for (offset, len) in [
        (0, 101),
        (96, 5),
        (100, 1),
        (101, 0),
        (usize::MAX, 2),
        (2, usize::MAX),
    ] {
        let parts = [
            format!("{len} bytes at offset {offset} "),
            "map, which has 100 bytes".into(),
        ];
        // Longer buffers cannot be allocated. The ranges of `flush_range` and `invalidate_range`
        // are plain numbers.
        if len <= 101 {
            refused!(
                map.read_at(offset, &mut vec![0; len]),
                Error::OutOfBounds { map_len: 100, .. },
                parts[0],
                parts[1]
            );
            refused!(
                map.write_at(offset, &vec![0; len]),
                Error::OutOfBounds { map_len: 100, .. },
                parts[0],
                parts[1]
            );
        }
        refused!(
            map.flush_range(offset, len),
            Error::OutOfBounds { map_len: 100, .. },
            parts[0],
            parts[1]
        );
        refused!(
            map.flush_async_range(offset, len),
            Error::OutOfBounds { map_len: 100, .. },
            parts[0],
            parts[1]
        );
        refused!(
            map.invalidate_range(offset, len),
            Error::OutOfBounds { map_len: 100, .. },
            parts[0],
            parts[1]
        );
    }
    map.write_at(99, &[9]).unwrap();
    map.write_at(100, &[]).unwrap();
    map.read_at(100, &mut []).unwrap();
    map.flush_range(100, 0).unwrap();
}

#[test]
fn bytes_are_read_where_they_were_written_and_nowhere_else() {
    let map = Map::anonymous(page() + 7).unwrap();
    map.write_at(page() - 2, b"across").unwrap();
    let mut expected = vec![0; page() + 7];
    expected[page() - 2..page() + 4].copy_from_slice(b"across");
    assert_eq!(bytes_of(&map), expected);
    let mut part = [0; 4];
    map.read_at(page() - 1, &mut part).unwrap();
    assert_eq!(&part, b"cros");
}

#[test]
fn a_range_that_overflows_is_refused() {
    let half = 1_u64 << 63;
    let file = file_with(b"x");
    for refusal in [
        Map::anonymous(usize::MAX),
        Map::dev_zero(usize::MAX),
        Map::memfd("endless", usize::MAX),
        // Representable, but not when rounded up to pages.
        Map::anonymous(isize::MAX as usize),
        map_file(&file, MapOptions::shared().len(usize::MAX)),
    ] {
        refused!(
            refusal,
            Error::LengthOverflow { offset: 0, .. },
            "from offset 0",
            "9223372036854775807",
            "ask for less"
        );
    }
    refused!(
        map_file(
            &file,
            MapOptions::shared()
                .offset(half - page() as u64)
                .len(page())
                .reserve()
        ),
        Error::LengthOverflow { .. },
        format!("{} bytes from offset {}", page(), half - page() as u64),
    );
    refused!(
        map_file(&file, MapOptions::shared().offset(half).len(1)),
        Error::LengthOverflow { .. },
        "1 bytes from offset 9223372036854775808",
    );
    assert_eq!(file.metadata().unwrap().len(), 1);
}

// W8: exactly what was mapped is unmapped.

#[test]
fn dropping_a_map_unmaps_all_of_its_pages_and_closes_its_descriptor() {
    let name = "pshared-test-dropped-map";
    let mapped = || -> Vec<usize> {
        let named = |vma: &Vma| vma.lines[0].contains(name);
        Vma::all()
            .iter()
            .filter(|vma| named(vma))
            .map(|vma| vma.end - vma.start)
            .collect()
    };
    let open = || {
        let links = fs::read_dir("/proc/self/fd").unwrap();
        let mut targets = links.filter_map(|link| fs::read_link(link.unwrap().path()).ok());
        targets.any(|target| target.to_string_lossy().contains(name))
    };
    let map = Map::memfd(name, 2 * page() + 1).unwrap();
    assert_eq!((mapped(), open()), (vec![3 * page()], true));
    map.flush_range(page(), 1).unwrap();
    drop(map);
    assert_eq!((mapped(), open()), (vec![], false));
}

// P11: memory without a file.

#[test]
fn new_memory_is_zero_shared_writable_and_starts_with_a_page() {
    for make in [Map::anonymous, Map::dev_zero, |len| Map::memfd("new", len)] {
        let len = 3 * page() + 5;
        let map = make(len).unwrap();
        assert_eq!((map.len(), map.is_empty()), (len, false));
        assert_eq!(map.as_ptr() as usize % page(), 0);
        assert_eq!(bytes_of(&map), vec![0; len]);
        assert_eq!(Vma::of(&map).permissions, "rw-s");
        map.write_at(len - 1, b"!").unwrap();
        assert_eq!(bytes_of(&map).last(), Some(&b'!'));
    }
}

#[test]
fn a_dev_zero_map_is_one_of_the_zero_device() {
    let map = Map::dev_zero(1).unwrap();
    assert!(Vma::of(&map).lines[0].contains("/dev/zero"));
}

// Threads.

#[test]
fn a_map_goes_to_other_threads_and_is_written_by_many_at_once() {
    assert_send_and_sync::<Map>();
    assert_send_and_sync::<Error>();
    let map = Map::anonymous(4096).unwrap();
    thread::scope(|scope| {
        for number in 0..4_u8 {
            let map = &map;
            scope.spawn(move || {
                for _ in 0..100 {
                    map.write_at(usize::from(number) * 1024, &[number + 1; 1024])
                        .unwrap();
                    // Each byte has a value that was written as a whole.
                    assert!(bytes_of(map).iter().all(|byte| *byte <= 4));
                }
            });
        }
    });
    let expected: Vec<u8> = (1..=4).flat_map(|number| [number; 1024]).collect();
    assert_eq!(bytes_of(&map), expected);
    let moved = thread::spawn(move || bytes_of(&map)).join().unwrap();
    assert_eq!(moved, expected);
}
