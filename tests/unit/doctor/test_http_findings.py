# SPDX-License-Identifier: Apache-2.0
"""The node runs without the packages of `perception serve`; the doctor says what to install."""

from __future__ import annotations

import ast
from importlib import metadata

import pytest

from perception_node.cli import doctor
from perception_node.doctor.findings import OK, OPTIONAL, Finding
from perception_node.doctor.http_findings import LOWEST, check_http, require_http
from perception_node.errors import EnvironmentLacks
from tests.builders import ROOT

NOBLE = {"flask": "3.0.2", "flask-cors": "4.0.0", "prometheus-client": "0.19.0"}  # no waitress


def install(monkeypatch, versions):
    def version(name):
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)


def test_what_is_here_is_named_with_its_version():
    finding = check_http()
    assert (finding.state, finding.advice) == (OK, "")
    assert [part.split()[0] for part in finding.found.split(", ")] == list(LOWEST)
    assert check_http in doctor.CHECKS.values()


def test_missing_and_old_packages_are_told_with_the_way_to_get_them(monkeypatch):
    install(monkeypatch, NOBLE)
    assert check_http() == Finding(
        "HTTP",
        OPTIONAL,
        "flask 3.0.2, flask-cors 4.0.0, prometheus-client 0.19.0, waitress missing: "
        "perception serve needs others",
        "pip install 'flask>=3.1' 'flask-cors>=6.0' 'waitress>=3.0.1'",
    )


@pytest.mark.parametrize(
    ("found", "state"),
    [("3.0.1", OK), ("3.0.0", OPTIONAL), ("3.0", OPTIONAL), ("3.0.10", OK), ("10.0rc1", OK)],
)
def test_versions_are_compared_as_numbers(monkeypatch, found, state):
    install(monkeypatch, {**LOWEST, "waitress": found})
    assert check_http().state == state


def test_nothing_is_served_with_packages_that_are_too_old(monkeypatch):
    require_http()
    install(monkeypatch, {**LOWEST, "waitress": "2.1.2"})
    with pytest.raises(EnvironmentLacks, match=r"waitress 2\.1\.2.*run: pip install 'waitress>=3"):
        require_http()


def test_the_extra_has_the_same_bounds():
    extras = next(
        ast.literal_eval(node.value)
        for node in ast.walk(ast.parse((ROOT / "setup.py").read_text()))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "EXTRAS"
    )
    bounded = [text.split(">=") for text in extras["serve"] if ">=" in text]
    assert dict(bounded) == LOWEST
    required = [
        line.split()[0]
        for line in (ROOT / "requirements/serve.in").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert sorted(text.split(">=")[0] for text in extras["serve"]) == sorted(required)
