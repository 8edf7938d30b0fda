# shellcheck shell=bash
# What every row needs: its folders, its log, and its line of the table.

set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
row=$(basename "$0")
work=${PSHARED_PLATFORMS:-${CARGO_TARGET_DIR:-$repository/target}/platforms}
mkdir -p "$work"/{logs,lines}
work=$(cd "$work" && pwd)
log=$work/logs/$row
line=$work/lines/$row

say() {
  printf '%s  %-12s  %s\n' "$(date +%H:%M:%S)" "$row" "$*" >&2
}

# Ends the row, which cannot run here.
cannot() {
  say "cannot run: $*"
  printf '| %s | cannot run: %s | | | | | | | | |\n' "$row" "${*//"$work/"/}" > "$line"
  exit 2
}

need() {
  local command
  for command; do
    command -v "$command" > /dev/null || cannot "the command $command is missing: see README.md"
  done
}

# Runs a command and shows the end of its output only if it fails.
quietly() {
  local output
  output=$(mktemp --tmpdir="$work")
  if ! "$@" > "$output" 2>&1 < /dev/null; then
    tail -n 30 "$output" >&2
    rm "$output"
    return 1
  fi
  rm "$output"
}

# One row runs at a time: the rows share the sources, the build and the processors. The lock ends
# with the process of the row.
take_lock() {
  exec 9> "$work/lock"
  flock --nonblock 9 || { say 'waiting for another row'; flock 9; }
}

# Reads the output of tests. Shows which program runs and, on a terminal, how many tests have ended.
progress() {
  local text ended=0
  while IFS= read -r text; do
    case $text in
      '== run '*) say "running ${text#== run }" ;;
      'test '*)
        ended=$((ended + 1))
        [ ! -t 2 ] || printf '%s tests\r' "$ended" >&2
        ;;
    esac
  done
}

# What a program printed.
section() {
  sed -n "/^== run $1$/,/^== end $1 /p" "$log"
}

# The number before a word in the line `test result` of a program.
count() {
  section "$1" | sed -n "s/^test result: .* \([0-9]*\) $2.*/\1/p" | tail -n 1
}

# Passed, failed and skipped tests of a program, or that it did not end.
counts() {
  local passed failed skipped
  passed=$(count "$1" passed) failed=$(count "$1" failed)
  skipped=$(section "$1" | grep -oE 'SKIPPED [a-z0-9_:]+: ' | wc -l || true)
  if [ -n "$passed" ]; then
    echo "$((passed - skipped)) / $failed / $skipped"
  else
    echo 'no result'
  fi
}

# A value that the script `guest` printed.
fact() {
  sed -n "s/^== $1 //p" "$log" | tail -n 1
}

# Writes and prints the line of the table: the platform, kernel, glibc and processor, the results of
# the three test programs, and that of another program.
table_line() {
  local cells=("$1" "$2" "$3" "$4" "$(date +%F)" "$(cat "$work/commit")" "$5" "$6" "$7" "$8")
  { printf '| %s ' "${cells[@]}"; echo '|'; } | tee "$line"
}

# Reads the log, prints the line of the table, and ends the row.
report() {
  local title=$1 example='counter: failed'
  [ -n "$(fact kernel)" ] || cannot "no test ran: see $log"
  ! grep -qx '== end counter 0' "$log" || example='counter: ok'
  table_line "$title" "$(fact kernel)" "$(fact glibc)" "$(fact machine)" \
    "$(counts lib)" "$(counts it)" "$(counts fork)" "$example"
  sed -n 's/^.*SKIPPED \([a-z0-9_:]*: \)/skipped: \1/p
    /^failures:$/,/^test result/s/^    \([a-z0-9_:]*\)$/failed: \1/p' "$log" >&2
  [ "$(grep -cE '^== end (lib|it|fork|counter) 0$' "$log")" = 4 ] \
    || { say "tests failed: see $log"; exit 1; }
}

# shellcheck source=debian.sh source=machine.sh
source "$repository/tests/platforms/lib/debian.sh"
source "$repository/tests/platforms/lib/machine.sh"
