# SPDX-License-Identifier: Apache-2.0
"""The command ``perception``: one verb, one file.

Exit codes: 0 ok, 1 the check failed, 2 wrong input, 3 the environment lacks something,
130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from importlib import import_module
from typing import Protocol, cast

from perception_node import __version__
from perception_node.engines.loading import is_stuck
from perception_node.errors import EnvironmentLacks, PerceptionError
from perception_node.installing import MissingPackage
from perception_node.terminal.output import Parser, complain, describe_bug

EXIT_OK, EXIT_CHECK_FAILED, EXIT_WRONG_INPUT, EXIT_ENVIRONMENT = 0, 1, 2, 3
EXIT_INTERRUPTED = 130
VERBS = {
    "demo": "play the sample bag through DDS into a real node and judge the result",
    "classify": "classify images and folders of images",
    "replay": "run a bag through the pipeline or real nodes; compare with a golden file",
    "play": "play a bag onto the ROS graph",
    "import": "make a model bundle of an ONNX, PyTorch or Keras file",
    "calibrate": "make int8 and FP16 models of a bundle from images",
    "evaluate": "measure what fp16 and int8 cost in accuracy, and decide whether they may run",
    "build": "build a TensorRT plan of a model bundle, list the plans, remove old ones",
    "inspect": "say everything about a model bundle or a plan",
    "bench": "measure latency, from bare inference to the whole node; compare two reports",
    "hil": "play a scenario of faults to a device under test, and judge what it answers",
    "serve": "answer images over HTTP with what they show, and show a page",
    "doctor": "say what this machine has and what is missing",
}
MODULES = {"import": "import_model"}  # a keyword of Python is no name for a module


class Verb(Protocol):
    """What each module in this folder offers."""

    EXAMPLE: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Describe the verb's arguments."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it and return the exit code."""


def main(argv: list[str] | None = None) -> int:
    """Run one verb and return the exit code; errors are one line on stderr."""
    exit_code = _run(argv)
    if is_stuck():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)
    return exit_code


def _run(argv: list[str] | None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as tidily as with SIGINT
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name need not be UTF-8
    sys.excepthook = describe_bug
    try:
        arguments, verb = _parse(argv)
        exit_code = verb.run(arguments)
        sys.stdout.flush()  # at the exit it is too late to notice that the reader is gone
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("perception_node"):
            raise  # a bug of ours
        complain(MissingPackage(error))
        return EXIT_ENVIRONMENT
    except PerceptionError as error:
        complain(error)
        return EXIT_ENVIRONMENT if isinstance(error, EnvironmentLacks) else EXIT_WRONG_INPUT
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except OSError as error:
        if error.filename is None:
            raise  # not about a file that somebody has named
        complain(f"{error.filename}: {error.strerror}")
        return EXIT_WRONG_INPUT
    return exit_code


def _parse(argv: list[str]) -> tuple[argparse.Namespace, Verb]:
    """Parse with the parser of one verb: only that verb's imports are paid for."""
    verbs = "".join(f"  {name:<10}{what}\n" for name, what in VERBS.items())
    parser = Parser(
        prog="perception",
        usage="perception [--version] VERB ...",
        description=f"verbs:\n{verbs}\nperception VERB --help tells more, with an example.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"perception_node {__version__}")
    parser.add_argument("verb", choices=VERBS, help=argparse.SUPPRESS)
    name = parser.parse_args(argv[:1]).verb
    verb = cast("Verb", import_module(f"perception_node.cli.{MODULES.get(name, name)}"))
    verb_parser = Parser(
        prog=f"perception {name}",
        description=VERBS[name][0].upper() + VERBS[name][1:] + ".",
        epilog=f"example: {verb.EXAMPLE}",
    )
    verb.add_arguments(verb_parser)
    ours, ros_arguments = _split_ros_arguments(argv[1:])
    for word in ours:
        if word.startswith("--") and word.endswith("=--"):  # argparse would make it an empty list
            verb_parser.error(f"argument {word.removesuffix('=--')}: -- is no value")
    arguments = verb_parser.parse_args(ours)
    arguments.words, arguments.ros_arguments = ours, ros_arguments
    return arguments, verb


def _split_ros_arguments(argv: list[str]) -> tuple[list[str], list[str]]:
    """Leave what begins with ``--ros-args`` to rclpy, which launch files rely on."""
    split = argv.index("--ros-args") if "--ros-args" in argv else len(argv)
    return argv[:split], argv[split:]
