#!/usr/bin/env bash
# Rehearses every config at its full model and image sizes: two training steps of the config and its teachers,
# evaluation, prediction, export. Arguments select configs: ./launch/rehearse.sh dtda_ocim teachers/editor. Prints
# `ok NAME SECONDS` or `FAIL NAME reason` for each and ends with an error if any failed. All configs take about an hour
# on two cores, 24 GB of memory, mostly for kdfas_huge (ViT-H/14), and temporarily 25 GB of disk.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
export JAX_PLATFORMS=cpu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
[ $# -gt 0 ] || mapfile -t all < <(python -m kdfas_jax.commands.rehearse --list)
failed=0
for name in "${@:-${all[@]}}"; do
  start=$SECONDS
  if python -m kdfas_jax.commands.rehearse "$name" "$folder" >"$folder/log" 2>&1; then
    echo "ok $name $((SECONDS - start))"
  else
    failed=$((failed + 1))
    echo "FAIL $name $(tr '\r' '\n' <"$folder/log" | grep -v '^ *$' | tail -n 1)"
  fi
  find "$folder" -mindepth 1 -maxdepth 1 ! -name data -exec rm -rf {} +
done
[ "$failed" -eq 0 ]
