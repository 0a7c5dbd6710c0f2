# SPDX-License-Identifier: Apache-2.0
"""From runs to reports: percentiles, ratios, comparisons; as JSON, tables, Markdown, pictures."""
