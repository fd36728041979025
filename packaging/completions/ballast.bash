# bash completion of ballast, ballastd and ballast-qemu. `ballast complete` knows the candidates.

_ballast() {
  local line=${COMP_LINE:0:COMP_POINT} words current
  # By blanks alone: bash itself would cut Mem.IdleTax= at the '='.
  read -ra words <<<"$line"
  [[ $line == *[[:space:]] ]] && words+=("")
  current=${words[-1]}
  mapfile -t COMPREPLY < <(command "${words[0]}" complete "${words[@]:1}" 2>/dev/null)
  [[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace
  # Readline replaces the part behind the last '=' or ':' only.
  local kept=${current%"${current##*[=:]}"}
  [[ -z $kept ]] || COMPREPLY=("${COMPREPLY[@]#"$kept"}")
}

_ballastd() {
  local current=${COMP_WORDS[COMP_CWORD]}
  case ${COMP_WORDS[COMP_CWORD - 1]} in
    --log-level) mapfile -t COMPREPLY < <(compgen -W 'info warning error' -- "$current") ;;
    --http) mapfile -t COMPREPLY < <(compgen -W 'off 127.0.0.1:14631' -- "$current") ;;
    --memory) ;;
    --*-dir | --config) compopt -o default ;;
    *)
      mapfile -t COMPREPLY < <(compgen -W '--memory --run-dir --swap-dir --state-dir --config --check-config --log-level
        --http --version --help' -- "$current")
      ;;
  esac
}

_ballast_qemu() {
  mapfile -t COMPREPLY < <(compgen -W '--ballast-help --ballast-dry-run' -- "${COMP_WORDS[COMP_CWORD]}")
}

complete -o bashdefault -o default -F _ballast ballast
complete -F _ballastd ballastd
complete -o bashdefault -o default -F _ballast_qemu ballast-qemu
