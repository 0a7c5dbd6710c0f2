# SPDX-License-Identifier: Apache-2.0
"""TensorRT and TensorRT-RTX: plans are built here, kept by ``engines.plans``, and run here.

Nothing in this package imports TensorRT, PyCUDA or ONNX before it is asked to do its work.
"""
