# SPDX-License-Identifier: Apache-2.0
"""What native code of a model could do as the confined child: ``sandbox.CHILD`` in tests.

The file ``model`` says which: a line of Python that finds the descriptor of the answer.
"""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    program = compile(Path("model").read_text(), "model", "exec")
    exec(program, {"os": os, "sys": sys, "answer": int(sys.argv[1])})  # noqa: S102 - of a test
