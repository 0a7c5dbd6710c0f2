# SPDX-License-Identifier: Apache-2.0
"""The formats of compressed images: what a file states, what it may cost, its pixels."""
