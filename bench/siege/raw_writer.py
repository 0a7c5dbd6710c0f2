# SPDX-License-Identifier: Apache-2.0
"""Write any bytes to a service, which rclpy's clients cannot: by the middleware's C interface."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import TYPE_CHECKING

from perception_node.errors import EnvironmentLacks
from perception_node.ros.compat import find_forget, native_node, native_type

if TYPE_CHECKING:
    from rclpy.node import Node

    from perception_node.untyped import Message

KEEP_LAST, RELIABLE, VOLATILE, DEPTH = 1, 1, 2, 100
SPARE = 64  # bytes behind a structure, for members of later releases; zero is their default


class _Duration(ctypes.Structure):
    _fields_ = (("sec", ctypes.c_uint64), ("nsec", ctypes.c_uint64))


class _Qos(ctypes.Structure):
    """``rmw_qos_profile_t``."""

    _fields_ = (
        ("history", ctypes.c_int),
        ("depth", ctypes.c_size_t),
        ("reliability", ctypes.c_int),
        ("durability", ctypes.c_int),
        ("deadline", _Duration),
        ("lifespan", _Duration),
        ("liveliness", ctypes.c_int),
        ("lease", _Duration),
        ("avoids_ros_names", ctypes.c_bool),
        ("spare", ctypes.c_byte * SPARE),
    )


class _Options(ctypes.Structure):
    """``rmw_publisher_options_t``."""

    _fields_ = (
        ("payload", ctypes.c_void_p),
        ("unique_flow", ctypes.c_int),
        ("spare", ctypes.c_byte * SPARE),
    )


class _Bytes(ctypes.Structure):
    """``rmw_serialized_message_t``."""

    _fields_ = (
        ("buffer", ctypes.c_char_p),
        ("length", ctypes.c_size_t),
        ("capacity", ctypes.c_size_t),
        ("allocator", ctypes.c_void_p * 5),
    )


class RawWriter:
    """Writes serialized requests to one service of Fast DDS, as its clients would."""

    def __init__(self, node: Node, request: Message, service: str) -> None:
        """Make the writer.

        Args:
            node: to which it belongs.
            request: class of the requests.
            service: its full name, such as /perception/get_state.

        Raises:
            EnvironmentLacks: the middleware is not Fast DDS, whose names for services these are.

        """
        self._rmw = _loaded("librmw_fastrtps_cpp.so")
        self._forget = find_forget()
        rcl = _loaded("librcl.so")
        rcl.rcl_node_get_rmw_handle.restype = ctypes.c_void_p
        rcl.rcl_node_get_rmw_handle.argtypes = (ctypes.c_void_p,)
        self._node = ctypes.c_void_p(rcl.rcl_node_get_rmw_handle(native_node(node)))
        create = self._rmw.rmw_create_publisher
        create.restype = ctypes.c_void_p
        qos = _Qos(
            history=KEEP_LAST,
            depth=DEPTH,
            reliability=RELIABLE,
            durability=VOLATILE,
            avoids_ros_names=True,
        )
        name = f"rq{service}Request".encode()
        made = create(
            self._node,
            ctypes.c_void_p(native_type(request)),
            ctypes.c_char_p(name),
            ctypes.byref(qos),
            ctypes.byref(_Options()),
        )
        if not made:
            msg = f"{service}: the middleware made no writer for it"
            raise EnvironmentLacks(msg)
        self._writer = ctypes.c_void_p(made)

    @property
    def is_heard(self) -> bool:
        """Whether the service has found this writer."""
        count = ctypes.c_size_t()
        ask = self._rmw.rmw_publisher_count_matched_subscriptions
        return ask(self._writer, ctypes.byref(count)) == 0 and count.value > 0

    def send(self, content: bytes) -> None:
        """Write a request; what the middleware refuses to send is left out."""
        message = _Bytes(buffer=content, length=len(content), capacity=len(content))
        self._rmw.rmw_publish_serialized_message(self._writer, ctypes.byref(message), None)
        self._forget()

    def close(self) -> None:
        """Take the writer out of the graph."""
        self._rmw.rmw_destroy_publisher(self._node, self._writer)


def _loaded(name: str) -> ctypes.CDLL:
    """Return a library that this process has loaded."""
    maps = Path("/proc/self/maps").read_text(errors="replace")
    found = re.search(rf" (/.*/{re.escape(name)}\S*)$", maps, re.MULTILINE)
    if found is None:
        msg = f"{name} is not loaded; set RMW_IMPLEMENTATION=rmw_fastrtps_cpp"
        raise EnvironmentLacks(msg)
    return ctypes.CDLL(found[1])
