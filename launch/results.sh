#!/usr/bin/env bash
# Measures the tables of the documents with today's code and writes them in their places, the longest last:
#   ./launch/results.sh [--only=NAME[,NAME]] [--raw NUAA=/path/to/NUAA] [--list]
# --raw, which may be repeated, names a folder of real faces; tables that need it are left out otherwise. The tables and
# their commands are listed in kdfas_jax/commands/documented/catalogue.py. A second call resumes. Prints `ok NAME
# SECONDS` or `FAIL NAME reason` for each and ends with an error if any failed.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
export JAX_PLATFORMS=cpu
python -m kdfas_jax.commands.documented.tables "$@"
