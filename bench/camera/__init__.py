# SPDX-License-Identifier: Apache-2.0
"""What is played to a node: which images, how often, and what can be wrong with a camera."""
