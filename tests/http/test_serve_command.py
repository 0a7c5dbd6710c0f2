# SPDX-License-Identifier: Apache-2.0
"""``perception serve`` as its users start it: in a process of its own."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys

import pytest

from perception_node.cli import main, serve
from tests.builders import RED, ROOT, encode, perception, solid
from tests.http_builders import PATIENCE_S, ask, serve_process, upload

JPEG = encode(solid(RED))


HANGING_ENGINES = """
import sys, time
from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.engines.pipeline import WARM_UP_RUNS
infer = OnnxRuntimeEngine.infer
def hang(engine):
    engine.runs = getattr(engine, "runs", 0) + 1
    if engine.runs > WARM_UP_RUNS:
        time.sleep(600)
    infer(engine)
OnnxRuntimeEngine.infer = hang
from perception_node.cli import main
sys.exit(main())
"""


def lacking(folder, package):
    """Return an environment in which a package cannot be imported."""
    line = f'raise ModuleNotFoundError("no {package}", name="{package}")\n'
    (folder / f"{package}.py").write_text(line)
    return {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_stop(color_bundle, number):
    with serve_process("--model", color_bundle, "--top-k", 2) as process:
        answer = upload(process.url, JPEG)
        code, said = process.end(number)
    assert (answer.json["label"], len(answer.json["results"])) == ("red", 2)
    assert "server" not in answer.headers
    assert code == 0
    (line,) = [line for line in said.splitlines() if line.startswith("serving ")]
    assert line.startswith("serving colors on ONNX Runtime")
    assert line.endswith(f"{process.url} (Ctrl-C stops)")
    assert "Traceback" not in said
    assert "everybody" not in said


def test_what_goes_wrong_is_a_few_lines_on_stderr(color_bundle):
    with serve_process("--model", color_bundle) as process:
        for _ in range(20):
            assert ask(process.url, "/nothing").status == 404
            assert (
                ask(process.url, "/predict", "POST", b"x", content_type="image/png").status == 400
            )
        code, said = process.end()
    assert code == 0
    assert sum("WARNING" in line for line in said.splitlines()) < 10
    assert "404 Not Found" in said
    assert "UndecodableImage" in said
    assert "Traceback" not in said


def test_the_options_reach_the_server(color_bundle):
    options = ["--max-body-mib", 1, "--cors-origin", "https://a.example", "--queue", 3]
    names = ["--trusted-host", "robot.local"]
    with serve_process("--model", color_bundle, *options, *names) as process:
        assert upload(process.url, bytes(2 << 20)).status == 413
        origin = ask(process.url, "/healthz", Origin="https://a.example", Host="robot.local:80")
        assert origin.status == 200
        assert origin.headers["access-control-allow-origin"] == "https://a.example"
        assert b"perception_queue_capacity 3.0" in ask(process.url, "/metrics").body


def test_whoever_opens_it_to_others_is_warned(color_bundle):
    with serve_process("--model", color_bundle, "--host", "0.0.0.0") as process:
        code, said = process.end()
    assert code == 0
    (line,) = [line for line in said.splitlines() if "everybody who can reach 0.0.0.0" in line]
    assert "TLS and passwords" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--queue", "0"], "--queue: from 1 to 1000, found 0"),
        (["--request-timeout", "0"], "--request-timeout: from 1"),
        (["--cors-origin", "a.example"], "--cors-origin: such as https://example.com"),
        (["--top-k", "0"], "top_k"),
    ],
)
def test_wrong_options_are_one_line(color_bundle, capsys, arguments, words):
    assert main(["serve", "--port", "0", "--model", str(color_bundle), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--model", "/nowhere"], "/nowhere"), (["--host", "203.0.113.9"], "--host 203.0.113.9")],
)
def test_what_cannot_be_opened_is_one_line(color_bundle, arguments, words):
    result = perception("serve", "--port", 0, "--model", color_bundle, *arguments)
    assert (result.returncode, words in result.stderr.splitlines()[-1]) == (2, True), result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("deadline_ms", "timeout_ms"), [(1, 1000), (1000, 1000), (5000, 5000), (600_000, 60_000)]
)
def test_an_engine_that_answers_within_the_deadline_is_never_given_up(deadline_ms, timeout_ms):
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    arguments = parser.parse_args(["--deadline-ms", str(deadline_ms)])
    assert serve._to_config(arguments).model.engine_timeout_ms == timeout_ms


@pytest.mark.parametrize("damaged_images", ["drop", "use"])
def test_what_becomes_of_damaged_images_is_an_option(damaged_images):
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    assert serve._to_config(parser.parse_args([])).cameras.damaged_images == "drop"
    arguments = parser.parse_args(["--damaged-images", damaged_images])
    assert serve._to_config(arguments).cameras.damaged_images == damaged_images


def test_a_port_that_is_taken_is_one_line(color_bundle):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = perception("serve", "--port", port, "--model", color_bundle)
    assert result.returncode == 2
    assert f"--port {port}: address already in use" in result.stderr.splitlines()[-1]


def test_a_server_whose_engines_all_hang_ends_so_that_it_is_started_again(color_bundle):
    arguments = ("--model", color_bundle, "--deadline-ms", 500)
    with serve_process(*arguments, program=("-c", HANGING_ENGINES)) as process:
        assert upload(process.url, JPEG).status == 504
        code = process.process.wait(PATIENCE_S)
        _, said = process.end()
    assert code == 1
    assert "an engine was given up" in said
    assert "no engine is left; ending" in said.splitlines()[-1]


@pytest.mark.parametrize("package", ["flask", "flask_cors", "prometheus_client", "waitress"])
def test_a_package_that_is_missing_is_named(color_bundle, tmp_path, package):
    environment = lacking(tmp_path, package)
    result = perception("serve", "--model", color_bundle, env=environment)
    assert result.returncode == 3
    assert f"pip install {package.replace('_', '-')}" in result.stderr


def test_without_ros_only_the_live_view_is_lacking(color_bundle, tmp_path):
    environment = lacking(tmp_path, "rclpy")
    with serve_process("--model", color_bundle, env=environment) as process:
        assert upload(process.url, JPEG).status == 200
        assert ask(process.url, "/live/events").status == 404
    result = perception("serve", "--model", color_bundle, "--ros", env=environment)
    assert result.returncode == 3
    assert "rclpy" in result.stderr.splitlines()[-1]


def test_without_a_place_for_large_bodies_it_says_so(color_bundle, tmp_path):
    program = (
        "import sys, tempfile; tempfile._candidate_tempdir_list = lambda: []\n"
        "from perception_node.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "serve", "--model", str(color_bundle)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 3
    assert "set TMPDIR" in result.stderr.splitlines()[-1]
