#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run the core's unit tests on an emulated arm64 machine, and write bench/reports/arm64.json.

Debian's arm64 packages and QEMU are unpacked below build/arm64, nothing is installed. The machine
is a folder in namespaces of its own, so neither root nor a change of this system is needed. ROS
is not there: its wheels are for x86-64, and Debian has no packages of it. With --failed only the
tests that failed in the last run are run again, after a fix.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from arm64_kernel import try_sandbox
from arm64_report import LEFT_OUT, REPORT, failed_tests, sample_photos, write_report

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "arm64"
MACHINE = BUILD / "machine"
QEMU = BUILD / "qemu" / "usr" / "bin" / "qemu-aarch64"
KERNEL = BUILD / "kernel"
KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
SUITE = "bookworm"  # Python 3.11, which gets the same packages as 3.12
QEMU_SUITE = "trixie"  # QEMU 10: with 7.2, `import onnxruntime` crashes
QEMU_CPU = "cortex-a76"  # QEMU's nearest to the Cortex-A78AE of an Orin
PACKAGES = (
    "base-files,bash,coreutils,dash,findutils,git,grep,make,procps,sed,tar,util-linux,"
    "ca-certificates,gcc,libc6-dev,python3-dev,python3-venv"
)
NAMESPACES = ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child")
MOUNT_BINFMT = "mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc"
# Programs of ELF's machine 183 are handed to QEMU, which is opened now (F), before the chroot.
BINFMT = (
    r":arm64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
    f":{QEMU}:F"
)
ENTER = f"""set -e
{MOUNT_BINFMT}
printf %s "$2" > /proc/sys/fs/binfmt_misc/register
mount --rbind /dev "$1/dev"
mount --rbind /sys "$1/sys"
mount -t proc proc "$1/proc"
exec chroot "$1" /bin/bash -ec "$3"
"""
INSTALL = """
python3 -m venv /opt/venv
for lock in build ros-sourced; do
    /opt/venv/bin/pip install --quiet --no-deps --force-reinstall --require-hashes \
        --no-build-isolation --requirement /locks/$lock.txt
done
"""
PREPARE = """
cd /repo
/opt/venv/bin/pip install --quiet --no-deps --no-index --no-build-isolation --editable .
/opt/venv/bin/python tools/arm64_report.py > /results/facts.json
/opt/venv/bin/perception classify --json /results/photos > /results/classify.jsonl
"""
PYTEST = ["/opt/venv/bin/pytest", "-m", "not alone", "--hypothesis-profile", "emulated"]
PYTEST += ["--continue-on-collection-errors", "--timeout", "1200", "--durations", "20"]
PYTEST += [f"--deselect={name}" for name in LEFT_OUT]


def main() -> None:
    """Make the machine unless it is there, run the tests on it, write the report."""
    check_this_machine()
    if not QEMU.exists():
        unpack(QEMU_SUITE, "qemu-user", BUILD / "qemu", "--wildcards", "./usr/bin/qemu-aarch64")
    digest = hashlib.sha256(f"{SUITE} {PACKAGES} {INSTALL}".encode())
    for lock in ("build", "ros-sourced"):
        digest.update((ROOT / f"requirements/{lock}.txt").read_bytes())
    stamp = BUILD / "machine.sha256"
    if not stamp.exists() or stamp.read_text() != digest.hexdigest():
        make_machine()
        stamp.write_text(digest.hexdigest())
    lay_repository()
    results = MACHINE / "results"
    if "--failed" in sys.argv[1:]:  # those of the last run, once more
        tests, outcome = failed_tests(results), "again.xml"
    else:
        shutil.rmtree(results, ignore_errors=True)
        sample_photos(results / "photos")
        tests, outcome = ["tests/unit"], "tests.xml"
    enter(PREPARE + shlex.join([*PYTEST, *tests, "--junitxml", f"/results/{outcome}"]))
    if not (results / "tests.xml").exists():
        sys.exit("test-arm64: the tests did not run to their end; see above")
    sandbox = try_sandbox(MACHINE, the_kernel(), QEMU_CPU)
    good = write_report(results, run(QEMU, "--version").split()[2], QEMU_CPU, sandbox)
    print(f"test-arm64: {REPORT.relative_to(ROOT)}")
    sys.exit(0 if good else "test-arm64: not all is well; the report says what")


def check_this_machine() -> None:
    """End with one line if something is missing."""
    if platform.machine() != "x86_64":
        sys.exit(f"test-arm64: this machine is {platform.machine()}, not x86-64: run make test")
    missing = {} if shutil.which("mmdebstrap") else {"mmdebstrap": "mmdebstrap"}
    missing |= {} if KEYS.exists() else {"Debian's keys": "debian-archive-keyring"}
    missing |= {} if shutil.which("unshare") else {"unshare": "util-linux"}
    missing |= {} if CERTIFICATES.exists() else {str(CERTIFICATES): "ca-certificates"}
    if missing:
        packages = " ".join(missing.values())
        sys.exit(f"test-arm64: missing {', '.join(missing)}: sudo apt install {packages}")
    trial = [*NAMESPACES, "sh", "-c", MOUNT_BINFMT]
    if subprocess.run(trial, capture_output=True, check=False).returncode:
        sys.exit(
            "test-arm64: this needs Linux 6.7 with binfmt_misc and user namespaces, outside of "
            f"containers that forbid them; this is Linux {platform.release()}"
        )


def unpack(suite: str, packages: str, folder: Path, *tar_options: str, machine: str = "") -> None:
    """Unpack Debian packages and what they depend on, without installing them."""
    print(f"test-arm64: fetching {packages.partition(',')[0]} ... of Debian", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        "mmdebstrap",
        "--quiet",
        "--variant=extract",
        "--format=tar",
        f"--include={packages}",
    ]
    command += ["--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"]
    command += [f"--architectures={machine}"] if machine else []
    archive = folder.with_suffix(".tar")
    run(*command, suite, archive)
    options = ["--no-same-owner", "--exclude=./dev", *tar_options]
    run("tar", "-x", "-C", folder, "-f", archive, *options)
    archive.unlink()


def make_machine() -> None:
    """Unpack Debian for arm64, and install the locked packages as the set-up does."""
    shutil.rmtree(MACHINE, ignore_errors=True)
    unpack(SUITE, PACKAGES, MACHINE, machine="arm64")
    for name in ("dev", "proc", "sys", "tmp", "root"):
        (MACHINE / name).mkdir(exist_ok=True)
    shutil.copytree(ROOT / "requirements", MACHINE / "locks")
    for file in (CERTIFICATES, Path("/etc/resolv.conf"), Path("/etc/hosts"), Path("/etc/passwd")):
        place = MACHINE / file.relative_to("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    print("test-arm64: installing the locked packages on it", flush=True)
    if enter(INSTALL):
        sys.exit("test-arm64: the locked packages cannot be installed on arm64; see above")


def the_kernel() -> Path:
    """Return Debian's Linux for arm64; it is not the one that the emulated programs run on."""
    if not KERNEL.is_dir():
        unpack(QEMU_SUITE, "linux-image-arm64", KERNEL, "--wildcards", "./boot/*", machine="arm64")
    return next(KERNEL.glob("boot/vmlinuz-*"))


def lay_repository() -> None:
    """Copy what git knows, or would, to /repo of the machine."""
    shutil.rmtree(MACHINE / "repo", ignore_errors=True)
    listed = run("git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard")
    for name in listed.splitlines():
        if (ROOT / name).exists():
            place = MACHINE / "repo" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place, follow_symlinks=False)


def enter(script: str) -> int:
    """Run a script on the machine; return its exit code."""
    kept = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "http_proxy", "https_proxy", "no_proxy")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
    environment |= {"QEMU_CPU": QEMU_CPU, "PIP_ROOT_USER_ACTION": "ignore"}
    environment |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    command = [*NAMESPACES, "sh", "-c", ENTER, "enter", str(MACHINE), BINFMT, script]
    return subprocess.run(command, env=environment, check=False).returncode


def run(*command: object) -> str:
    """Run a command of this machine and return what it prints."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stderr}test-arm64: this failed: {' '.join(words)}")
    return done.stdout


if __name__ == "__main__":
    main()
