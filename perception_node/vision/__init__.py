# SPDX-License-Identifier: Apache-2.0
"""From a camera's pixels to the network's input, and from its output to a prediction."""
