# SPDX-License-Identifier: Apache-2.0
"""Load a model into ONNX Runtime: from bytes that need no other file, within bounds of memory.

All models of this package go through here. A file of 200 bytes can ask for any amount of memory,
while it is loaded (constants are computed) and when it runs. The first is left out where it would
take much; for the second each session has an allocator with a limit.
"""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING

import onnxruntime as ort

from perception_node.model.onnx_file import look_through
from perception_node.model.onnx_tensor import RefusedOnnx

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from perception_node.model.onnx_file import OnnxContent
    from perception_node.model.onnx_tensor import Buffer
    from perception_node.untyped import OrtObject

PROVIDER = "CPUExecutionProvider"
LOG_FATAL_ONLY = 4  # errors reach the caller as exceptions; a second copy on stderr is of no use
LEAST_MEMORY = 1 << 30  # bytes that a session may take, however small the model
PER_MODEL_BYTE = 4  # weights, as they are and rearranged for the kernels
PER_INPUT_BYTE = 64  # what enters and leaves a layer of 64 channels at full size
# Elements of all constants that are computed while loading: so many, and so many per weight.
MAX_FOLDED, MAX_FOLDED_PER_WEIGHT = 1 << 24, 4
LONGEST_WAIT_S = 5.0  # for another session, which may never be made; then both share a limit
EXACTLY = 1  # an allocator grows by what is asked for
NO_FOLDING = ["ConstantFolding"]

KEEPS_SIZE = {
    *("Abs", "Cast", "Ceil", "DequantizeLinear", "Exp", "Flatten", "Floor", "Identity", "Log"),
    *("Neg", "Not", "QuantizeLinear", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceMin"),
    *("ReduceProd", "ReduceSum", "Reshape", "Round", "Shape", "Sign", "Size", "Slice", "Split"),
    *("Sqrt", "Squeeze", "Transpose", "Unsqueeze"),
}
MULTIPLIES_SIZE = {
    *("Add", "And", "Div", "Equal", "Gather", "Greater", "Less", "Max", "Min", "Mod", "Mul", "Or"),
    *("Pow", "Sub", "Where"),
}
_making = threading.Lock()  # between an allocator and the session that takes it


def open_session(
    content: bytes,
    options: OrtObject = None,
    *,
    input_bytes: int = 0,
    beside: Mapping[str, Buffer] | None = None,
) -> OrtObject:
    """Return a session for the CPU.

    Args:
        content: an ONNX file.
        options: ``ort.SessionOptions``; settings are added. None for one thread.
        input_bytes: size of its input; a large one allows it more memory.
        beside: what lies in the files, by name, in which its weights are; used where it is, and
            not rearranged for speed. ONNX Runtime 1.23 reads the files itself, from the
            current folder.

    Raises:
        DamagedOnnx, RefusedOnnx: it is no ONNX file, or asks for more than a model needs.
        Exception: whatever ONNX Runtime raises; it documents none.

    """
    beside = beside or {}
    sizes = {name: len(data) for name, data in beside.items()}
    seen = look_through(content, beside=sizes)
    if seen.has_functions:
        raise RefusedOnnx("it has functions of its own; import it again: perception import")
    if options is None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = LOG_FATAL_ONLY
    options.add_session_config_entry("session.load_model_format", "ONNX")
    without = NO_FOLDING if folds_too_much(seen) else []
    if beside:
        with suppress(AttributeError):
            options.add_external_initializers_from_files_in_memory(
                [*sizes], [*beside.values()], [*sizes.values()]
            )
        options.add_session_config_entry("session.disable_prepacking", "1")
    model_bytes = len(content) + sum(sizes.values())
    limit = LEAST_MEMORY + PER_MODEL_BYTE * model_bytes + PER_INPUT_BYTE * input_bytes
    is_alone = _making.acquire(timeout=LONGEST_WAIT_S)
    try:
        if _limit_next_session(limit):
            options.add_session_config_entry("session.use_env_allocators", "1")
        return ort.InferenceSession(
            content, options, providers=[PROVIDER], disabled_optimizers=without
        )
    finally:
        if is_alone:
            _making.release()


def _limit_next_session(limit: int) -> bool:
    """Register an allocator for the next session; those before keep theirs.

    Returns False where ONNX Runtime cannot do it twice, as before 1.23.
    """
    place = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    settings = ort.OrtArenaCfg({"max_mem": limit, "arena_extend_strategy": EXACTLY})
    try:
        ort.create_and_register_allocator(place, settings)
    except RuntimeError:
        return False
    return True


def folds_too_much(seen: OnnxContent) -> bool:
    """Tell whether what ONNX Runtime computes of constants alone, while it loads, may be large."""
    sizes: dict[str, float] = dict(seen.weights)
    limit = MAX_FOLDED + MAX_FOLDED_PER_WEIGHT * sum(seen.weights.values())
    readers = defaultdict(list)
    for node in seen.nodes:
        for name in filter(None, {*node.inputs}):
            readers[name].append(node)
        if node.operator == "Constant":
            sizes.update(dict.fromkeys(node.outputs, max(node.elements, 1)))
    missing = {id(node): len({*filter(None, node.inputs)}) for node in seen.nodes}
    total, waiting = 0.0, list(sizes)
    while waiting:
        for node in readers.pop(waiting.pop(), ()):
            missing[id(node)] -= 1
            if missing[id(node)]:
                continue
            size = _folded_size(node.operator, [sizes[name] for name in node.inputs if name])
            total += size * len(node.outputs)
            new = [name for name in node.outputs if name and name not in sizes]
            sizes.update(dict.fromkeys(new, size))
            waiting += new
    return total > limit


def _folded_size(operator: str, sizes: Sequence[float]) -> float:
    """Return how many elements an operator makes at most of inputs with so many."""
    if operator in KEEPS_SIZE:
        return max(sizes)
    if operator in MULTIPLIES_SIZE:
        return math.prod(sizes)
    return sum(sizes) if operator == "Concat" else math.inf
