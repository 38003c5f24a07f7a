# shellcheck shell=bash
# Sourced by the launchers. `call COMMAND ...` runs a command or, where `dry_run` is not empty, prints it to file
# descriptor 3 in shell syntax; `fail` ends with a message and the launcher's `usage`.
exec 3>&1

call() {
  if [ -z "$dry_run" ]; then
    "$@"
  else
    quoted "$@" >&3
  fi
}

quoted() {
  local word line=''
  for word; do
    [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]] || word=${word@Q}
    line+=" $word"
  done
  echo "${line# }"
}

fail() {
  echo "error: $1" >&2
  usage >&2
  exit 2
}
