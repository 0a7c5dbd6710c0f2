# SPDX-License-Identifier: Apache-2.0
"""Settings of which each takes one of a few words."""

from __future__ import annotations

from typing import Literal

AgeReference = Literal["stamp", "arrival"]
ClassIdFormat = Literal["index", "name"]
DamagedImages = Literal["drop", "use"]
EngineChoice = Literal["auto", "tensorrt", "onnxruntime"]
ExecutorName = Literal["single_threaded", "events"]
Precision = Literal["fp32", "fp16", "int8"]
QosName = Literal["sensor_data", "default", "system_default"]
SchedulingPolicy = Literal["other", "fifo", "rr"]
Transport = Literal["raw", "compressed"]
