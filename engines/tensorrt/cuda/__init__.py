# SPDX-License-Identifier: Apache-2.0
"""What the TensorRT engine needs of CUDA: the GPU's facts, memory, streams, one kernel, graphs."""
