# SPDX-License-Identifier: Apache-2.0
"""Real nodes and a real HTTP server, attacked from outside in turns of attack and calm."""
