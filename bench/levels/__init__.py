# SPDX-License-Identifier: Apache-2.0
"""What `perception bench` measures: bare inference, the pipeline, the whole node, its start."""
