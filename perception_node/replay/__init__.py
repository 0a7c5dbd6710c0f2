# SPDX-License-Identifier: Apache-2.0
"""Records of a replay, and their comparison with a golden file."""
