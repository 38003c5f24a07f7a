#!/usr/bin/env bash
# Lint, import contracts and the whole test suite, also on a fresh machine. Arguments go to pytest: -m "not slow".
set -euo pipefail
source "$(dirname "$0")/setup.sh"
export JAX_PLATFORMS=cpu
ruff check .
ruff format --check .
lint-imports
python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
