# SPDX-License-Identifier: Apache-2.0
"""A corner of the ROS world for commands that start their own nodes: this machine, one domain."""

from __future__ import annotations

import os
import random
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from perception_node.errors import EnvironmentLacks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PRIVATE_DOMAINS = range(1, 101)  # from 102 on, ports collide with Linux's ephemeral ones
DDS_PORTS, PORTS_PER_DOMAIN = 7400, 250  # OMG DDSI-RTPS 9.6.1.1
LOCK_PORTS = 7000  # below them; one for each domain
OPEN_PORTS = Path("/proc/net/udp")
_claims: list[socket.socket] = []  # of this process, until it ends


def use_private_domain() -> None:
    """Stay on this machine, in a domain that nothing else on it uses.

    Must come before ``rclpy.init()``; what the user has set stays.

    Raises:
        EnvironmentLacks: all domains are in use.

    """
    from perception_node.ros.compat import keep_discovery_local  # noqa: PLC0415 - needs ROS

    keep_discovery_local()
    if "ROS_DOMAIN_ID" not in os.environ:
        domain, claim = claim_domain(random.sample(PRIVATE_DOMAINS, len(PRIVATE_DOMAINS)))
        _claims.append(claim)
        os.environ["ROS_DOMAIN_ID"] = str(domain)


@contextmanager
def private_domain() -> Iterator[None]:
    """Let processes that are started meanwhile meet on this machine alone, with our profile.

    The domain is another one each time, so that what a run before has left cannot disturb.

    Raises:
        EnvironmentLacks: all domains are in use.

    """
    from perception_node.ros.transport import use_large_frames  # noqa: PLC0415 - needs ROS

    before, claims = dict(os.environ), len(_claims)
    use_private_domain()
    use_large_frames()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        for claim in _claims[claims:]:
            claim.close()
        del _claims[claims:]


def claim_domain(candidates: Iterable[int]) -> tuple[int, socket.socket]:
    """Return the first domain that nothing on this machine uses, ours until the socket is closed.

    The socket keeps away others who ask here, until our own nodes have opened their ports.

    Raises:
        EnvironmentLacks: all candidates are in use.

    """
    for domain in candidates:
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind(("127.0.0.1", LOCK_PORTS + domain))
        except OSError:
            claim.close()
            continue
        if not _has_participants(domain):
            return domain, claim
        claim.close()
    msg = "every private ROS domain is in use on this machine; end a program, or set ROS_DOMAIN_ID"
    raise EnvironmentLacks(msg)


def _has_participants(domain: int) -> bool:
    """Return whether a UDP port that DDS takes for this domain is open on this machine."""
    first = DDS_PORTS + PORTS_PER_DOMAIN * domain
    table = OPEN_PORTS.read_text(encoding="ascii") if OPEN_PORTS.exists() else ""
    sockets = table.splitlines()[1:]
    ports = (int(line.split()[1].rpartition(":")[2], 16) for line in sockets)
    return any(first <= port < first + PORTS_PER_DOMAIN for port in ports)
