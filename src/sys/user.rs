//! The user ids of files and processes, as the process's user namespace shows them.

use std::fs;

/// Returns the effective user id. This user owns the files that the process creates.
pub(crate) fn effective_user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Returns whether `user` may stand for a user that has no id in this process's user namespace. The
/// kernel shows the overflow id for every such user.
pub(crate) fn may_be_unmapped(user: u32) -> bool {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    // The kernel's default, if /proc does not show the number.
    const OVERFLOW: u32 = 65534;
    let overflow = read("/proc/sys/kernel/overflowuid").trim().parse();
    user == overflow.unwrap_or(OVERFLOW) && !maps(&read("/proc/self/uid_map"), user)
}

/// Returns whether a `uid_map` file assigns the id to a user; see user_namespaces(7).
fn maps(uid_map: &str, user: u32) -> bool {
    uid_map.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().map(str::parse::<u32>);
        match (fields.next(), fields.next(), fields.next()) {
            (Some(Ok(first)), Some(_), Some(Ok(count))) => {
                user.checked_sub(first).is_some_and(|index| index < count)
            }
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_map_is_read_as_the_kernel_writes_it() {
        assert!(maps("         0          0 4294967295\n", 65534));
        assert!(!maps("         0       1000          1\n", 65534));
        let two = "         0       1000          1\n     65000     100000        535\n";
        assert!(maps(two, 65534) && !maps(two, 65535) && maps(two, 0) && !maps(two, 1));
        assert!(!maps("", 0));
    }
}
