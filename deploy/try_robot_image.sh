#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Build robot.Containerfile as it is and try the image, on a Debian machine that reaches no container
# registry. Ubuntu is replaced by Debian, and ROS's packages by one that is made of the ROS in .venv
# (make setup). As root; needs: apt install mmdebstrap podman runc dpkg-dev
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d)
readonly work ros=$work/deb/opt/ros/jazzy image=localhost/perception-node container=robot-try
readonly -a engine=(podman --root "$work/storage" --runroot "$work/run")
# Limits that podman sets by itself may be forbidden where this runs.
printf '[containers]\ndefault_ulimits = []\n[engine]\nruntime = "runc"\n' > "$work/containers.conf"
export CONTAINERS_CONF=$work/containers.conf
cleanup() {
  "${engine[@]}" rm --force --time 0 "$container" &>/dev/null || true
  "${engine[@]}" system reset --force &>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

say() { printf '%s\n' "$*" >&2; }
fail() { say "failed: $*"; "${engine[@]}" logs "$container" >&2 || true; exit 1; }

# The ROS in .venv as the package ros-jazzy-rclpy, which stands for all that are asked for.
make_ros_package() {
  local site version
  version=$(.venv/bin/python -c 'import sys; print(f"python{sys.version_info.major}.{sys.version_info.minor}")')
  site=$ros/lib/$version/site-packages
  mkdir -p "$site" "$work/deb/DEBIAN" "$work/apt"
  find .venv/lib -maxdepth 1 \( -name '*.so*' -o -name foonathan_memory \) -exec cp -a -t "$ros/lib" {} +
  cp -a .venv/share "$ros/share"
  rm -rf "$ros/share/perception_node" "$ros/share/ament_index/resource_index/packages/perception_node" # ours
  find ".venv/lib/$version/site-packages" -maxdepth 1 -type d \( -name 'rclpy' -o -name 'rpyutils' \
    -o -name 'ament_*' -o -name 'rosidl_*' -o -name '*_msgs' -o -name '*_interfaces' -o -name 'ros_*.libs' \) \
    -exec cp -a -t "$site" {} +
  cat > "$ros/setup.bash" <<END
export AMENT_PREFIX_PATH=/opt/ros/jazzy PYTHONPATH=/opt/ros/jazzy/lib/$version/site-packages
export LD_LIBRARY_PATH=/opt/ros/jazzy/lib\$(printf ':%s' "\$PYTHONPATH"/ros_*.libs)
END
  cat > "$work/deb/DEBIAN/control" <<END
Package: ros-jazzy-rclpy
Version: 0
Architecture: $(dpkg --print-architecture)
Maintainer: nobody <nobody@localhost>
Description: ROS 2 Jazzy from its Python wheels
Depends: $version, python3-lark, python3-numpy, python3-packaging, python3-typing-extensions, python3-yaml
Provides: ros-jazzy-rmw-fastrtps-cpp, $(sed -n 's/^ *"ros-.ROS_DISTRO-\([a-z-]*\)".*/ros-jazzy-\1/p' \
    deploy/robot.Containerfile | grep -v rclpy | paste -sd,)
END
  dpkg-deb --build -Znone --root-owner-group "$work/deb" "$work/apt" >&2
  (cd "$work/apt" && dpkg-scanpackages . > Packages) 2>&1 | tail -1 >&2
}

# What stands for the images that the file names.
make_base_images() {
  local keys=$work/ros/usr/share/keyrings source=$work/ros/usr/share/ros-apt-source
  mmdebstrap --quiet --variant=minbase --include=ca-certificates \
    "$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)" "$work/debian.tar"
  "${engine[@]}" import --quiet "$work/debian.tar" localhost/debian >&2
  mkdir -p "$keys" "$source"
  touch "$keys/ros2-archive-keyring.gpg"
  printf 'Types: deb\nURIs: file:/ros-apt\nSuites: ./\nTrusted: yes\n' > "$source/ros2.sources"
  tar --create --directory "$work/ros" . | "${engine[@]}" import --quiet - docker.io/library/ros:jazzy-ros-core >&2
}

build() {
  local pip=()
  for file in /etc/pip.conf /etc/xdg/pip /etc/ssl/certs; do # how this machine reaches its package index
    [[ ! -e $file ]] || pip+=(--volume "$file:$file:ro")
  done
  "${engine[@]}" build --quiet --pull=never --network host --format docker --volume "$work/apt:/ros-apt:ro" \
    "${pip[@]}" --ignorefile deploy/robot.Containerfile.dockerignore --build-arg BASE=localhost/debian \
    --build-arg REVISION="$(git rev-parse HEAD)" --file deploy/robot.Containerfile --tag "$image" . >&2
}

inside() { "${engine[@]}" exec "$container" "$@"; }
# Runs what HEALTHCHECK says, and tells what it answered.
check() {
  local code=0
  "${engine[@]}" healthcheck run "$container" >/dev/null || code=$?
  "${engine[@]}" inspect --format '{{range .State.Health.Log}}{{println .Output}}{{end}}' "$container" |
    grep . | tail -1 >&2
  return "$code"
}

# As README.md says, without a network; waits for the first healthy answer.
start() {
  "${engine[@]}" run --detach --name "$container" --network none --read-only --tmpfs /tmp:size=64m --cap-drop ALL \
    --security-opt no-new-privileges --pids-limit 256 --shm-size 256m --memory 1g "$image" >/dev/null
  for _ in {1..6}; do # each of them listens for some seconds
    ! check || return 0
  done
  fail "never healthy"
}

try_image() {
  local user code
  start
  user=$(inside sh -c 'sed -n "s/^Uid:\t\([0-9]*\).*/\1/p" /proc/1/status')
  [[ $user == 65532 ]] || fail "process 1 belongs to user $user"
  ! inside touch /opt/perception/x 2>/dev/null || fail "the root can be written to"
  ! inside sh -c 'command -v cc gcc g++ pip' || fail "there is a compiler, or pip"
  "${engine[@]}" logs "$container" 2>&1 | grep -q 'active: waiting for images on /image' || fail "it is not active"
  "${engine[@]}" kill --signal STOP "$container" >/dev/null
  ! check || fail "healthy although it stands still"
  "${engine[@]}" kill --signal CONT "$container" >/dev/null
  check || fail "not healthy again"
  "${engine[@]}" stop --time 10 "$container" >/dev/null
  code=$("${engine[@]}" inspect --format '{{.State.ExitCode}}' "$container")
  [[ $code == 0 ]] || fail "SIGTERM gave exit code $code"
  "${engine[@]}" image inspect --format 'size {{.Size}} bytes, user {{.User}}' "$image"
}

make_ros_package
make_base_images
build
try_image
say "the image was built and tried"
