# SPDX-License-Identifier: Apache-2.0
"""Settings of the whole process that camera-sized buffers and deadlines need."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import resource
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from perception_node.errors import EnvironmentLacks

if TYPE_CHECKING:
    from collections.abc import Iterator

M_TRIM_THRESHOLD = -1  # malloc.h
M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8
KEEP_BLOCKS_UP_TO_BYTES = 32 << 20
KEEP_FREE_BYTES = 256 << 20
RETURN_BLOCKS_FROM_BYTES = 8 << 20
LARGE_BLOCK_BYTES = 8 << 20
STATM = Path("/proc/self/statm")
MCL_CURRENT, MCL_FUTURE = 1, 2  # sys/mman.h
CAP_IPC_LOCK, CAP_SYS_NICE = 14, 23  # linux/capability.h
ALL_IDS = ["0", "0", "4294967295"]


def share_one_heap() -> bool:
    """Let what one thread has freed serve all others.

    By default glibc gives each thread a heap of its own: each on which a model was loaded once
    would keep the memory of one. To be called before the first thread, and so before libraries
    that start some are imported. Returns False where the C library has no ``mallopt``.
    """
    return _tune_malloc({M_ARENA_MAX: 1})


def keep_large_blocks() -> bool:
    """Let malloc reuse blocks the size of a frame instead of returning them to the kernel.

    By default glibc maps and unmaps each of them: a 1080p message costs 4500 page faults.
    Call it before the first frame. Returns False where the C library has no ``mallopt``.
    """
    return _tune_malloc(
        {M_MMAP_THRESHOLD: KEEP_BLOCKS_UP_TO_BYTES, M_TRIM_THRESHOLD: KEEP_FREE_BYTES}
    )


def return_large_blocks() -> bool:
    """Let malloc return large blocks to the kernel as soon as they are free, from any thread.

    By default glibc learns from the first ones to keep them, for each thread on its own: many
    threads that take megabytes now and then hold them for good. Returns False where the C library
    has no ``mallopt``.
    """
    return _tune_malloc({M_MMAP_THRESHOLD: RETURN_BLOCKS_FROM_BYTES})


def use_one_opencv_thread() -> None:
    """Stop OpenCV from starting a thread pool: at our sizes it only adds jitter."""
    import cv2  # noqa: PLC0415 - slow to load, and the rest of this module does without

    cv2.setNumThreads(1)


def freeze_garbage() -> None:
    """Take all objects made so far out of the garbage collector's sight.

    A full collection over the loaded libraries takes about 4 ms, in the middle of a frame.
    """
    gc.collect()
    gc.freeze()


def unfreeze_garbage() -> None:
    """Let the collector see everything again, before what was frozen is freed."""
    gc.unfreeze()


def lock_memory() -> None:
    """Keep all memory of this process in RAM, also what it allocates from now on.

    Raises:
        OSError: it is not permitted; ``strerror`` says why.

    """
    # With a finite limit the kernel may agree today. It then refuses the first allocation that
    # exceeds the limit, in the middle of a frame, so we refuse first.
    limit_bytes, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit_bytes != resource.RLIM_INFINITY and not has_capability(CAP_IPC_LOCK):
        problem = f"RLIMIT_MEMLOCK is {limit_bytes >> 10} KiB and would fail later allocations"
        raise PermissionError(errno.EPERM, problem)
    if ctypes.CDLL(None, use_errno=True).mlockall(MCL_CURRENT | MCL_FUTURE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def unlock_memory() -> None:
    """Let the kernel move memory of this process out of RAM again."""
    ctypes.CDLL(None).munlockall()


def require_address_space(least_bytes: int) -> None:
    """Require that a limit of this process (``ulimit -v``) leaves so much of its address space.

    Raises:
        EnvironmentLacks: it leaves less.

    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    left = limit - _address_space()
    if limit != resource.RLIM_INFINITY and left < least_bytes:
        raise EnvironmentLacks(
            f"the memory limit of this process leaves {left >> 20} MiB, the middleware needs "
            f"{least_bytes >> 20}; run: ulimit -v unlimited"
        )


def _address_space() -> int:
    """Return how many bytes of addresses this process has taken."""
    return int(STATM.read_text(encoding="ascii").split()[0]) * resource.getpagesize()


@contextmanager
def refuse_large_blocks() -> Iterator[None]:
    """Let malloc refuse blocks of LARGE_BLOCK_BYTES and more, to all threads, for a moment.

    For calls into libraries that make as many elements as a message says it has, before they read
    the first. What is small must still be had, or the C library aborts the process: it comes from
    the heap, and only what malloc would map is refused.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = _address_space() + LARGE_BLOCK_BYTES
    if soft != resource.RLIM_INFINITY:
        limit = min(limit, soft)
    _tune_malloc({M_MMAP_THRESHOLD: LARGE_BLOCK_BYTES // 8})
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        keep_large_blocks()


def has_capability(capability: int) -> bool:
    """Say whether the calling thread has one of the ``CAP_...``, also in the kernel's eyes.

    The root of a user namespace (a rootless container) lists all of them, yet the kernel asks
    for those of the machine's real root where limits are concerned.
    """
    try:
        users = Path("/proc/self/uid_map").read_text(encoding="utf-8").split()
        status = Path("/proc/thread-self/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    effective = int(status.partition("\nCapEff:")[2].split()[0], 16)
    return users == ALL_IDS and bool(effective >> capability & 1)


def _tune_malloc(options: dict[int, int]) -> bool:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(*option) for option in options.items())
