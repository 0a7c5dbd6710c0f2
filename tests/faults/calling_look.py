# SPDX-License-Identifier: Apache-2.0
"""Let the confined child read paths, as an import would be called: ``calling_look.py PATHS``."""

import json
import sys
from pathlib import Path

from perception_node.engines.importing.sandbox import sandbox
from perception_node.engines.importing.sandbox.confinement import Limits

if __name__ == "__main__":
    sandbox.CHILD = "tests.faults.child_that_looks"
    caller = sandbox.Sandbox(Path("model"), Limits(), trusted=False)
    answer = caller.run("look", {"model": b""}, {"paths": sys.argv[1:]}, runs_code=True)
    sys.stdout.write(json.dumps(answer.facts))
