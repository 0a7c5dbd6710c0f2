# SPDX-License-Identifier: Apache-2.0
"""Output of the commands: lines, tables, bars."""
