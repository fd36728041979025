#!/usr/bin/env bash
# Tries the completions in the shells that are there.
#
#   packaging/completions/check.sh [DIRECTORY-OF-THE-PROGRAMS]
#
# Exit status 77 = skipped: the programs are not built.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
programs=$(cd "${1:-$here/../../build/bin}" && pwd) || exit 77
for program in ballast ballastd ballast-qemu; do
  [[ -x $programs/$program ]] || { echo "SKIP: $program is not built"; exit 77; }
done
export PATH=$programs:$PATH BALLAST_RUN_DIR=/nonexistent
failures=0

expect() { # shell, command line, a candidate, all candidates
  grep -qxF -- "$3" <<<"$4" && return
  echo "FAILED in $1: '$2' does not offer '$3' but:"
  echo "$4"
  failures=$((failures + 1))
}

# Each prints what its shell offers for a command line.
in_bash() {
  bash -c '
    source "$1"
    compopt() { :; } # only known inside a completion
    COMP_LINE=$2 COMP_POINT=${#2}
    # As readline cuts it.
    read -ra COMP_WORDS <<<"${2//=/ = }"
    [[ $2 == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    "_${COMP_WORDS[0]//-/_}"
    printf "%s\n" "${COMPREPLY[@]}"' bash "$here/ballast.bash" "$1"
}
in_fish() { fish -N -c "source '$here/ballast.fish'; complete -C '$1'" | cut -f1; }
in_zsh() { # compadd, replaced, tells what would be offered
  zsh -f -c '
    compadd() {
      local name=${argv[-1]}
      print -rl -- ${(P)name}
    }
    _files() { :; }
    service=${${(z)1}[1]} words=(${(z)1})
    [[ $1 == *" " ]] && words+=("")
    CURRENT=$#words
    _arguments() { for one; do print -r -- ${one%%\[*}; done; }
    _alternative() { print -rl -- ${(z)${${1#*\(}%\)}}; }
    source $2' zsh "$1" "$here/_ballast"
}

for shell in bash zsh fish; do
  if ! command -v "$shell" >/dev/null; then
    echo "not here, its completion is not tried: $shell"
    continue
  fi
  expect $shell 'ballast wh' whatif "$("in_$shell" 'ballast wh')"
  expect $shell 'ballast events --f' --follow "$("in_$shell" 'ballast events --f')"
  expect $shell 'ballast set web1 --shares ' normal "$("in_$shell" 'ballast set web1 --shares ')"
  expect $shell 'ballast options Mem.IdleT' Mem.IdleTax= "$("in_$shell" 'ballast options Mem.IdleT')"
  expect $shell 'ballast-qemu --ballast-d' --ballast-dry-run "$("in_$shell" 'ballast-qemu --ballast-d')"
  # The lists that the shells hold themselves must be whole.
  for option in $(ballastd --help | grep -oE -- '^ +(-[a-z],)?--[a-z-]+' | grep -oE -- '--[a-z-]+'); do
    expect $shell "ballastd $option" "$option" "$("in_$shell" "ballastd $option")"
  done
done
[[ $failures -eq 0 ]] || exit 1
echo "completions: ok"
