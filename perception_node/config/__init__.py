# SPDX-License-Identifier: Apache-2.0
"""What can be set: sections of one record, from which parameters, options and tables are made."""
