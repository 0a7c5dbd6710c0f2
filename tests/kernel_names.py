# SPDX-License-Identifier: Apache-2.0
"""What Linux calls by which number on both machines, and a filter worked out as Linux does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.builders import ROOT

if TYPE_CHECKING:
    from perception_node.engines.importing.sandbox.seccomp import Instruction

_TABLE = json.loads((ROOT / "tests/data/kernel_names.json").read_text())
CALLS: dict[str, dict[str, int]] = _TABLE["calls"]
CONSTANTS: dict[str, dict[str, int]] = _TABLE["constants"]
AUDIT = {
    machine: CONSTANTS[machine][f"AUDIT_ARCH_{machine.upper()}"]
    for machine in ("x86_64", "aarch64")
}


def run_filter(steps: list[Instruction], number: int, arguments: tuple[int, ...], audit: int):
    """Return a filter's verdict on one call: `struct seccomp_data` in, SECCOMP_RET_* out.

    An instruction that the kernel would not accept, or a jump out of the program, is an error.
    """
    names = CONSTANTS["x86_64"]
    load = names["BPF_LD"] | names["BPF_W"] | names["BPF_ABS"]
    bitwise_and = names["BPF_ALU"] | names["BPF_AND"] | names["BPF_K"]
    equal = names["BPF_JMP"] | names["BPF_JEQ"] | names["BPF_K"]
    greater = names["BPF_JMP"] | names["BPF_JGT"] | names["BPF_K"]
    data = {names["seccomp_data.nr"]: number, names["seccomp_data.arch"]: audit}
    for index, argument in enumerate((*arguments, 0, 0, 0, 0, 0, 0)[:6]):
        place = names["seccomp_data.args"] + 8 * index
        data |= {place: argument & 0xFFFFFFFF, place + 4: argument >> 32}  # little-endian
    value, remaining = 0, iter(range(len(steps)))
    for place in remaining:
        step = steps[place]
        if step.code == names["BPF_RET"] | names["BPF_K"]:
            return step.value
        if step.code == load:
            value = data[step.value]
        elif step.code == bitwise_and:
            value &= step.value
        else:
            jumps = {equal: value == step.value, greater: value > step.value}[step.code]
            for _ in range(step.if_true if jumps else step.if_false):
                next(remaining)
    raise AssertionError("the filter ends without a verdict")
