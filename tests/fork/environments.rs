//! What a forking server uses, in the environments that services have: system call filters of
//! containers, limits of control groups, views of `/proc`, and read-only file systems.

use crate::disk::Disk;
use crate::harness::skip;
use crate::seccomp::{Rule, install, needs_filters};
use crate::support::{
    Outcome, as_root, become_unprivileged, child, forked, hide_others, outcome_of, passes,
};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill as signal};
use nix::sys::wait::{WaitStatus, waitpid};
use pshared::{
    Shared, SharedCounter, SharedEvent, SharedMutex, SharedPermits, SharedRwLock, SharedSemaphore,
    ShmSafe, wait_any_timeout,
};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

crate::tests!(
    a_server_works_under_the_container_filters_of_2020,
    a_server_works_under_the_container_filters_of_today,
    a_server_works_with_a_proc_that_hides_other_users,
    a_server_works_with_a_proc_of_processes_only,
    a_holder_killed_for_want_of_memory_is_reported,
    a_limit_of_processes_is_an_error_and_leaves_no_child,
    a_read_only_file_system_is_an_error_that_says_so,
);

#[derive(ShmSafe)]
#[repr(C)]
struct State {
    ready: SharedEvent,
    count: SharedMutex<u64>,
    table: SharedRwLock<u64>,
    permits: SharedPermits<2>,
    semaphore: SharedSemaphore,
    hits: SharedCounter,
}

impl State {
    fn new() -> Self {
        State {
            ready: SharedEvent::new(),
            count: SharedMutex::new(0),
            table: SharedRwLock::new(0),
            permits: SharedPermits::new(),
            semaphore: SharedSemaphore::new(0),
            hits: SharedCounter::new(0),
        }
    }
}

/// Uses the crate as a forking server does, in this process and its children.
fn a_server_works(directory: &Path) {
    let path = directory.join("state");
    let open = || {
        // SAFETY: only this test uses the file.
        unsafe { Shared::open_or_create(&path, State::new) }.unwrap()
    };
    let (state, other) = (open(), open());
    // A filter may deny what `fork::spawn` needs.
    let dies = forked(|| {
        let _reads = state.table.read().unwrap();
        let _permits = [(); 2].map(|()| state.permits.acquire().unwrap());
        let mut count = state.count.lock().unwrap();
        *count += 1;
        state.hits.add(1);
        state.ready.set();
        loop {
            nix::unistd::pause();
        }
    });
    other.ready.wait();
    // It waits for the death, and for either permit.
    let waits = forked(|| {
        assert_eq!(outcome_of(other.count.lock()), Outcome::FreshDeath);
        drop(other.permits.acquire().unwrap());
        *other.table.write().unwrap() += 1;
        other.semaphore.post().unwrap();
    });
    let any = wait_any_timeout(&[&state.permits], Duration::from_millis(5));
    assert!(any.is_err());
    signal(dies, Signal::SIGKILL).unwrap();
    waitpid(dies, None).unwrap();
    assert_eq!(waitpid(waits, None), Ok(WaitStatus::Exited(waits, 0)));
    drop(state.semaphore.acquire().unwrap());
    assert_eq!((*state.table.read().unwrap(), state.hits.get()), (1, 1));
    std::thread::scope(|scope| {
        let locks = || assert!(matches!(outcome_of(state.count.lock()), Outcome::OldDeath));
        for _ in 0..2 {
            scope.spawn(locks);
        }
    });
    let sealed = Shared::memfd("state", SharedCounter::new(0)).unwrap();
    sealed.add(1);
    match pshared::fork::spawn(|| _ = state.hits.add(1)) {
        Ok(child) => passes(&child),
        Err(error) => assert!(error.to_string().contains("allow the call"), "{error}"),
    }
}

/// The last number of a system call in the table of Linux 5.0. Later calls have the same number on
/// all processors, from 424 on.
const LINUX_5_0: libc::c_long = 423;
const LINUX_6_18: libc::c_long = 470;

fn under_a_filter(rules: &[Rule]) {
    needs_filters();
    let directory = tempfile::tempdir().unwrap();
    passes(&child(|| {
        install(rules).unwrap();
        a_server_works(directory.path());
    }));
}

/// A profile that ends with the calls of Linux 5.0. `clone3` is missing rather than denied, because
/// a C library could not create a thread otherwise.
fn a_server_works_under_the_container_filters_of_2020() {
    under_a_filter(&[
        Rule::refuse(libc::SYS_clone3, libc::ENOSYS),
        Rule::refuse_all(LINUX_5_0 + 1, libc::c_long::from(i32::MAX), libc::EPERM),
        Rule::refuse(libc::SYS_process_vm_readv, libc::EPERM),
        Rule::refuse(libc::SYS_kcmp, libc::EPERM),
        Rule::refuse(libc::SYS_adjtimex, libc::EPERM),
    ]);
}

/// A profile that knows every call, and denies those that change mounts, keys or other processes.
fn a_server_works_under_the_container_filters_of_today() {
    let denied = [
        libc::SYS_mount,
        libc::SYS_fsopen,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
        libc::SYS_io_uring_setup,
        libc::SYS_userfaultfd,
        libc::SYS_bpf,
        libc::SYS_kcmp,
        libc::SYS_unshare,
        libc::SYS_setns,
    ];
    let mut rules = denied.map(|call| Rule::refuse(call, libc::EPERM)).to_vec();
    let unknown = Rule::refuse_all(LINUX_6_18, libc::c_long::from(i32::MAX), libc::ENOSYS);
    rules.push(unknown);
    under_a_filter(&rules);
}

fn a_server_works_with_a_proc_that_hides_other_users() {
    as_root();
    let directory = tempfile::tempdir().unwrap();
    let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(directory.path(), open_to_all).unwrap();
    passes(&child(|| {
        hide_others();
        become_unprivileged();
        a_server_works(directory.path());
    }));
}

/// systemd's `ProcSubset=pid`.
fn a_server_works_with_a_proc_of_processes_only() {
    as_root();
    let directory = tempfile::tempdir().unwrap();
    let _mounts = crate::disk::in_own_mounts();
    let (none, options) = (MsFlags::empty(), Some("subset=pid"));
    if let Err(errno) = mount(Some("proc"), "/proc", Some("proc"), none, options) {
        skip(&format!(
            "a /proc of processes only cannot be mounted: {errno}"
        ));
    }
    passes(&child(|| a_server_works(directory.path())));
}

/// A control group of this test's own.
struct Group(PathBuf);

impl Group {
    /// Creates a group with limits, or skips the test. `limits` are the names of files in the two
    /// versions of control groups, the first of which exists in either, and their values.
    fn with(controller: &str, limits: &[(&str, &str)]) -> Self {
        as_root();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let directory = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (directory, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
            let path = Path::new(directory);
            let has_controller = match kind {
                "cgroup" => options.split(',').any(|option| option == controller),
                "cgroup2" => fs::read_to_string(path.join("cgroup.subtree_control"))
                    .is_ok_and(|names| names.split_whitespace().any(|name| name == controller)),
                _ => false,
            };
            has_controller.then(|| path.to_path_buf())
        });
        let Some(directory) = directory else {
            skip(&format!(
                "no control groups with the {controller} controller"
            ));
        };
        let group = Group(directory.join(format!("pshared-test-{}", std::process::id())));
        if let Err(error) = fs::create_dir(&group.0) {
            skip(&format!("{}: {error}", group.0.display()));
        }
        let set = limits
            .iter()
            .filter(|(name, value)| fs::write(group.0.join(name), value).is_ok())
            .count();
        if set == 0 {
            drop(group);
            skip("no limit of a control group can be set");
        }
        group
    }

    /// Moves the calling process into the group.
    fn enter(&self) {
        let id = std::process::id().to_string();
        fs::write(self.0.join("cgroup.procs"), id).unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn a_holder_killed_for_want_of_memory_is_reported() {
    const LIMIT: usize = 32 << 20;
    let limit = LIMIT.to_string();
    let group = Group::with(
        "memory",
        &[
            ("memory.max", &limit),
            ("memory.swap.max", "0"),
            ("memory.limit_in_bytes", &limit),
        ],
    );
    let state = Shared::anonymous(State::new()).unwrap();
    let dies = child(|| {
        group.enter();
        let _count = state.count.lock().unwrap();
        state.ready.set();
        let memory = vec![1_u8; 8 * LIMIT];
        std::hint::black_box(memory);
    });
    state.ready.wait();
    assert_eq!(outcome_of(state.count.lock()), Outcome::FreshDeath);
    assert_eq!(dies.wait().unwrap().signal(), Some(libc::SIGKILL));
}

fn a_limit_of_processes_is_an_error_and_leaves_no_child() {
    let group = Group::with("pids", &[("pids.max", "1")]);
    let state = Shared::anonymous(State::new()).unwrap();
    let limited = child(|| {
        group.enter();
        match pshared::fork::spawn(|| _ = state.hits.add(1)) {
            Err(error) => assert!(error.to_string().contains("fork"), "{error}"),
            Ok(_) => panic!("a child in spite of the limit"),
        }
        *state.count.lock().unwrap() += 1;
    });
    passes(&limited);
    assert_eq!((state.hits.get(), *state.count.lock().unwrap()), (0, 1));
}

fn a_read_only_file_system_is_an_error_that_says_so() {
    let disk = Disk::new("tmpfs", "size=1m");
    let path = disk.path().join("state");
    // SAFETY: only this test uses the file.
    let made = unsafe { Shared::create(&path, SharedCounter::new(7)) }.unwrap();
    drop(made);
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, disk.path(), None::<&str>, flags, None::<&str>).unwrap();
    let says_so = |outcome: Result<Shared<SharedCounter>, pshared::Error>| {
        let error = outcome.expect_err("a map for writing").to_string();
        assert!(error.contains("Read-only file system"), "{error}");
    };
    // SAFETY: as above.
    unsafe {
        says_so(Shared::open(&path));
        says_so(Shared::open_or_create(&path, || SharedCounter::new(0)));
        says_so(Shared::create(
            path.with_extension("new"),
            SharedCounter::new(0),
        ));
    }
}
