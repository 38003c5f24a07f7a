#!/usr/bin/env bash
# Rehearses a run on several hosts: N processes of main.py on this machine's CPU, which connect as hosts do.
# When one of them fails, the others end, and this script ends with the exit code of a failed process.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: launch/local_cluster.sh [OPTIONS] N -- FLAGS OF main.py
  --devices=D   CPU devices of each process (1)
  --logs=DIR    DIR/0.log, DIR/1.log, ...: what each process says (runs/logs)
  --dry_run     print the commands, run none
PYTHON names the interpreter (.venv/bin/python). SIGTERM or Ctrl-C goes to every process: they save and end.
TEXT
}

cd "$(dirname "$0")/.."
source launch/dry_run.sh

devices=1 logs=runs/logs dry_run='' processes=''
while [ $# -gt 0 ]; do
  case $1 in
    --devices=*) devices=${1#*=} ;;
    --logs=*) logs=${1#*=} ;;
    --dry_run) dry_run=1 ;;
    --help) usage && exit ;;
    --) shift && break ;;
    [1-9]*) processes=$1 ;;
    *) fail "unknown option $1; flags of main.py go behind --" ;;
  esac
  shift
done
[[ $processes =~ ^[1-9][0-9]*$ ]] || fail "expected the number of processes"
[[ $devices =~ ^[1-9][0-9]*$ ]] || fail "--devices=$devices: expected a number"

python=${PYTHON:-.venv/bin/python}
command -v "$python" > /dev/null || fail "there is no $python; launch/test.sh makes it, or name another by PYTHON"
port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("localhost", 0)); print(s.getsockname()[1])')

command_of() { # process number -> command
  command=(env JAX_PLATFORMS=cpu "JAX_NUM_CPU_DEVICES=$devices" "$python" main.py "${flags[@]}"
    "--coordinator=localhost:$port" "--num_processes=$processes" "--process_id=$1")
}

flags=("$@")
if [ -n "$dry_run" ]; then
  for ((i = 0; i < processes; i++)); do
    command_of "$i"
    call "${command[@]}"
  done
  exit
fi

mkdir -p "$logs"
declare -A number_of # pid of a running process -> its number
for ((i = 0; i < processes; i++)); do
  command_of "$i"
  "${command[@]}" > "$logs/$i.log" 2>&1 3>&- &
  number_of[$!]=$i
  echo "process $i: pid $!, $logs/$i.log"
done
trap 'kill -TERM "${!number_of[@]}" 2> /dev/null || true' TERM INT

# The others detect a lost process and report it (kdfas_jax/parallel/distributed.py); they have a minute to do so.
result=0 deadline=''
while [ ${#number_of[@]} -gt 0 ]; do
  for pid in "${!number_of[@]}"; do
    kill -0 "$pid" 2> /dev/null && continue
    code=0
    wait "$pid" 2> /dev/null || code=$?
    log=$logs/${number_of[$pid]}.log
    if [ "$code" -ne 0 ]; then
      echo "process ${number_of[$pid]} ended with code $code after $SECONDS s: $log" >&2
      grep -E '^error: |Terminating process' "$log" >&2 || tail -n 2 "$log" >&2
      deadline=${deadline:-$((SECONDS + 60))}
      [ "$result" -ne 0 ] || result=$code
    fi
    unset "number_of[$pid]"
  done
  if [ -n "$deadline" ] && [ "$SECONDS" -gt "$deadline" ]; then
    kill -KILL "${!number_of[@]}" 2> /dev/null || true
  fi
  sleep 0.2
done
[ "$result" -ne 0 ] || tail -n 5 "$logs/0.log"
exit "$result"
