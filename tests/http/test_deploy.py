# SPDX-License-Identifier: Apache-2.0
"""The examples in deploy/ fit the command, the checkout, and what reads them."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from urllib.error import URLError

import pytest

from perception_node.cli import EXIT_ENVIRONMENT, EXIT_WRONG_INPUT, _parse
from perception_node.serving.settings import ServerSettings
from tests.builders import ROOT
from tests.http_builders import free_port

DEPLOY = ROOT / "deploy"
UNIT = (DEPLOY / "perception-serve.service").read_text()
SYSTEMD_ANALYZE = shutil.which("systemd-analyze")
WORST_EXPOSURE = 2.0  # of 10
PATIENCE_S = 30.0
# `perception` is found where an installation has it.
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@contextmanager
def running(*command: str, **environment: str):
    """Yield a process, and end it as systemd and container engines do."""
    with subprocess.Popen(
        command,
        cwd="/",
        env=ENVIRONMENT | environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def wait_until(condition, process) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end_s, f"not within {PATIENCE_S} s"
        time.sleep(0.05)


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return json.load(answer)["status"] == "ok"
    except (URLError, ConnectionError):
        return False


def served_with(words: list[str]) -> ServerSettings:
    """Return what a command line says, read as `perception` reads it."""
    program, *arguments = words
    assert Path(program).name == "perception"
    arguments, _ = _parse(arguments)
    return ServerSettings(host=arguments.host, port=arguments.port)


# Procfile


def test_the_procfile_starts_a_server_that_everyone_can_reach():
    processes = dict(
        line.split(": ", 1) for line in (DEPLOY / "Procfile").read_text().splitlines()
    )
    assert list(processes) == ["web"]
    port = free_port()
    with running("bash", "-c", processes["web"], PORT=str(port)) as process:
        wait_until(lambda: answers(port), process)
        assert "0.0.0.0" in addresses(port)


def addresses(port: int) -> set[str]:
    """Return the IPv4 addresses on which somebody listens on a port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    local = [row[1].split(":") for row in rows if row[3] == "0A"]
    return {
        socket.inet_ntoa(bytes.fromhex(address)[::-1])
        for address, its_port in local
        if int(its_port, 16) == port
    }


# Container


def instructions() -> list[tuple[str, str]]:
    text = (DEPLOY / "Containerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def all_of(name: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == name]


def exec_form(text: str) -> list[str]:
    return json.loads(text)


def copied() -> list[Path]:
    """Return what the build takes from the checkout."""
    rows = [row.split() for row in all_of("COPY") if not row.startswith("--from")]
    return [ROOT / source for row in rows for source in row[:-1]]


def test_the_container_takes_what_is_there_and_nothing_is_kept_from_it():
    ignored = [
        line
        for line in (DEPLOY / "Containerfile.dockerignore").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert copied()
    for source in copied():
        assert source.exists(), source
        name = str(source.relative_to(ROOT))
        assert not [pattern for pattern in ignored if fnmatch(name, pattern)], name


def test_what_the_container_copies_is_enough_to_install_the_package(tmp_path):
    context, wheels = tmp_path / "context", tmp_path / "wheels"
    for source in copied():
        target = context / source.relative_to(ROOT)
        if source.is_dir():
            skipped = shutil.ignore_patterns("__pycache__", "reports")
            shutil.copytree(source, target, symlinks=True, ignore=skipped)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", wheels, context], check=True, env=ENVIRONMENT)
    (wheel,) = wheels.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    pages = (ROOT / "perception_node/serving/page").iterdir()
    assert {f"perception_node/serving/page/{page.name}" for page in pages} <= names
    shared = {name.partition(".data/data/share/perception_node/")[2] for name in names}
    models = [file for file in (ROOT / "models").rglob("*") if file.is_file()]
    assert {str(file.relative_to(ROOT)) for file in models} <= shared


def test_the_container_installs_only_what_is_pinned():
    for command in map(exec_form, all_of("RUN")):
        if command[:2] == ["pip", "install"]:
            assert {"--require-hashes", "--no-deps"} & set(command), command
            assert "--no-build-isolation" in command or "--require-hashes" in command


def test_the_container_is_not_root_and_needs_no_shell():
    assert int(all_of("USER")[-1].split(":")[0]) > 0
    (entry,) = map(exec_form, all_of("ENTRYPOINT"))
    settings = served_with(entry)
    assert not settings.is_loopback
    assert [settings.port] == [int(port) for port in all_of("EXPOSE")]


def test_the_container_serves_says_how_it_is_and_ends_when_told():
    port = str(free_port())
    (entry,) = map(exec_form, all_of("ENTRYPOINT"))
    (health,) = all_of("HEALTHCHECK")
    check = exec_form(health.partition(" CMD ")[2])

    def is_healthy() -> bool:
        command = [word.replace(":5000", f":{port}") for word in check]
        return not subprocess.run(
            command, env=ENVIRONMENT, stderr=subprocess.DEVNULL, check=False
        ).returncode

    assert not is_healthy()
    with running(*(port if word == "5000" else word for word in entry)) as process:
        wait_until(is_healthy, process)
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)
        assert process.returncode in {0, 130}
    assert not is_healthy()


# systemd


def unit_values(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", UNIT, re.MULTILINE)


def test_the_service_is_for_this_machine_alone():
    (command,) = unit_values("ExecStart")
    settings = served_with(shlex.split(command))
    assert settings.is_loopback
    assert unit_values("SocketBindAllow") == [f"tcp:{settings.port}"]


def test_the_service_is_not_restarted_for_what_does_not_mend_itself():
    assert unit_values("RestartPreventExitStatus") == [f"{EXIT_WRONG_INPUT} {EXIT_ENVIRONMENT}"]


@pytest.mark.skipif(SYSTEMD_ANALYZE is None, reason="systemd-analyze is not here")
@pytest.mark.parametrize("variant", ["alone", "with a node"])
def test_systemd_accepts_the_service(tmp_path, variant):
    unit = tmp_path / "perception-serve.service"
    program = Path(sys.executable).parent / "perception"
    unit.write_text(UNIT.replace("/opt/perception/bin/perception", str(program)))
    if variant == "with a node":
        drop_in = tmp_path / f"{unit.name}.d" / "ros.conf"
        drop_in.parent.mkdir()
        drop_in.write_text("".join(re.findall(r"^#ros (.*\n)", UNIT, re.MULTILINE)))
        assert "--ros" in drop_in.read_text()
    search_path = {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    verified = subprocess.run(
        [SYSTEMD_ANALYZE, "verify", "--man=no", unit],
        env=ENVIRONMENT | search_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (verified.returncode, verified.stderr) == (0, "")


@pytest.mark.skipif(SYSTEMD_ANALYZE is None, reason="systemd-analyze is not here")
def test_the_service_is_confined(tmp_path):
    unit = tmp_path / "perception-serve.service"
    unit.write_text(UNIT)
    command = [SYSTEMD_ANALYZE, "security", "--offline=true", "--no-pager", unit]
    report = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unrecognized option" in report.stderr:
        pytest.skip("this systemd-analyze judges only services that are loaded")
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", report.stdout)
    assert float(exposure[1]) <= WORST_EXPOSURE, report.stdout
