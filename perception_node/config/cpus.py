# SPDX-License-Identifier: Apache-2.0
"""A list of CPUs, as the kernel writes it."""

from __future__ import annotations

import re

from perception_node.errors import ConfigError, quote

MAX_CPUS = 8192  # more than any kernel is built for
CPU_RANGE = re.compile(r"([0-9]{1,4})(?:-([0-9]{1,4}))?")


def parse_cpus(text: str, name: str = "a list of CPUs") -> tuple[int, ...]:
    """Return the CPUs of a list such as ``0,2-3``, sorted, each once; empty text is no CPU.

    Args:
        text: numbers and ranges, as the kernel writes them.
        name: what ``text`` is, for the message of the error.

    Raises:
        ConfigError: it is no such list.

    """
    cpus: set[int] = set()
    for part in text.split(",") if text.strip() else ():
        found = CPU_RANGE.fullmatch(part.strip())
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, -1)
        if not first <= last < MAX_CPUS:
            msg = f"{name} must be like 0,2-3 with numbers below {MAX_CPUS}, found {quote(text)}"
            raise ConfigError(msg)
        cpus.update(range(first, last + 1))
    return tuple(sorted(cpus))
