#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Print the path of a Python that works: find_python.sh python3.12
# pyenv puts all names on PATH, but they work only for the versions that `pyenv global` lists.
set -euo pipefail

for candidate in "$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/"$1"; do
  "$candidate" -c 'import sys; print(sys.executable)' 2>/dev/null && exit
done
echo "set-up: $1 is missing: sudo apt install $1 $1-venv $1-dev" >&2
exit 1
