#!/usr/bin/env bash
# Sourced by the launchers: creates the virtual environment .venv with the packages of requirements-lock.txt, once per
# lock file. The variables venv and lock select another folder and lock file (launch/test_extras.sh).
# PYTHON selects the interpreter (3.11 or later); the project's root becomes the working folder.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "error: $python is older than 3.11; name a newer one: PYTHON=/path/to/python3.12 $0" >&2
  exit 1
}
venv=${venv:-.venv} lock=${lock:-requirements-lock.txt}
stamp=$venv/lock-$(sha256sum "$lock" | cut -c1-16)
if [ ! -e "$stamp" ]; then
  echo "setting up $venv with the packages of $lock (minutes)"
  "$python" -m venv --clear "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$lock"
  touch "$stamp"
fi
export PATH="$PWD/$venv/bin:$PATH" TF_CPP_MIN_LOG_LEVEL=3
