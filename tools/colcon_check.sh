#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Build, install, run and test the package in a scratch workspace, as a robot's developer does.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly bin=$PWD/.venv/bin
readonly workspace=$PWD/build/colcon
readonly installed=$workspace/install/perception_node

if [[ $PWD == *[[:space:]]* ]]; then
  echo "colcon needs a path without spaces, this is: $PWD" >&2
  exit 1
fi

# A copy, so that nothing is found by being in the checkout.
rm -rf "$workspace"
mkdir -p "$workspace/src/perception_node"
tar --create --exclude=./.git --exclude=./.venv --exclude=./build --exclude=__pycache__ . |
  tar --extract --directory="$workspace/src/perception_node"
cd "$workspace"

build() {
  rm -rf build install
  "$bin/colcon" build --event-handlers desktop_notification- status- "$@"
}

# Runs a command in a shell that has sourced the workspace.
run() {
  (set +u && source install/setup.bash && "$@")
}

require() {
  local file
  for file in "$@"; do
    [[ -e $installed/share/$file ]] || { echo "colcon build did not install share/$file" >&2; exit 1; }
  done
}

check_installed() {
  (
    cd src/perception_node
    for file in package.xml launch/*.launch.py launch/*.xml launch/params/*.yaml \
      models/efficientnet_lite0/* samples/photos/*; do
      [[ ! -f $file ]] || require "perception_node/$file"
    done
  )
  require ament_index/resource_index/packages/perception_node
  # `ros2 run` takes executables from here.
  [[ -x $installed/lib/perception_node/perception_node ]]
  run "$installed/lib/perception_node/perception" --help >/dev/null
  run "$installed/lib/perception_node/perception" doctor >/dev/null
  # The copy is what runs, not the editable install in the checkout.
  run "$bin/python" -c 'import perception_node, sys; sys.exit(sys.argv[1] not in perception_node.__file__)' "$workspace"
}

# Every module and data file of the checkout is in the installed package.
check_package() {
  local package file
  package=$(run "$bin/python" -c 'import perception_node; print(*perception_node.__path__)')
  find -L src/perception_node/perception_node -type f -printf '%P\n' |
    grep -E '[.](py|cu|typed|schema[.]json|j2|yaml|html|css|js)$' |
    while read -r file; do
      [[ -e $package/$file ]] || { echo "colcon build did not install $package/$file" >&2; exit 1; }
    done
}

build
check_installed
check_package
build --symlink-install
check_installed
# A few tests are enough to show that colcon finds and runs them; make test runs all of them.
"$bin/colcon" test --return-code-on-test-failure \
  --event-handlers console_cohesion+ desktop_notification- status- \
  --pytest-args -m "not (ros or launch or slow or accuracy or gpu)" \
  -k "test_frame or test_pipeline or test_worker"
"$bin/colcon" test-result
