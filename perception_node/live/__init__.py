# SPDX-License-Identifier: Apache-2.0
"""A live view of a node, for the page that shows it."""
