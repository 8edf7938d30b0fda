//! Many processes race to create one file.

use super::{names, open_or_create, place};
use crate::steps::Random;
use crate::support::{child, until};
use pshared::fork::Child;
use pshared::{Shared, SharedCounter, SharedEvent, SharedMutex, ShmSafe};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

crate::tests!(
    of_two_hundred_processes_one_creates_the_file_and_all_see_the_same_value,
    without_unnamed_files_one_process_creates_the_file_and_all_see_the_same_value,
    a_file_that_is_removed_meanwhile_is_created_again,
);

/// What the racers create.
#[derive(ShmSafe)]
#[repr(C)]
struct Prize {
    creator: u64,
    users: SharedMutex<u64>,
    copy: u64,
}

/// What the racers share in addition to the prize.
#[derive(ShmSafe)]
#[repr(C)]
struct Track {
    go: SharedEvent,
    ready: SharedCounter,
    /// For each racer: the creator of the prize that it found, and the file's inode; 0 before it
    /// has found one.
    found: [[AtomicU64; 2]; RACERS],
}

const RACERS: usize = 200;

/// Runs one race to create `path`, in which some racers are killed.
fn race(path: &Path, racers: usize, random: &mut Random) {
    let track = Shared::anonymous(Track {
        go: SharedEvent::new(),
        ready: SharedCounter::new(0),
        found: [const { [const { AtomicU64::new(0) }; 2] }; RACERS],
    })
    .unwrap();
    let run = |racer: usize| {
        track.ready.add(1);
        track.go.wait();
        let creator = std::process::id().into();
        let prize = open_or_create(path, || Prize {
            creator,
            users: SharedMutex::new(0),
            copy: creator,
        })
        .unwrap();
        assert_eq!(prize.creator, prize.copy);
        *crate::support::repaired(prize.users.lock(), 0) += 1;
        let inode = std::fs::metadata(path).unwrap().ino();
        track.found[racer][1].store(inode, Relaxed);
        track.found[racer][0].store(prize.creator, Relaxed);
    };
    let children: Vec<Child> = (0..racers).map(|racer| child(|| run(racer))).collect();
    until(|| track.ready.get() == racers as u64);
    track.go.set();
    for _ in 0..racers / 8 {
        children[random.below(racers as u64) as usize]
            .kill()
            .unwrap();
        // Gives the other racers a short, random time to continue.
        for _ in 0..random.below(20) {
            std::thread::yield_now();
        }
    }
    let mut killed = 0;
    for (racer, child) in children.iter().enumerate() {
        let status = child.wait().unwrap();
        match status.signal() {
            Some(libc::SIGKILL) => killed += 1,
            _ => assert!(status.success(), "racer {racer}: {status}"),
        }
    }
    let found: Vec<_> = track
        .found
        .iter()
        .map(|found| found.each_ref().map(|word| word.load(Relaxed)))
        .filter(|found| found[0] != 0)
        .collect();
    assert!(found.len() >= racers - killed);
    assert!(
        found.iter().all(|each| *each == found[0]),
        "several were created: {found:?}"
    );
    let prize = open_or_create(path, || -> Prize { unreachable!("there is one") }).unwrap();
    assert_eq!(prize.creator, found[0][0]);
}

fn rounds(usual: usize) -> usize {
    let asked = std::env::var("PSHARED_ROUNDS").ok();
    asked.map_or(usual, |rounds| {
        rounds.parse().expect("PSHARED_ROUNDS is a number")
    })
}

fn of_two_hundred_processes_one_creates_the_file_and_all_see_the_same_value() {
    let mut random = Random::new(2);
    for _ in 0..rounds(20) {
        let (directory, path) = place();
        race(&path, RACERS, &mut random);
        assert_eq!(names(directory.path()), ["board"]);
    }
}

fn without_unnamed_files_one_process_creates_the_file_and_all_see_the_same_value() {
    super::unfinished::without_unnamed_files();
    let mut random = Random::new(3);
    for _ in 0..rounds(20) {
        let (directory, path) = place();
        race(&path, 50, &mut random);
        // The next creation removes what the killed racers left.
        std::fs::remove_file(&path).unwrap();
        drop(open_or_create(&path, || 1_u32).unwrap());
        assert_eq!(names(directory.path()), ["board"]);
    }
}

fn a_file_that_is_removed_meanwhile_is_created_again() {
    let (directory, path) = place();
    let over = Shared::anonymous(SharedCounter::new(0)).unwrap();
    let users: Vec<_> = (0..4)
        .map(|_| {
            child(|| {
                for _ in 0..200 {
                    open_or_create(&path, || SharedCounter::new(7))
                        .unwrap()
                        .add(1);
                }
                over.add(1);
            })
        })
        .collect();
    while over.get() < 4 {
        let _ = std::fs::remove_file(&path);
    }
    users.iter().for_each(crate::support::passes);
    drop(open_or_create(&path, || SharedCounter::new(7)).unwrap());
    assert_eq!(names(directory.path()), ["board"]);
}
