//! Memory that an unrelated process receives as a descriptor over a Unix socket.

use crate::support::{Outcome, outcome_of, until};
use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use pshared::{Error, Shared, SharedCounter, SharedEvent, SharedMutex, SharedSemaphore, ShmSafe};
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, ExitCode};

crate::tests!(
    an_unrelated_process_uses_the_same_memory_through_the_descriptor,
    the_death_of_an_unrelated_holder_is_reported,
    an_unsuitable_descriptor_is_an_error_that_states_why,
    the_memory_outlives_its_creators_map_in_an_unrelated_process,
);

/// The environment variable that makes this program run as an unrelated process. Its value is the
/// path of a socket that provides a descriptor.
pub const ROLE: &str = "PSHARED_TEST_UNRELATED";

/// The shared type that both programs know.
#[derive(ShmSafe)]
#[repr(C)]
struct State {
    count: SharedMutex<u64>,
    semaphore: SharedSemaphore,
    hits: SharedCounter,
    event: SharedEvent,
}

fn state() -> Shared<State> {
    Shared::memfd(
        "board",
        State {
            count: SharedMutex::new(1),
            semaphore: SharedSemaphore::new(0),
            hits: SharedCounter::new(0),
            event: SharedEvent::new(),
        },
    )
    .unwrap()
}

/// Runs as the unrelated process: receives a descriptor and a task, and performs the task.
pub fn as_unrelated_process(socket: &str) -> ExitCode {
    let mut socket = UnixStream::connect(socket).unwrap();
    let (task, descriptor) = receive(&socket);
    // SAFETY: the test that sends the descriptor uses the memory only through this crate, or not at
    // all.
    let opened = unsafe { Shared::<State>::from_fd(descriptor) };
    let state = match (task, opened) {
        (b'?', Ok(_)) => panic!("opened"),
        (b'?', Err(refusal)) => {
            socket
                .write_all(format!("{refusal:?}: {refusal}").as_bytes())
                .unwrap();
            return ExitCode::SUCCESS;
        }
        (_, opened) => opened.unwrap(),
    };
    match task {
        b'c' => {
            for _ in 0..10_000 {
                *state.count.lock().unwrap() += 1;
                state.hits.add(1);
            }
            state.semaphore.post().unwrap();
            state.event.wait();
        }
        b'd' => {
            let _guard = state.count.lock().unwrap();
            std::process::abort();
        }
        b'l' => {
            // Waits until the other process has dropped its handle and then closed its socket.
            assert_eq!(socket.read(&mut [0]).unwrap(), 0);
            *state.count.lock().unwrap() += 1;
            assert_eq!(*state.count.lock().unwrap(), 2);
        }
        other => panic!("what is {other}?"),
    }
    ExitCode::SUCCESS
}

/// Starts this program again as an unrelated process, which inherits no map and no descriptor of
/// the memory. Sends it a descriptor and a task.
fn unrelated_process(task: u8, descriptor: BorrowedFd<'_>) -> (Child, UnixStream) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let process = Command::new(std::env::current_exe().unwrap())
        .env(ROLE, &path)
        .spawn()
        .unwrap();
    let (socket, _) = listener.accept().unwrap();
    sendmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &[IoSlice::new(&[task])],
        &[ControlMessage::ScmRights(&[descriptor.as_raw_fd()])],
        MsgFlags::empty(),
        None,
    )
    .unwrap();
    (process, socket)
}

fn receive(socket: &UnixStream) -> (u8, OwnedFd) {
    let mut task = [0];
    let mut data = [IoSliceMut::new(&mut task)];
    let mut space = cmsg_space!([i32; 1]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message =
        recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut data, Some(&mut space), flags).unwrap();
    let Some(ControlMessageOwned::ScmRights(descriptors)) = message.cmsgs().unwrap().next() else {
        panic!("no descriptor came")
    };
    // SAFETY: the kernel has created the descriptor for this call, and nothing else uses it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptors[0]) };
    (task[0], descriptor)
}

fn assert_success(mut process: Child) {
    let status = process.wait().unwrap();
    assert!(status.success(), "{status}");
}

fn descriptor<T: ShmSafe>(shared: &Shared<T>) -> BorrowedFd<'_> {
    // SAFETY: the unrelated process uses the memory only through this crate.
    unsafe { shared.as_fd() }.unwrap()
}

fn an_unrelated_process_uses_the_same_memory_through_the_descriptor() {
    let state = state();
    let (one, _socket) = unrelated_process(b'c', descriptor(&state));
    let (two, _socket) = unrelated_process(b'c', descriptor(&state));
    for _ in 0..10_000 {
        *state.count.lock().unwrap() += 1;
    }
    state.semaphore.wait().unwrap();
    state.semaphore.wait().unwrap();
    assert_eq!(*state.count.lock().unwrap(), 30_001);
    assert_eq!(state.hits.get(), 20_000);
    state.event.set();
    assert_success(one);
    assert_success(two);
}

fn the_death_of_an_unrelated_holder_is_reported() {
    let state = state();
    let (mut process, _socket) = unrelated_process(b'd', descriptor(&state));
    assert!(!process.wait().unwrap().success());
    assert_eq!(outcome_of(state.count.lock()), Outcome::FreshDeath);
    assert_eq!(outcome_of(state.count.lock()), Outcome::OldDeath);
}

fn an_unsuitable_descriptor_is_an_error_that_states_why() {
    let assert_refused = |descriptor: BorrowedFd<'_>, says: &[&str]| {
        let (process, mut socket) = unrelated_process(b'?', descriptor);
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert_success(process);
        for part in says {
            assert!(answer.contains(part), "no {part:?} in {answer:?}");
        }
    };
    let counter = Shared::memfd("counter", SharedCounter::new(0)).unwrap();
    assert_refused(
        descriptor(&counter),
        &["LayoutMismatch", "a pshared counter, 8 bytes"],
    );
    let file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    file.set_len(10_000).unwrap();
    use std::os::fd::AsFd;
    // If the file is on tmpfs, it has seals, but not the required ones.
    assert_refused(file.as_fd(), &["Map::memfd"]);
    let bare = nix::sys::memfd::memfd_create("bare", nix::sys::memfd::MFdFlags::MFD_ALLOW_SEALING)
        .unwrap();
    nix::unistd::ftruncate(&bare, 10_000).unwrap();
    assert_refused(
        bare.as_fd(),
        &["MissingSeals", "F_SEAL_SHRINK | F_SEAL_GROW"],
    );
    let bytes = pshared::Map::memfd("bytes", 10_000).unwrap();
    // SAFETY: the unrelated process reads the memory only through this crate.
    assert_refused(unsafe { bytes.fd() }.unwrap(), &["InvalidHeader", "magic"]);
    let refused = matches!(
        // SAFETY: no process uses the memory.
        unsafe { Shared::<State>::from_fd(bare) },
        Err(Error::MissingSeals { .. })
    );
    assert!(refused);
}

fn the_memory_outlives_its_creators_map_in_an_unrelated_process() {
    let state = state();
    let (process, socket) = unrelated_process(b'l', descriptor(&state));
    // Waits until the process has mapped the memory. It checks the seals before that.
    let maps = format!("/proc/{}/maps", process.id());
    until(|| {
        std::fs::read_to_string(&maps)
            .unwrap()
            .contains("memfd:board")
    });
    drop(state);
    drop(socket);
    assert_success(process);
}
