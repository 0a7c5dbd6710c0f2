# SPDX-License-Identifier: Apache-2.0
"""The GPU's primary context, current on a thread for as long as somebody there uses it.

TensorRT and PyCUDA must work in the same context, and TensorRT takes the primary one. PyCUDA
keeps a stack of contexts per thread and aborts the process when a thread ends with one on it. So
several users on a thread share one entry, the last one removes it, and if it is forgotten, the
end of the thread or of the process does.
"""

from __future__ import annotations

import atexit
import ctypes
import threading
from typing import TYPE_CHECKING

from perception_node.engines.tensorrt.cuda.gpu import DRIVER

if TYPE_CHECKING:
    from perception_node.untyped import CudaObject


class _Entry:
    """A context on the stack of the thread that made it."""

    def __init__(self, driver: CudaObject) -> None:
        self._driver = driver
        self.users = 0
        self.context = driver.Device(0).retain_primary_context()
        self.context.push()
        self.users = 1

    def pop(self) -> None:
        """Take the context off the stack; nothing is freed."""
        self.users = 0
        self._driver.Context.pop()

    def abandon(self) -> None:
        """Take the context off the stack and keep it from being freed."""
        if self.users:
            self.pop()
            keep_for_ever(self.context)

    __del__ = abandon  # of a thread's entry, when the thread ends


class _Thread(threading.local):
    """What belongs to the thread that asks."""

    entry: _Entry | None = None


_this_thread = _Thread()


@atexit.register
def _abandon_forgotten() -> None:
    """Do for the main thread what the end of any other thread does."""
    if _this_thread.entry is not None:
        _this_thread.entry.abandon()


def enter_primary_context(driver: CudaObject) -> None:
    """Make the primary context of the GPU current on this thread."""
    if _this_thread.entry is None:
        _this_thread.entry = _Entry(driver)
    else:
        _this_thread.entry.users += 1


def leave_primary_context() -> None:
    """Take back one ``enter_primary_context`` of this thread; the last one frees the context."""
    entry = _leave()
    if entry is not None:
        entry.context.detach()
        # PyCUDA pushes a primary context to release it, and the driver leaves it there.
        ctypes.CDLL(DRIVER).cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))


def abandon_primary_context() -> None:
    """Take back one ``enter_primary_context`` of this thread, and never free the context."""
    entry = _leave()
    if entry is not None:
        keep_for_ever(entry.context)


def keep_for_ever(thing: object) -> None:
    """Never free a thing, not even when the process ends: freeing it would call a lost GPU."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _leave() -> _Entry | None:
    """Return the entry if this was its last user; then it is off the stack."""
    entry = _this_thread.entry
    if entry is None:
        msg = "no context was entered on this thread"
        raise RuntimeError(msg)
    if entry.users > 1:
        entry.users -= 1
        return None
    entry.pop()
    _this_thread.entry = None
    return entry
