# SPDX-License-Identifier: Apache-2.0
"""Measuring and rehearsing: benchmarks, hardware in the loop, soak, siege."""
