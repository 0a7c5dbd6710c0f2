# SPDX-License-Identifier: Apache-2.0
"""Play images to a node in a process of its own, and hear what it says."""
