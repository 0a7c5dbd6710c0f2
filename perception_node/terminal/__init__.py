# SPDX-License-Identifier: Apache-2.0
"""What the commands write: lines, tables, bars."""
