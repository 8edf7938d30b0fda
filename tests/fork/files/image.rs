//! Disks in image files, for file systems that need a device.

use crate::disk::in_own_mounts;
use crate::harness::skip;
use crate::support::as_root;
use nix::fcntl::posix_fallocate;
use nix::mount::{MntFlags, umount2};
use std::path::Path;
use std::process::Command;
use std::{fs, io};
use tempfile::TempDir;

/// A directory with a disk of its own, visible only to this process and its children. Needs root.
pub struct ImageDisk(TempDir);

impl ImageDisk {
    /// A new image of `mebibytes`, which `mkfs.KIND OPTIONS` formats.
    pub fn new(kind: &str, options: &[&str], mebibytes: u64) -> Self {
        as_root();
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
        ImageDisk(directory)
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

impl Drop for ImageDisk {
    fn drop(&mut self) {
        // Unmounts before the directory is removed.
        let _ = umount2(self.path(), MntFlags::MNT_DETACH);
    }
}
