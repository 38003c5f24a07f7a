#!/usr/bin/env bash
# The test suite in a second environment, .venv-extras, with every optional package: ONNX, LiteRT, PyTorch (CPU build),
# Google's storage and the TPU compiler (requirements-ci-lock.txt; 3 GB of disk). A test that skips there fails.
# Arguments go to pytest. Needs Chromium for the tests of the local page.
set -euo pipefail
venv=.venv-extras lock=requirements-ci-lock.txt
source "$(dirname "$0")/setup.sh"
export JAX_PLATFORMS=cpu
python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --no-skips "$@"
