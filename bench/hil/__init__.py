# SPDX-License-Identifier: Apache-2.0
"""Hardware in the loop: this host plays the car to a device under test, and judges its answers."""
