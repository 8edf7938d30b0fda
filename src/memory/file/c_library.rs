//! The C library of the programs that use a file.
//!
//! A `sem_t` and a `pthread_mutex_t` have another layout in each C library, and glibc and musl
//! differ in how a thread's robust list is registered. So a file belongs to one of them. The
//! directory of a file of musl ends with a line that says so, and the fingerprint covers it. A file
//! of glibc has no such line.

/// A C library that this crate supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CLibrary {
    Glibc,
    Musl,
}

impl CLibrary {
    /// The C library of this program.
    pub(super) const OWN: Self = match cfg!(target_env = "musl") {
        true => CLibrary::Musl,
        false => CLibrary::Glibc,
    };

    /// Returns the C library of the programs that use a file with this directory.
    pub(super) fn of(directory: &str) -> Self {
        match directory.ends_with(CLibrary::Musl.line()) {
            true => CLibrary::Musl,
            false => CLibrary::Glibc,
        }
    }

    /// Returns the lines of a directory that describe the value.
    pub(super) fn layout_in(directory: &str) -> &str {
        let line = Self::of(directory).line();
        directory.strip_suffix(line).unwrap_or(directory)
    }

    /// Returns the last line of a directory, or nothing. It has the form of the other lines.
    pub(super) fn line(self) -> &'static str {
        match self {
            CLibrary::Glibc => "",
            CLibrary::Musl => "0 0 library:musl \n",
        }
    }

    /// Returns the name, for an error.
    pub(super) fn name(self) -> &'static str {
        match self {
            CLibrary::Glibc => "glibc",
            CLibrary::Musl => "musl",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_shows_its_c_library() {
        for library in [CLibrary::Glibc, CLibrary::Musl] {
            let directory = format!("0 8 u64 \n{}", library.line());
            assert_eq!(CLibrary::of(&directory), library);
            assert_eq!(CLibrary::layout_in(&directory), "0 8 u64 \n");
        }
    }
}
