#!/usr/bin/env bash
# Runs main.py on one of several hosts, for tpu_vm.sh, slurm.sbatch and gke_jobset.yaml: `run` in the foreground,
# `start` in the background, where it survives the end of the connection. After a preemption main.py saves and exits
# with 0; both commands turn this into 143, so that the run is started again.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}

run() { # FLAGS of main.py
  local note reader child code
  note=$(mktemp)
  exec > >(tee "$note") 2>&1
  reader=$!
  "$python" main.py "$@" &
  child=$!
  trap 'kill -TERM "$child"' TERM
  code=0
  wait "$child" || code=$?
  while kill -0 "$child" 2> /dev/null; do # `wait` returned because of a signal
    code=0
    wait "$child" || code=$?
  done
  exec > /dev/null 2>&1
  wait "$reader"
  if grep -q '^SIGTERM: ' "$note"; then code=143; fi
  rm "$note"
  exit "$code"
}

start() { # FLAGS of main.py
  for _ in {1..60}; do # wait for the end of a run that failed on another host
    [ "$(state)" = running ] || break
    sleep 1
  done
  rm -f job.exit
  # shellcheck disable=SC2016  # the inner shell's $? and arguments
  nohup setsid bash -c '"$0" run "$@"; echo $? > job.exit' "$PWD/launch/job.sh" "$@" > job.log 2>&1 < /dev/null &
  echo $! > job.pid
}

state() { # prints the state of the run of `start`: running, none, or its exit code
  if [ -e job.exit ]; then
    cat job.exit
  elif [ -e job.pid ] && kill -0 "$(cat job.pid)" 2> /dev/null; then
    echo running
  else
    echo none
  fi
}

case ${1:-} in
  run | start) "$@" ;;
  state) state ;;
  log) tail -n "${2:-20}" job.log ;;
  *)
    echo "usage: launch/job.sh run FLAGS | start FLAGS | state | log [LINES]" >&2
    exit 2
    ;;
esac
