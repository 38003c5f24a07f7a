#!/usr/bin/env bash
# python main.py with these arguments, in .venv, which is created where it is missing. Relative paths are relative to
# the project's root.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
exec python main.py "$@"
