# SPDX-License-Identifier: Apache-2.0
"""Boot a real arm64 kernel in QEMU, and let a process that the sandbox confines attack it.

QEMU's emulation of single programs, on which tools/test_arm64.py runs the unit tests, has neither
seccomp nor Landlock: the kernel below is this machine's. So the sandbox of `perception import` is
tried on a whole emulated machine: Debian's kernel, with a memory file system as its only disk.
"""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import BinaryIO

ROOT = Path(__file__).resolve().parent.parent
EMULATOR = "qemu-system-aarch64"
LIMIT_S = 1200
LEFT_OUT = re.compile(
    r"/(share|include|gcc|python3/dist-packages|test|cmake|git-core|perl.*)(/|$)|\.a$"
)
INIT = """#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONPATH=/repo PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /tmp/outside /tmp/inside
echo untouched > /tmp/outside/victim
cd /tmp/inside
answer=$(sleep 1000 < /dev/null & python3 -m tests.faults.confined /tmp/outside $! < /dev/null)
left="$(ls /tmp/outside) $(cat /tmp/outside/victim) $(ls /tmp/inside)"
echo "ANSWER {\\"kernel\\": \\"$(uname -r)\\", \\"left\\": \\"$left\\", \\"sandbox\\": $answer}"
echo o > /proc/sysrq-trigger
sleep 1000
"""


def try_sandbox(machine: Path, kernel: Path, cpu: str) -> dict[str, object] | str:
    """Return what the confined process could do on an arm64 kernel, or why that is not known.

    Args:
        machine: the unpacked arm64 Debian.
        kernel: its Linux.
        cpu: QEMU's name of the processor.

    """
    emulator = shutil.which(EMULATOR)
    if emulator is None:
        return f"{EMULATOR} is missing: sudo apt install qemu-system-arm"
    image = machine.with_suffix(".cpio")
    with image.open("wb") as file:
        write_image(machine, file)
    options = ["-machine", "virt", "-cpu", cpu, "-m", "2G", "-nographic", "-no-reboot"]
    options += ["-nic", "none", "-kernel", str(kernel), "-initrd", str(image)]
    command = [emulator, *options, "-append", "console=ttyAMA0 quiet panic=-1 rdinit=/init"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        return (
            f"no answer within {LIMIT_S} s: {(late.stdout or b'')[-400:].decode(errors='replace')}"
        )
    finally:
        image.unlink()
    console = done.stdout.decode(errors="replace")
    answer = re.search(r"ANSWER (.*)", console)
    return judge(json.loads(answer[1])) if answer else f"no answer: {console[-400:]}"


def judge(answer: dict) -> dict[str, object]:
    """Return which attempts were refused; the rules are those of test_hostile_models.py."""
    found = answer["sandbox"]["found"]
    expected = {"much memory": {"MemoryError"}, "more time": {"ValueError"}}
    refused = [n for n, why in found.items() if why in expected.get(n, {"EPERM", "EACCES"})]
    return {
        "kernel": answer["kernel"],
        "not_enforced": answer["sandbox"]["missing"],
        "attempts": len(found),
        "attempts_refused": len(refused),
        "attempts_not_refused": {n: why for n, why in found.items() if n not in refused},
        "nothing_changed": answer["left"].split() == ["victim", "untouched"],
    }


def write_image(machine: Path, file: BinaryIO) -> None:
    """Write what Python and our sandbox need as an initial memory file system (cpio, newc)."""
    for folder in ("dev", "proc", "sys", "tmp", "repo"):
        write_entry(file, folder, stat.S_IFDIR | 0o777)
    write_entry(file, "init", stat.S_IFREG | 0o755, INIT.encode())
    for top in ("bin", "lib", "lib64", "sbin", "etc", "usr"):
        write_tree(file, machine / top, machine)
    for top in ("perception_node", "engines", "tests"):
        write_tree(file, ROOT / top, ROOT, "repo/")
    write_entry(file, "TRAILER!!!", 0)


def write_tree(file: BinaryIO, top: Path, base: Path, prefix: str = "") -> None:
    """Write a folder, or a link, with all that is in it and not left out."""
    if not top.exists():
        return
    for path in [top, *([] if top.is_symlink() else sorted(top.rglob("*")))]:
        name = str(path.relative_to(base))
        if LEFT_OUT.search(f"/{name}"):
            continue
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            write_entry(file, prefix + name, mode, str(path.readlink()).encode())
        elif stat.S_ISDIR(mode):
            write_entry(file, prefix + name, mode)
        elif stat.S_ISREG(mode):
            write_entry(file, prefix + name, mode, path.read_bytes())


def write_entry(file: BinaryIO, name: str, mode: int, content: bytes = b"") -> None:
    """Write one entry; its fields are hexadecimal, and both its parts fill whole words."""
    encoded = name.encode() + b"\0"
    number = file.tell() + 1  # as the inode: any, but a different one for each
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
    header = b"070701" + "".join(f"{field:08x}" for field in fields).encode() + encoded
    file.write(header + b"\0" * (-len(header) % 4))
    file.write(content + b"\0" * (-len(content) % 4))
