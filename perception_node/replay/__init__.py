# SPDX-License-Identifier: Apache-2.0
"""What ``perception replay`` writes, and what it is compared with."""
