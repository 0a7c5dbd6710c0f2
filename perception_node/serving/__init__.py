# SPDX-License-Identifier: Apache-2.0
"""An image classifier over HTTP: the node's pipeline behind ``POST /predict``, and a page."""
