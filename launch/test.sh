#!/usr/bin/env bash
# Lint, import contracts and the quick part of the test suite, also on a fresh machine. Arguments go to pytest: -m slow
# runs the slow part alone, -m "" both.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
export JAX_PLATFORMS=cpu
ruff check .
ruff format --check .
lint-imports
python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" "$@"
