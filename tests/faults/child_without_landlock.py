# SPDX-License-Identifier: Apache-2.0
"""The confined child as it is on a kernel without Landlock: ``sandbox.CHILD`` in tests."""

from perception_node.engines.importing.sandbox import confinement
from perception_node.engines.importing.sandbox.child import main

confinement.allow_only_reading = lambda _paths: False

if __name__ == "__main__":
    main()
