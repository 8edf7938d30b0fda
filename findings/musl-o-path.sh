#!/usr/bin/env bash
# On musl, the `custom_flags` of `std::fs::OpenOptions` drop `O_PATH`. So a program that means to
# name a file without opening it opens the file: it waits for the other end of a FIFO, starts a
# device, and follows no rule that `O_PATH` promises.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "musl-o-path"
version = "0.0.0"
edition = "2021"

[dependencies]
libc = "=0.2.189"
TOML
cat >src/main.rs <<'RUST'
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

fn main() {
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(libc::O_PATH).open("Cargo.toml").unwrap();
    // SAFETY: the call takes integers.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    // The number is that of Linux; musl's `O_PATH` is the same.
    println!("{}", flags & 0o10000000 != 0);
}
RUST

musl=$(uname -m)-unknown-linux-musl
cargo build --quiet
cargo build --quiet --target "$musl"
glibc_keeps=$(target/debug/musl-o-path)
musl_keeps=$("target/$musl/debug/musl-o-path")

echo "Linux $(uname -r), $(rustc --version)"
echo 'expected: the descriptor has O_PATH with every C library'
echo "found: with glibc $glibc_keeps, with musl $musl_keeps"
echo 'source: std removes the bits of O_ACCMODE from custom_flags, and the O_ACCMODE of musl is'
echo '03 | O_SEARCH, where O_SEARCH is O_PATH (include/fcntl.h)'
[ "$glibc_keeps" = true ] && [ "$musl_keeps" = false ]
echo 'as described'
