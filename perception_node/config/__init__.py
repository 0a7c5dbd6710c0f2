# SPDX-License-Identifier: Apache-2.0
"""What can be set: one dataclass, from which parameters, options and tables are made."""
