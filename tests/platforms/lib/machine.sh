# shellcheck shell=bash
# Virtual machines: Debian kernels, which qemu runs with two emulated processors.

# Downloads Debian packages of some suites to $work/packages/$row, with a state of apt that is not
# this machine's. Packages that the suites do not have are left out.
fetch() {
  local suites=$1 architecture=$2 folder=$work/packages/$row suite package
  shift 2
  need apt-get apt-cache dpkg-deb
  mkdir -p "$folder"/apt/{lists/partial,cache/archives/partial}
  : > "$folder/apt/status"
  for suite in $suites; do
    echo "deb [arch=$architecture signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]" \
      "$(mirror) $suite main"
  done > "$folder/apt/sources"
  apt_options=(
    -o "Dir::State::lists=$folder/apt/lists" -o "Dir::State::status=$folder/apt/status"
    -o "Dir::Cache=$folder/apt/cache" -o "Dir::Etc::sourcelist=$folder/apt/sources"
    -o Dir::Etc::sourceparts=/dev/null -o "APT::Architecture=$architecture"
    -o "APT::Architectures=$architecture" -o APT::Sandbox::User=root
    -o Acquire::Languages=none -o Acquire::Check-Valid-Until=false
  )
  if [ ! -e "$folder/apt/complete" ]; then
    say "reading the list of packages of $suites, $architecture"
    quietly apt-get "${apt_options[@]}" update || cannot "apt-get update failed for $suites"
    touch "$folder/apt/complete"
  fi
  for package; do
    compgen -G "$folder/${package}_*.deb" > /dev/null && continue
    [ -n "$(apt-cache "${apt_options[@]}" show "$package" 2> /dev/null)" ] || continue
    (cd "$folder" && quietly apt-get "${apt_options[@]}" download "$package") \
      || cannot "apt-get download $package failed"
  done
}

# Downloads the newest kernel of some suites and unpacks it to $work/kernel/$row. Sets `kernel` to its
# release. Debian's `cloud` kernels have ext4 built in.
kernel() {
  local suites=$1 architecture=$2 folder=$work/kernel/$row package
  fetch "$suites" "$architecture" busybox-static
  kernel=$(apt-cache "${apt_options[@]}" show "linux-image-cloud-$architecture" \
    | grep -o 'linux-image-[0-9][^ ,]*' | sort -V | tail -n 1)
  kernel=${kernel#linux-image-}
  [ -n "$kernel" ] || cannot "$suites has no kernel for $architecture"
  # Debian splits the package in three since Linux 7.3.
  fetch "$suites" "$architecture" "linux-"{image,binary,modules}"-$kernel"
  [ ! -e "$folder/$kernel.complete" ] || return 0
  say "unpacking Linux $kernel"
  rm -rf "$folder"
  mkdir -p "$folder"
  for package in "$work/packages/$row"/{linux-*-"$kernel",busybox-static}_*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar --extract --directory "$folder"
  done
  find "$folder" -name busybox -type f -exec mv {} "$folder/busybox" \;
  find "$folder" \( -name vmlinuz -o -name "vmlinuz-$kernel" \) -type f -exec mv {} "$folder/vmlinuz" \;
  find "$folder" -path "*/modules/$kernel" -type d -prune -exec mv {} "$folder/modules" \;
  touch "$folder/$kernel.complete"
}

# Makes the initial file system: it loads the modules of the disk and runs /run-tests from there.
initial() {
  local tree=$work/machine/$row.initial folder=$work/kernel/$row file module
  rm -rf "$tree"
  mkdir -p "$tree"/{modules,new,dev}
  cp "$folder/busybox" "$tree/"
  : > "$tree/modules/order"
  for module in virtio virtio_ring virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk; do
    file=$(find "$folder/modules" -name "$module.ko*" | sed -n 1p)
    case $file in
      '') continue ;; # It is built in.
      *.xz) xz --decompress --stdout "$file" ;;
      *.zst) zstd --decompress --stdout "$file" ;;
      *) cat "$file" ;;
    esac > "$tree/modules/$module.ko"
    echo "$module" >> "$tree/modules/order"
  done
  cat > "$tree/init" <<'INIT'
#!/busybox sh
/busybox mount -t devtmpfs dev /dev
for module in $(/busybox cat /modules/order); do /busybox insmod "/modules/$module.ko"; done
tries=0
while [ ! -b /dev/vda ] && [ "$tries" -lt 300 ]; do /busybox sleep 0.1; tries=$((tries + 1)); done
/busybox mount -t ext4 /dev/vda /new
/busybox umount /dev
[ ! -x /new/run-tests ] || exec /busybox switch_root /new /run-tests
/busybox poweroff -f
INIT
  chmod +x "$tree/init"
  (cd "$tree" && find . | cpio --create --format=newc --quiet | gzip -1) > "$work/machine/$row.cpio.gz"
}

# Makes the disk of a virtual machine: a Debian system, the sources, the tests, the modules.
disk() {
  local system=$1 architecture=$2 tree=$work/machine/$row.tree triple program
  triple=$(triple "$architecture")
  rm -rf "$tree"
  mkdir -p "$tree"
  tar --create --one-file-system --directory "$work/root/$system" \
    --exclude=./{src,target,rust,cargo,proc,sys,dev,tmp,run} --exclude=./var/{cache,lib/apt} \
    --exclude=./usr/lib/gcc* --exclude=./usr/share/{doc,locale,man} . \
    | tar --extract --directory "$tree"
  mkdir -p "$tree"/{proc,sys,dev,run,tmp,target/tmp,usr/lib/modules}
  cp -a "$work/src" "$tree/src"
  cp -a "$work/kernel/$row/modules" "$tree/usr/lib/modules/$kernel"
  depmod -b "$tree" "$kernel"
  cp "$work/kernel/$row/busybox" "$tree/"
  cp "$work/target/programs-$architecture" "$tree/target/programs"
  mkdir -p "$tree/target/$triple/debug"/{deps,examples}
  for program in "$work/target/$triple/debug/examples"/*; do
    case $program in
      *.d | *-????????????????) ;; # The same programs under the names that cargo gives them.
      *) cp -p "$program" "$tree/target/$triple/debug/examples/" ;;
    esac
  done
  while read -r _ program; do
    cp -p "$work$program" "$tree$program"
  done < "$work/target/programs-$architecture"
  cat > "$tree/run-tests" <<'TESTS'
#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo '+memory +pids' > /sys/fs/cgroup/cgroup.subtree_control
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs tmpfs /tmp
/busybox ip link set lo up
modprobe --all loop fuse btrfs xfs
export PSHARED_KILLS=$(cat /kills)
sh /src/tests/platforms/lib/guest /target/programs
sync
exec /busybox poweroff -f
TESTS
  chmod +x "$tree/run-tests"
  # Emulated processors are slow, so each test of kills makes fewer.
  echo "${PSHARED_KILLS:-300}" > "$tree/kills"
  quietly mkfs.ext4 -q -F -d "$tree" "$work/machine/$row.ext4" 3G
}

# A row: the tests on a Debian kernel, in a virtual machine.
row_machine() {
  local title=$1 suite=$2 kernel_suites=$3 architecture=$4 system=$2 emulator options
  local arguments='panic=-1 quiet loglevel=3'
  case $architecture in
    amd64)
      emulator=qemu-system-x86_64
      options=(-cpu max -append "console=ttyS0 mitigations=off tsc=reliable $arguments")
      ;;
    arm64)
      emulator=qemu-system-aarch64
      system=$suite-arm64
      options=(-M virt -cpu cortex-a72 -append "console=ttyAMA0 $arguments")
      ;;
  esac
  need "$emulator" mkfs.ext4 cpio xz zstd depmod timeout
  take_lock
  build "$architecture"
  debian "$system" "$suite" "$architecture"
  kernel "$kernel_suites" "$architecture"
  mkdir -p "$work/machine"
  trap 'rm -rf "$work/machine/$row".*' EXIT
  say "making the disk"
  initial
  disk "$system" "$architecture"
  say "booting Linux $kernel (the tests take 5 to 30 minutes)"
  timeout "${PSHARED_LIMIT:-3600}" "$emulator" "${options[@]}" -accel tcg,thread=multi -smp 2 -m 2500 \
    -nographic -nodefaults -serial stdio -no-reboot \
    -kernel "$work/kernel/$row/vmlinuz" -initrd "$work/machine/$row.cpio.gz" \
    -drive "file=$work/machine/$row.ext4,if=virtio,format=raw,cache=unsafe" < /dev/null 2>&1 9>&- \
    | sed --unbuffered 's|\r$||' | tee "$log" | progress || true
  report "$title"
}
