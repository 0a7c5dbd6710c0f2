# SPDX-License-Identifier: Apache-2.0
"""Names for what other people's libraries leave untyped, so that a signature says what it takes.

Each stands for ``Any``. Import them for type checking only.
"""

from __future__ import annotations

from typing import Any, TypeAlias

Message: TypeAlias = Any  # a message or request of ROS, its class, or serialized bytes
RosObject: TypeAlias = Any  # a publisher, subscription, future, event or entity of rclpy
OrtObject: TypeAlias = Any  # a session, calibrator or enumeration of ONNX Runtime
TensorRtObject: TypeAlias = Any  # an object or enumeration of TensorRT
CudaObject: TypeAlias = Any  # an object or module of PyCUDA
TorchModule: TypeAlias = Any  # a foreign TorchScript module, or a program of torch.export
KerasModel: TypeAlias = Any  # a foreign model of Keras
Json: TypeAlias = Any  # plain data: JSON, YAML, whose form is checked where it is read
YamlIndex: TypeAlias = Any  # PyYAML's own argument
Passed: TypeAlias = Any  # arguments that go on to another library as they came
