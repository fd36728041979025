#!/usr/bin/env bash
# Checks the man pages: they format without a warning, and name every option that the programs know.
#
#   docs/man/check.sh [DIRECTORY-OF-THE-PROGRAMS]
#
# Exit status 77 = skipped: man or groff is not there.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
programs=${1:-$here/../../build/bin}
failures=0

complain() {
  echo "FAILED: $*"
  failures=$((failures + 1))
}

if ! command -v man >/dev/null || ! command -v groff >/dev/null; then
  echo "SKIP: man and groff are needed to check man pages (Debian: man-db, groff-base)"
  exit 77
fi

for page in "$here"/*.[1-8]; do
  warnings=$(MANROFFSEQ='' MANWIDTH=80 LC_ALL=C.UTF-8 man --warnings -E UTF-8 -l "$page" 2>&1 >/dev/null)
  [[ -z $warnings ]] || complain "$(basename "$page"): $warnings"
done

# Long options of "PROGRAM ARGUMENTS... --help" must be in the page.
check_options() {
  local page=$1 program=$2 option text
  shift 2
  if [[ ! -x $programs/$program ]]; then
    echo "not built, its options are not checked: $program"
    return
  fi
  text=$(sed 's/\\-/-/g; s/Fl -/--/g' "$here/$page")
  for option in $("$programs/$program" "$@" 2>&1 | grep -oE '^ *(-[a-z],)?--[a-z-]+' | grep -oE -- '--[a-z-]+'); do
    grep -qF -- "$option" <<<"$text" || complain "$page does not name $option of $program $*"
  done
}
check_options ballastd.8 ballastd --help
check_options ballast.1 ballast --help
for command in run ls top show why host events set whatif options reserve unreserve reclaim resume doctor version; do
  check_options ballast.1 ballast "$command" --help
done
check_options ballast-qemu.1 ballast-qemu --ballast-help
check_options ballast-sim.1 ballast-sim --help

# Every key of the shipped configuration is in the page of the file, every option in the daemon's.
shipped=$here/../../packaging/ballast.toml
while read -r key; do
  grep -q "^\.It Cm $key\b" "$here/ballast.toml.5" || complain "ballast.toml.5 does not name $key"
done < <(sed -nE 's/^# ([a-z_]+) = .*/\1/p' "$shipped")
while read -r option; do
  grep -q "^\.It Cm ${option/./\\.}\b" "$here/ballastd.8" || complain "ballastd.8 does not name $option"
done < <(sed -nE 's/^# "([A-Za-z.]+)" = .*/\1/p' "$shipped")

[[ $failures -eq 0 ]] || exit 1
echo "man pages: ok"
