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
INIT = """#!/usr/bin/python3
import ctypes, json, os, subprocess
from pathlib import Path
libc = ctypes.CDLL(None)
for kind, place in ((b"proc", b"/proc"), (b"sysfs", b"/sys"), (b"devtmpfs", b"/dev")):
    libc.mount(kind, place, kind, 0, None)
for folder in ("/dev/shm", "/tmp/outside", "/tmp/inside"):
    Path(folder).mkdir()
Path("/tmp/outside/victim").write_text("untouched")
parent = subprocess.Popen(["sleep", "100000"], env={"PATH": "/usr/bin"}, stdin=subprocess.DEVNULL)
attack = ["/usr/bin/python3", "-m", "tests.faults.confined", "/tmp/outside", str(parent.pid)]
paths = {"PATH": "/usr/bin", "PYTHONPATH": "/repo", "PYTHONDONTWRITEBYTECODE": "1"}
done = subprocess.run(
    attack, env=paths, cwd="/tmp/inside", stdin=subprocess.DEVNULL, capture_output=True, text=True
)
left = [str(path) for path in sorted(Path("/tmp").rglob("*"))]
victim = Path("/tmp/outside/victim").read_text()
answer = {"kernel": os.uname().release, "left": left, "victim": victim, "ended": parent.poll()}
answer |= {"output": done.stdout, "errors": done.stderr}
print("ANSWER", json.dumps(answer), flush=True)
Path("/proc/sysrq-trigger").write_text("o")
parent.wait()
"""
UNCHANGED = ["/tmp/inside", "/tmp/outside", "/tmp/outside/victim"]  # noqa: S108 - of that machine


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


def judge(answer: dict) -> dict[str, object] | str:
    """Return which attempts were refused; the rules are those of test_hostile_models.py."""
    if not answer["output"]:
        return f"the confined process failed: {answer['errors'][-400:]}"
    told = json.loads(answer["output"])
    expected = {"much memory": {"MemoryError"}, "more time": {"ValueError"}}
    succeeded = {
        name: why
        for name, why in told["found"].items()
        if why not in expected.get(name, {"EPERM", "EACCES"})
    }
    untouched = (answer["left"], answer["victim"], answer["ended"]) == (
        UNCHANGED,
        "untouched",
        None,
    )
    return {
        "kernel": answer["kernel"],
        "not_enforced": told["missing"],
        "attempts": len(told["found"]),
        "attempts_not_refused": succeeded,
        "nothing_changed": untouched,
        "threads_may_start": told["threads"] == 1,
    }


def write_image(machine: Path, file: BinaryIO) -> None:
    """Write what Python and our sandbox need as an initial memory file system (cpio, newc)."""
    for folder in ("dev", "proc", "sys", "tmp", "repo"):
        write_entry(file, folder, stat.S_IFDIR | 0o777)
    write_entry(file, "init", stat.S_IFREG | 0o755, INIT.encode())
    write_entry(file, "etc", stat.S_IFDIR | 0o755)
    write_entry(file, "etc/passwd", stat.S_IFREG | 0o644, b"root:x:0:0::/:/bin/sh\n")
    for top in ("bin", "lib", "lib64", "sbin", "usr"):
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
