# shellcheck shell=bash
# Debian systems on this machine's kernel, and the build of the tests.

# The oldest suite. What its compiler links runs with every newer glibc.
oldest=bullseye

# The programs that tests run, so that they need not skip.
packages=btrfs-progs,e2fsprogs,kmod,libc-bin,xfsprogs
compilers=gcc,libc6-dev,gcc-aarch64-linux-gnu,libc6-dev-arm64-cross

# The address of the Debian mirror: a variable, or the first one that apt uses on this machine.
mirror() {
  local address=${PSHARED_MIRROR:-}
  if [ -z "$address" ] && command -v apt-get > /dev/null; then
    address=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' | grep -v security | sed -n 1p)
  fi
  [ -n "$address" ] || cannot 'apt knows no Debian mirror: set PSHARED_MIRROR to the address of one'
  printf '%s\n' "$address"
}

# Installs the Debian system NAME in $work/root, unless it is there. A system for another processor
# is unpacked and not configured, because this machine cannot run its programs.
debian() {
  local name=$1 suite=$2 architecture=$3 include=$packages
  local root=$work/root/$name options
  [ ! -e "$root.complete" ] || return 0
  need debootstrap
  [ "$name" != "$oldest" ] || include=$packages,$compilers
  options=(--variant=minbase "--arch=$architecture" "--include=$include")
  [ "$architecture" = amd64 ] || options+=(--foreign)
  say "installing Debian $suite, $architecture (some minutes)"
  rm -rf "$root"
  mkdir -p "$root"
  quietly debootstrap "${options[@]}" "$suite" "$root" "$(mirror)" \
    || cannot "debootstrap could not install $suite, $architecture"
  [ "$architecture" = amd64 ] || unpack_packages "$root"
  touch "$root.complete"
}

unpack_packages() {
  local root=$1 package
  for package in "$root"/var/cache/apt/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar --extract --keep-directory-symlink --directory "$root"
  done
  cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
  cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
}

# The folder of this machine's Rust toolchain.
rust() {
  (cd "$repository" && rustc --print sysroot)
}

# Runs a shell command in the Debian system NAME, with the sources at /src, the build at /target, and
# this machine's Rust. The system's folder becomes the root of a mount namespace: in a chroot, no
# process may make a user namespace. The mounts are private to the command and end with it.
in_debian() {
  local root=$work/root/$1 command=$2
  mkdir -p "$root"/{src,target,rust,cargo} "$work/target"
  unshare --mount --propagation private bash -euc '
    root=$1
    mount --bind "$root" "$root"
    mount --bind -o ro "$2/src" "$root/src"
    mount --bind "$2/target" "$root/target"
    mount --bind -o ro "$3" "$root/rust"
    mount --bind "$4" "$root/cargo"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount --rbind /sys "$root/sys"
    mount -t tmpfs tmpfs "$root/tmp"
    cd "$root"
    pivot_root . .
    umount --lazy .
    cd /src
    exec /usr/bin/env -i HOME=/root TERM=dumb LANG=C.UTF-8 \
      PATH=/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
      CARGO_HOME=/cargo CARGO_TARGET_DIR=/target CARGO_TERM_COLOR=never CARGO_NET_OFFLINE=true \
      sh -euc "$5"
  ' mounts "$root" "$work" "$(rust)" "${CARGO_HOME:-$HOME/.cargo}" "$command" < /dev/null 9>&-
}

# Copies the sources to $work/src, so that a row tests one state of them. The times of the files
# remain, so that cargo compiles only what has changed. Records the commit, with a `+` if the sources
# differ from it.
copy_sources() {
  local new=$work/src.new
  rm -rf "$new"
  mkdir -p "$new"
  "$repository/.ci/copy-sources" "$new"
  rm -rf "$work/src"
  mv "$new" "$work/src"
  git -C "$repository" describe --always --abbrev=8 --exclude '*' --dirty=+ > "$work/commit"
}

triple() {
  case $1 in
    amd64) echo x86_64-unknown-linux-gnu ;;
    arm64) echo aarch64-unknown-linux-gnu ;;
  esac
}

# Compiles the tests and the examples for an architecture, in the oldest suite. Lists the programs in
# $work/target/programs-ARCHITECTURE, as NAME PATH. They are optimized a little, because emulated
# processors are slow.
build() {
  local architecture=$1 triple output
  triple=$(triple "$architecture")
  output=$work/logs/build-$architecture
  need rustc cargo git unshare pivot_root
  [ "$(id -u)" = 0 ] || cannot 'it needs root, for debootstrap and mounts'
  [ "$(uname -m)" = x86_64 ] || cannot 'it needs an x86-64 machine'
  [ -d "$(rust)/lib/rustlib/$triple" ] \
    || cannot "Rust's library for $triple is missing: rustup target add $triple"
  debian "$oldest" "$oldest" amd64
  mkdir -p "$work/target/tmp"
  copy_sources
  say "compiling the tests for $architecture"
  (cd "$work/src" && quietly cargo fetch --locked) || cannot 'cargo fetch failed'
  in_debian "$oldest" "
    export CARGO_BUILD_TARGET=$triple CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_OPT_LEVEL=1
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    cargo test --locked --no-run -p pshared --lib --test it --test fork
    cargo build --locked -p pshared --examples
    cargo build --locked -p pshared-platforms" > "$output" 2>&1 \
    || { tail -n 40 "$output" >&2; cannot "the tests do not compile: see $output"; }
  {
    sed -n 's/^ *Executable.*src\/lib\.rs (\(.*\))$/lib \1/p
      s/^ *Executable.*tests\/\([a-z]*\)\/main\.rs (\(.*\))$/\1 \2/p' "$output"
    echo "counter /target/$triple/debug/examples/counter"
    echo "robust-unlock /target/$triple/debug/robust-unlock"
  } > "$work/target/programs-$architecture"
}

# A row: the tests in a Debian system, on this machine's kernel.
row_debian() {
  local suite=$1
  take_lock
  build amd64
  debian "$suite" "$suite" amd64
  in_debian "$suite" 'sh tests/platforms/lib/guest /target/programs-amd64' 2>&1 | tee "$log" | progress \
    || true
  report "Debian $suite"
}

# A row: processes of three suites share one file, in peace and under kills.
row_shared_file() {
  local program file=/target/tmp/shared-file
  local mode suite party parties versions kills reports outcome=exact
  program=/target/$(triple amd64)/debug/shared-file
  take_lock
  build amd64
  for suite; do debian "$suite" "$suite" amd64; done
  : > "$log"
  for mode in peace kills kills kills kills kills; do
    say "$mode"
    rm -f "$work$file"
    parties=()
    for suite; do
      party=$((${#parties[@]} + 1))
      in_debian "$suite" "exec timeout 900 $program $file $mode $party" >> "$log" 2>&1 &
      parties+=($!)
    done
    for party in "${parties[@]}"; do
      wait "$party" || outcome=WRONG
    done
    in_debian "$1" "exec timeout 60 $program $file $mode check" >> "$log" 2>&1 || outcome=WRONG
  done
  rm -f "$work$file"
  kills=$(sed -n 's/^total: \([0-9]*\) kills.*/\1/p' "$log" | paste -s -d +)
  reports=$(sed -n 's/^total: .* \([0-9]*\) reports$/\1/p' "$log" | paste -s -d +)
  versions=$(sed -n 's/^party .: glibc //p' "$log" | sort -u | paste -s -d ' ')
  table_line "${#parties[@]} glibcs, one file" "$(uname -r)" "$versions" "$(uname -m)" – – – \
    "shared-file: $outcome, $((kills)) kills, $((reports)) reports of a death"
  [ "$outcome" = exact ] || { say "it failed: see $log"; exit 1; }
}
