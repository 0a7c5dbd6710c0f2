# SPDX-License-Identifier: Apache-2.0
"""docs/http.md says what the server has: options, addresses, keys, metrics."""

from __future__ import annotations

import argparse
import json
import re
import urllib.request

import pytest

from perception_node.cli import serve
from perception_node.config.sections import CameraConfig
from perception_node.live.live_view import LiveView
from perception_node.serving.http_server import CONNECTIONS, MAX_HEADER_BYTES
from perception_node.serving.settings import ServerSettings
from perception_node.serving.uploads import MAX_FIELDS
from tests.builders import RED, ROOT, encode, solid
from tests.http_builders import serving

PAGE = (ROOT / "docs/http.md").read_text()
NO_DEFAULT = {"none": ([],), "off": (None, False)}


def section(title: str) -> str:
    """Return the text below a heading, up to the next one."""
    _, found, text = PAGE.partition(f"# {title}\n")
    assert found, title
    return text.partition("\n#")[0]


def rows(title: str) -> list[list[str]]:
    """Return the cells of the tables below a heading."""
    lines = [line for line in section(title).splitlines() if line.startswith("| ")]
    return [line.strip("| ").split(" | ") for line in lines]


@pytest.fixture(scope="module")
def server(color_bundle):
    """A server with a live view of a node that is not there."""
    live = LiveView("/perception", 0, viewers=1)
    with serving(color_bundle, live=live) as served:
        yield served
        live.close()


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def test_every_option_is_listed_with_its_default():
    parser = argparse.ArgumentParser(add_help=False)
    serve.add_arguments(parser)
    found = {action.option_strings[0]: action.default for action in parser._actions}
    listed = {option.strip("`"): default for option, default, _ in rows("Limits")[1:]}
    assert listed.keys() == found.keys()
    for option, default in listed.items():
        if default in NO_DEFAULT:
            assert found[option] in NO_DEFAULT[default], option
        else:
            assert default.strip("`").strip("'") == str(found[option]), option


def test_the_defaults_of_the_command_are_those_of_the_settings():
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    assert serve.to_settings(parser.parse_args([])) == ServerSettings()


def test_limits_that_no_option_changes():
    text = " ".join(section("Limits").split())
    assert f"{CameraConfig().max_image_pixels} pixels" in text
    assert f"{MAX_HEADER_BYTES >> 10} KiB of headers" in text
    assert f"{MAX_FIELDS} fields in a form" in text
    assert f"{CONNECTIONS} connections" in text


def test_every_address_is_listed(server):
    listed = {
        (method, re.sub(r"<.*>", "<>", address))
        for words in re.findall(r"^\| (`(?:GET|POST) .*?) \|", PAGE, re.MULTILINE)
        for method, address in [words.split("`")[1].split()]
    }
    found = {
        (method, re.sub(r"<.*>", "<>", rule.rule))
        for rule in server.app.url_map.iter_rules()
        for method in rule.methods & {"GET", "POST", "PUT", "PATCH", "DELETE"}
    }
    pages = {("GET", "/static/page.css")}  # two of the files stand for the rule
    assert listed - pages == found - {("GET", "/static/<>")}
    assert pages <= listed


@pytest.mark.parametrize("address", re.findall(r"`(?:GET )?(/static/\S+?)`", PAGE))
def test_what_the_page_needs_is_there(server, address):
    assert get(server.url + address)


def test_the_keys_of_a_prediction(server):
    request = urllib.request.Request(
        f"{server.url}/predict", encode(solid(RED)), {"Content-Type": "image/jpeg"}
    )
    answer = json.loads(get(request))
    listed = {key for keys, _ in rows("`POST /predict`")[1:] for key in re.findall(r"\w+", keys)}
    (example,) = re.findall(r"```json\n(.*?)```", section("`POST /predict`"), re.DOTALL)
    example = json.loads(example)
    assert listed == answer.keys() == example.keys()
    assert answer["results"][0].keys() == example["results"][0].keys()


def test_the_keys_of_an_event(server):
    with urllib.request.urlopen(f"{server.url}/live/events", timeout=10) as events:
        event = json.loads(events.readline().decode().removeprefix("data: "))
    listed = [re.findall(r"`(\w+)`", keys) for keys, _ in rows("`GET /live/events`")[1:]]
    assert {key for keys in listed for key in keys} == event.keys()


def test_every_metric_is_listed_with_its_type(server):
    listed = {
        name: kind
        for names, kind, _ in rows("Metrics")[1:]
        for name in re.findall(r"`(\w+)`", names)
    }
    found = dict(re.findall(r"^# TYPE (\w+) (\w+)$", get(f"{server.url}/metrics"), re.MULTILINE))
    assert listed == {
        name: kind
        for name, kind in found.items()
        if not name.startswith("process_") and not name.endswith("_created")
    }
