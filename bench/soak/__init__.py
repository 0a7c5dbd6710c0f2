# SPDX-License-Identifier: Apache-2.0
"""A real node and a camera that fails in every way, for a minute or a day: what does it cost?"""
