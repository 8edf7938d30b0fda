//! System call filters, as sandboxes and containers install them.

use nix::sys::prctl;
use std::io;

/// Makes the system call fail with `EPERM` in this process from now on.
pub fn deny(call: libc::c_long) -> io::Result<()> {
    install(&[Rule::refuse(call, libc::EPERM)])
}

/// Makes the system call kill this process from now on.
pub fn kill_on(call: libc::c_long) -> io::Result<()> {
    install(&[Rule {
        action: libc::SECCOMP_RET_KILL_PROCESS,
        ..Rule::refuse(call, 0)
    }])
}

/// Skips the test if this process may not install filters.
pub fn needs_filters() {
    let probe = crate::support::child(|| deny(libc::SYS_acct).unwrap());
    if !probe.wait().expect("no status").success() {
        crate::harness::skip("seccomp filters are not permitted here");
    }
}

/// What a filter does with some system calls.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    first: libc::c_long,
    last: libc::c_long,
    action: u32,
}

impl Rule {
    /// The call fails.
    pub fn refuse(call: libc::c_long, errno: i32) -> Self {
        Rule::refuse_all(call, call, errno)
    }

    /// All calls with these numbers fail.
    pub fn refuse_all(first: libc::c_long, last: libc::c_long, errno: i32) -> Self {
        let action = libc::SECCOMP_RET_ERRNO | errno.cast_unsigned();
        Rule {
            first,
            last,
            action,
        }
    }
}

/// Installs a filter for this process. The first rule that names a call decides, and the filter
/// allows a call that no rule names.
pub fn install(rules: &[Rule]) -> io::Result<()> {
    let statement = |code, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let jump = |code, jt, jf, call| {
        let code = libc::BPF_JMP | code | libc::BPF_K;
        statement(code, jt, jf, call as u32)
    };
    let give = |action| statement(libc::BPF_RET | libc::BPF_K, 0, 0, action);
    // The call's number is the first word of the data that a filter reads.
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let mut filter = vec![statement(load, 0, 0, 0)];
    for rule in rules {
        filter.extend([
            jump(libc::BPF_JGE, 0, 2, rule.first),
            jump(libc::BPF_JGT, 1, 0, rule.last),
            give(rule.action),
        ]);
    }
    filter.push(give(libc::SECCOMP_RET_ALLOW));
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    prctl::set_no_new_privs()?;
    // SAFETY: the program has as many statements as it states; the kernel copies it.
    let answer = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    match answer {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
