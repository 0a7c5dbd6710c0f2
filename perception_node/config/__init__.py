# SPDX-License-Identifier: Apache-2.0
"""Settings: sections of one record, from which parameters, options and tables are made."""
