# SPDX-License-Identifier: Apache-2.0
"""A real node under attack from outside: what no honest peer sends, and whether it lives on."""
