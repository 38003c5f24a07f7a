#!/usr/bin/env bash
# Runs main.py on a Cloud TPU slice. A preempted (spot) slice is requested again, and the run resumes.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: launch/tpu_vm.sh --zone=ZONE [OPTIONS] COMMAND
commands
  run FLAGS     all of it: create, setup, main.py FLAGS on every host, again after each preemption, until it has ended
  create        ask for the slice (a queued resource) and wait until it is there
  setup         bring the committed code to every host, and its packages
  status        the state of the slice and of the run
  logs          what a host says
  delete        give the slice back
options, before the command
  --name=kdfas          of the queued resource and its node
  --type=v5litepod-16   the accelerator: v4-128, v5litepod-256, v5p-128, v6e-16, ...
  --version=VERSION     of the runtime; the one for that type by default
  --project=PROJECT     gcloud's own by default
  --service_account=ACCOUNT   that may read and write the bucket; the project's default one by default
  --spot                cheaper, and may be taken away at any time
  --worker=0            logs: of which host
  --dry_run             print the commands as if all went well, run none
TEXT
}
cd "$(dirname "$0")/.."
source launch/dry_run.sh

name=kdfas type=v5litepod-16 version='' zone='' worker=0 dry_run='' where=() options=()
while [[ ${1:-} == --* ]]; do
  case $1 in
    --name=*) name=${1#*=} ;;
    --type=*) type=${1#*=} ;;
    --version=*) version=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --project=*) where+=("$1") ;;
    --service_account=*) options+=("--service-account=${1#*=}") ;;
    --spot) options+=(--spot) ;;
    --worker=*) worker=${1#*=} ;;
    --dry_run) dry_run=1 ;;
    --help) usage && exit ;;
    *) fail "unknown option $1" ;;
  esac
  shift
done
[ -n "$zone" ] || fail "--zone=ZONE is missing"
where+=("--zone=$zone")
if [ -z "$version" ]; then
  case $type in
    v5litepod-*) version=v2-alpha-tpuv5-lite ;;
    v5p-*) version=v2-alpha-tpuv5 ;;
    v6e-*) version=v2-alpha-tpuv6e ;;
    *) version=tpu-ubuntu2204-base ;;
  esac
fi
poll=${POLL_SECONDS:-60}
[ -z "$dry_run" ] || poll=0
asked='' started='' # whether this call did so; a dry run answers from them

queued() { call gcloud compute tpus queued-resources "$@" "${where[@]}"; }

on() { # worker (or all), command
  call gcloud compute tpus tpu-vm ssh "$name" --quiet "--worker=$1" "--command=$2" "${where[@]}"
}

slice_state() { # ACTIVE, SUSPENDED, ...; absent, or unknown where gcloud does not answer
  local answer
  if answer=$(queued describe "$name" '--format=value(state.state)' 2>&1); then
    [ -z "$dry_run" ] || answer=${asked:-absent}
    echo "$answer"
  elif [[ $answer == *NOT_FOUND* ]]; then
    echo absent
  else
    echo unknown
  fi
}

run_state() { # running, none, main.py's exit code, or unreachable
  local answer
  answer=$(on 0 'kdfas_jax/launch/job.sh state' 2> /dev/null) || answer=unreachable
  [ -z "$dry_run" ] || answer=${started:-none}
  echo "${answer##*$'\n'}"
}

ask() {
  queued create "$name" "--node-id=$name" "--accelerator-type=$type" "--runtime-version=$version" "${options[@]}"
  asked=ACTIVE
}

delete() { queued delete "$name" --force --quiet; }

create() {
  local state
  ask
  until state=$(slice_state) && [ "$state" = ACTIVE ]; do
    echo "$name: $state"
    [ "$state" != FAILED ] || stop "the request has failed"
    sleep "$poll"
  done
}

# The Python of the images is too old, so uv installs one.
setup() {
  call git archive --format=tar.gz --prefix=kdfas_jax/ --output=/tmp/kdfas_jax.tar.gz HEAD &&
    call gcloud compute tpus tpu-vm scp /tmp/kdfas_jax.tar.gz "$name:" --quiet --worker=all "${where[@]}" &&
    on all "tar -xzf kdfas_jax.tar.gz && cd kdfas_jax && python3 -m pip install --quiet --user uv && \
python3 -m uv venv --quiet --allow-existing --python=3.11 .venv && \
python3 -m uv pip install --quiet --python=.venv/bin/python -r requirements-lock.txt -r requirements-tpu.txt"
}

# A loop checks slice and run, and starts whatever is missing: a second call watches the run of the first, and a
# preempted slice is requested again. main.py resumes from its last checkpoint.
run() {
  [[ " $* " == *" --workdir=gs://"* ]] || fail "the hosts' disks go with the slice: give --workdir=gs://BUCKET/RUN"
  local state
  while true; do
    state=$(slice_state)
    case $state in
      ACTIVE) tend "$@" ;;
      absent) ask ;;
      SUSPENDED) delete ;;
      FAILED) if [ -n "$asked" ]; then stop "the request has failed"; else delete; fi ;;
      *) echo "$name: $state" ;;
    esac
    sleep "$poll"
  done
}

tend() { # FLAGS: starts the run on an active slice, or checks it
  local state
  state=$(run_state)
  case $state in
    running) started=0 ;;
    unreachable) ;;
    *)
      if [ -n "$started" ]; then
        sleep "$poll" # the hosts of a preempted slice end a little before gcloud reports it
        [ "$(slice_state)" = ACTIVE ] || return 0
      fi
      if [ -n "$started" ] && [ "$state" != none ] && [ "$state" != 143 ]; then
        on 0 'kdfas_jax/launch/job.sh log'
        exit "$state"
      fi
      begin "$@"
      ;;
  esac
}

begin() {
  if setup && on all "kdfas_jax/launch/job.sh start $(quoted "$@")"; then
    started=0
    return
  fi
  sleep "$poll"
  [ "$(slice_state)" != ACTIVE ] || stop "the hosts could not be set up"
}

stop() {
  echo "error: $name: $1; see: gcloud compute tpus queued-resources describe $name ${where[*]}" >&2
  exit 1
}

command=${1:-}
shift || true
case $command in
  run | create | setup | delete) "$command" "$@" ;;
  status) echo "slice: $(slice_state)  run: $(run_state)" ;;
  logs) on "$worker" 'kdfas_jax/launch/job.sh log 100' ;;
  *) fail "unknown command '$command'" ;;
esac
