//! File systems of a test's own, in a mount namespace that the test enters. They are small, so that
//! a test can fill them.

use crate::harness::skip;
use nix::fcntl::posix_fallocate;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};
use std::path::Path;
use std::process::Command;
use std::{fs, io};
use tempfile::TempDir;

/// Moves the process into new namespaces. A process that is not root also enters a new user
/// namespace.
pub fn enter_new(namespaces: CloneFlags) -> io::Result<()> {
    let (user, group) = (geteuid(), getegid());
    if user.is_root() {
        return Ok(unshare(namespaces)?);
    }
    unshare(namespaces | CloneFlags::CLONE_NEWUSER)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

/// A directory with a file system of its own, visible only to this process and its children.
pub struct Disk(TempDir);

impl Disk {
    pub fn new(kind: &str, options: &str) -> Self {
        let directory = in_own_mounts();
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        if let Err(errno) = mount(
            Some("none"),
            directory.path(),
            Some(kind),
            flags,
            Some(options),
        ) {
            drop(directory);
            skip(&format!("{kind} cannot be mounted: {errno}"));
        }
        Disk(directory)
    }

    /// A disk on a new image file of `mebibytes`, which `mkfs.KIND OPTIONS` formats. Needs root.
    pub fn on_image(kind: &str, options: &[&str], mebibytes: u64) -> Self {
        crate::support::as_root();
        let directory = in_own_mounts();
        // The mounted file system keeps the image, which loses its name here.
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(mebibytes << 20).unwrap();
        let mut format = Command::new(format!("mkfs.{kind}"));
        let mut mount = Command::new("mount");
        format.args(options).arg(image.path());
        mount.args(["-o", "loop", "-t", kind]);
        mount.arg(image.path()).arg(directory.path());
        for command in [&mut format, &mut mount] {
            let outcome = command.output();
            if !(outcome.as_ref()).is_ok_and(|output| output.status.success()) {
                drop(directory);
                skip(&format!("{command:?}: {outcome:?}"));
            }
        }
        Disk(directory)
    }

    /// Takes all space of the disk, except less than 64 KiB.
    pub fn fill(&self) {
        for size in [16 << 20, 1 << 20, 64 << 10] {
            for number in 0.. {
                let path = self.path().join(format!("filler-{size}-{number}"));
                let written = fs::File::create(path).and_then(|file| {
                    posix_fallocate(&file, 0, size).map_err(io::Error::from)?;
                    file.sync_all()
                });
                match written {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Moves the process into mount namespaces of its own. Returns a directory to mount something on.
fn in_own_mounts() -> TempDir {
    if let Err(error) = enter_new(CloneFlags::CLONE_NEWNS) {
        skip(&format!("a mount namespace is not permitted here: {error}"));
    }
    let directory = tempfile::tempdir().unwrap();
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    directory
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Unmounts before the directory is removed.
        let _ = umount2(self.path(), MntFlags::MNT_DETACH);
    }
}
