# SPDX-License-Identifier: Apache-2.0
"""In the confined child: how models that are no ONNX are exported to it."""
