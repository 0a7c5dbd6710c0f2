# SPDX-License-Identifier: Apache-2.0
"""A model bundle: its files and their digests, and the gate of its accuracy."""
