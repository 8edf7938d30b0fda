//! The processes below a process: finds them by their ids, ends them, and describes their threads.

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::fmt::Write as _;
use std::fs;

/// Waits 2 ms between two checks of processes that cannot be waited for. No test depends on this
/// time for its order.
pub fn pause() {
    let _ = nix::poll::poll(&mut [], nix::poll::PollTimeout::from(2u8));
}

/// Returns the ids of all processes below `root`.
pub fn descendants(root: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(process) = open.pop() {
        for child in children(process) {
            found.push(child);
            open.push(child);
        }
    }
    found
}

/// Returns the ids of the children of a process.
pub fn children(process: Pid) -> impl Iterator<Item = Pid> {
    tasks(process).flat_map(|task| {
        let children = fs::read_to_string(task.join("children")).unwrap_or_default();
        let ids: Vec<_> = children
            .split_whitespace()
            .filter_map(|id| id.parse().ok())
            .map(Pid::from_raw)
            .collect();
        ids
    })
}

fn tasks(process: Pid) -> impl Iterator<Item = std::path::PathBuf> {
    let tasks = fs::read_dir(format!("/proc/{process}/task"));
    tasks
        .into_iter()
        .flatten()
        .flatten()
        .map(|task| task.path())
}

/// Kills and reaps the processes that a test left running.
pub fn end_descendants(root: Pid) {
    loop {
        let left = descendants(root);
        if left.is_empty() {
            return;
        }
        for process in left {
            let _ = kill(process, Signal::SIGKILL);
            let _ = waitpid(process, Some(WaitPidFlag::WNOHANG));
        }
        pause();
    }
}

/// Kills a test's process after all of its descendants.
pub fn end_tree(root: Pid) {
    let _ = kill(root, Signal::SIGSTOP);
    for process in descendants(root) {
        let _ = kill(process, Signal::SIGKILL);
    }
    let _ = kill(root, Signal::SIGKILL);
}

/// Describes what each thread of the process, and of its descendants, is doing.
pub fn describe_threads(root: Pid) -> String {
    let mut report = String::new();
    for process in std::iter::once(root).chain(descendants(root)) {
        for task in tasks(process) {
            let read = |file: &str| {
                let text = fs::read_to_string(task.join(file)).unwrap_or_default();
                text.trim().to_string()
            };
            let state = read("status");
            let state = state.lines().find(|line| line.starts_with("State:"));
            let thread = task.file_name().unwrap_or_default();
            let _ = writeln!(
                report,
                "  process {process} thread {}: {}, in {}, system call {}",
                thread.to_string_lossy(),
                state.unwrap_or("State: ?"),
                read("wchan"),
                read("syscall"),
            );
        }
    }
    report
}
