# SPDX-License-Identifier: Apache-2.0
"""The way of a frame: whose turn it is, whether it is in time, what became of it."""
