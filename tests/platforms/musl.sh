#!/usr/bin/env bash
# Builds the library and its tests for musl, runs them, and checks that programs of glibc and of
# musl do not open each other's files. The programs are static, so they run beside glibc.
#
# It needs a Linux of glibc, rustup, and `rustup target add x86_64-unknown-linux-musl` (which it runs
# if the target is missing). Arguments go to the tests: `tests/platforms/musl.sh thread_identity`.
set -euo pipefail
cd "$(dirname "$0")/../.."

triple=$(uname -m)-unknown-linux-musl
rustup target list --installed | grep --quiet "^$triple$" || rustup target add "$triple"

# The library's own tests need no C compiler, because Rust's target contains musl.
cargo test --target "$triple" --package pshared --lib --examples
cargo test --target "$triple" --package pshared --test it -- "$@"
cargo test --target "$triple" --package pshared --test fork -- "$@"

# An example of each C library makes a file. That of the other one must refuse it, give the reason,
# and leave it as it is.
cargo build --example writer
cargo build --example writer --target "$triple"
target=${CARGO_TARGET_DIR:-target}
glibc=$target/debug/examples/writer
musl=$target/$triple/debug/examples/writer
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

refuses() {
  local made_by=$1 opened_by=$2 file=$3 found=$4 expected=$5
  "$made_by" --messages 1 "$file"
  "$made_by" --messages 1 "$file"
  cp "$file" "$file.before"
  local output
  if output=$("$opened_by" --messages 1 "$file" 2>&1); then
    echo "$expected opened the file of $found" >&2
    return 1
  fi
  case $output in
    *"created by a program with $found, and this program has $expected"*) ;;
    *)
      echo "another refusal: $output" >&2
      return 1
      ;;
  esac
  cmp "$file" "$file.before"
  echo "$expected refuses the file of $found: $output"
}

refuses "$glibc" "$musl" "$folder/of-glibc" glibc musl
refuses "$musl" "$glibc" "$folder/of-musl" musl glibc
