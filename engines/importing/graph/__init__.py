# SPDX-License-Identifier: Apache-2.0
"""In the confined child: what an ONNX graph takes and gives, and how it becomes a bundle's."""
