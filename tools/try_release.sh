#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Try the package on the ROS release that is sourced: doctor, demo, unit, ROS and fault tests.
#
#   source /opt/ros/humble/setup.bash
#   tools/try_release.sh [REPORT.json]
#
# It writes one report, complete also when a step fails, and exits with 0 only if all is good.
# Where the system's Python has all that is needed, nothing is downloaded; elsewhere `make setup`
# prepares .venv. PYTHON names another interpreter, PYTEST_ADDOPTS gives options to the tests,
# SUITES="unit ros" leaves some out (then not all is good).
set -euo pipefail

usage() { sed -n 's/^# \{0,1\}//; 3,11p' "${BASH_SOURCE[0]}"; }

case ${1:-} in
  -h | --help) usage; exit 0 ;;
  -*) usage >&2; exit 2 ;;
esac

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root work=$root/build/try_release
report=$(realpath --canonicalize-missing \
  "${1:-$work-${ROS_DISTRO:-unknown}-$(uname -m).json}")
readonly report
python=${PYTHON:-python3}
cd "$root"

fail() {
  printf 'try_release: %s\n' "$@" >&2
  exit 1
}

check_sourced() {
  local problems=() releases=(/opt/ros/*/setup.bash)
  if [[ -z ${ROS_DISTRO:-} || -z ${AMENT_PREFIX_PATH:-} ]]; then
    [[ -e ${releases[0]} ]] || releases=("/opt/ros/RELEASE/setup.bash")
    problems+=("no ROS is sourced: source ${releases[0]}")
  fi
  command -v "$python" >/dev/null || problems+=("$python is missing: sudo apt install python3")
  command -v timeout >/dev/null || problems+=("timeout is missing: sudo apt install coreutils")
  ((${#problems[@]} == 0)) || fail "${problems[@]}"
}

# Sets `python` to one that has all that is needed, and `plugin` where ours is not installed.
choose_python() {
  local missing
  plugin=()
  if missing=$("$python" tools/release_report.py missing); then
    export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
    "$python" -c 'from importlib.metadata import version; version("perception_node")' 2>/dev/null ||
      plugin=(-p perception_node.pytest_plugin)
    return
  fi
  echo "The system's Python does not have all; make setup prepares .venv."
  if ! make --no-print-directory setup PYTHON="$python"; then
    fail "$missing" "or let make setup do it, see above"
  fi
  python=$root/.venv/bin/python
  missing=$("$python" tools/release_report.py missing) || fail "$missing"
}

# Runs a step and records how it went; what it prints goes into a file.
#   step NAME SECONDS COMMAND...
step() {
  local name=$1 limit=$2 begin=$SECONDS code=0
  shift 2
  printf '%s ... ' "$name"
  timeout --foreground --kill-after=30 "$limit" "$@" \
    >"$work/$name.out" 2>"$work/$name.err" </dev/null || code=$?
  echo "$code $((SECONDS - begin))" >"$work/$name.step"
  if ((code == 0)); then
    echo "good ($((SECONDS - begin)) s)"
  else
    echo "failed ($((SECONDS - begin)) s), see $work/$name.out and .err"
  fi
}

tests() {
  step "$1" "$2" "$python" -m pytest "${plugin[@]}" -q -p no:cacheprovider \
    --junitxml "$work/$1.xml" "tests/$1"
}

write_report() {
  trap - EXIT
  local code=0
  "$python" tools/release_report.py report "$work" "$report" || code=1
  echo "report: $report"
  exit "$code"
}

check_sourced
rm -rf "$work"
mkdir -p "$work" "$(dirname "$report")"
trap write_report EXIT
trap 'exit 130' INT TERM
choose_python
step doctor 300 "$python" -m perception_node.cli doctor --json
step demo 600 "$python" -m perception_node.cli demo --picture "$work/demo.png"
for suite in ${SUITES:-unit ros faults}; do
  tests "$suite" 7200
done
