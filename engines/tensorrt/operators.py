# SPDX-License-Identifier: Apache-2.0
"""Which ONNX the parser of a TensorRT version reads, by NVIDIA's own tables.

Source: docs/operators.md of onnx-tensorrt at 8.6-GA, 10.0-GA, 10.1-GA and 10.15, and
docs/Changelog.md for the versions between. Types and attributes are not looked at: ``perception
build`` on the robot has the last word.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perception_node.model.onnx_file import OnnxContent

OLDEST_OPSET = 9
NEWEST_OPSET = {(8, 6): 17, (10, 0): 20, (10, 1): 20, (10, 3): 20, (10, 15): 24}
SINCE = {
    (8, 6): """
        Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization
        Cast Ceil Celu Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum
        DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal Erf Exp Expand EyeLike Flatten
        Floor GRU Gather GatherElements GatherND Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool
        Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid HardSwish Identity If
        ImageScaler InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less
        LessOrEqual Log LogSoftmax Loop LpNormalization LpPool MatMul Max MaxPool Mean
        MeanVarianceNormalization Min Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or PRelu Pad
        ParametricSoftplus Pow QuantizeLinear RNN RandomNormal RandomNormalLike RandomUniform
        RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax
        ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize
        ReverseSequence RoiAlign Round ScaledTanh Scan Scatter ScatterElements ScatterND Selu Shape
        Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt
        Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where
        Xor
    """,
    (10, 0): "CastLike Gelu Hardmax Mish",
    (10, 1): "DeformConv",
    (10, 4): "BlackmanWindow HammingWindow HannWindow",
    (10, 5): "STFT",
    (10, 14): "Attention",
    (10, 15): "RMSNormalization RotaryEmbedding TensorScatter",
}
TARGETS = {f"tensorrt-{major}.{minor}": (major, minor) for major, minor in NEWEST_OPSET}


@dataclass(frozen=True, slots=True)
class Readability:
    """What a version of TensorRT cannot read of a model.

    Attributes:
        opset: of the model.
        newest: opset that the version reads.
        unknown: operators that it does not have, with the number of their nodes.

    """

    opset: int
    newest: int
    unknown: dict[str, int]

    @property
    def problems(self) -> list[str]:
        """What is wrong and what to do, each on one line; empty if it can be read."""
        found = []
        if not OLDEST_OPSET <= self.opset <= self.newest:
            found.append(
                f"opset {self.opset} is not among {OLDEST_OPSET} to {self.newest}; export the "
                f"model with opset {min(self.newest, 17)} and import it again"
            )
        if self.unknown:
            names = ", ".join(f"{name} ({count})" for name, count in self.unknown.items())
            found.append(f"it has no {names}; export the model without, or with a lower opset")
        return found


def readability(content: OnnxContent, target: str) -> Readability:
    """Compare a model with the tables of ``target``, a key of ``TARGETS``."""
    version = TARGETS[target]
    known = {name for since, names in SINCE.items() if since <= version for name in names.split()}
    counts = Counter(node.operator for node in content.nodes)
    unknown = {name: count for name, count in sorted(counts.items()) if name not in known}
    return Readability(content.opset, NEWEST_OPSET[version], unknown)
