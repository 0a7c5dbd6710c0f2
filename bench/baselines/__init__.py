# SPDX-License-Identifier: Apache-2.0
"""What the node is compared with: the one that people write, and the least that any node costs."""
