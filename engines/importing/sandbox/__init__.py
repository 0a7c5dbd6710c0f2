# SPDX-License-Identifier: Apache-2.0
"""The confined process in which the code and the parsers of foreign models run."""
