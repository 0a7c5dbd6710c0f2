# SPDX-License-Identifier: Apache-2.0
"""The example of docs/http.md in a real nginx: TLS and a password in front of the server."""

from __future__ import annotations

import os
import re
import shutil
import ssl
import subprocess
from contextlib import contextmanager
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from perception_node.live.live_view import LiveView
from perception_node.serving.settings import ServerSettings
from tests.browser import Visit, picture
from tests.builders import GREEN, ROOT, encode, solid
from tests.http_builders import free_port, is_open, serving
from tests.node_statuses import HEALTHY
from tests.ros.harness import wait_for

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")  # where Debian has it
pytestmark = [
    pytest.mark.skipif(NGINX is None, reason="nginx is not here"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not here"),
]
NAME = "robot.example.org"
CREDENTIALS = {"username": "robot", "password": "a password"}
LIMIT_MIB = 16  # of nginx; the server has a larger one
MAIN = """
daemon off; pid nginx.pid; error_log stderr; {user}
events {{}}
http {{
    access_log off; client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    {example}
}}
"""


def example() -> str:
    """Return the configuration as printed."""
    text = (ROOT / "docs/http.md").read_text()
    (block,) = re.findall(r"^```nginx\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return block


def openssl(*arguments) -> str:
    command = ["openssl", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextmanager
def nginx(folder, upstream):
    """Run nginx with the example in front of a server's port; yields its own port."""
    port = free_port()
    key, certificate, passwords = (folder / name for name in ("key", "certificate", "passwords"))
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={NAME}",
            "-keyout", key, "-out", certificate)  # fmt: skip
    secret = openssl("passwd", "-apr1", CREDENTIALS["password"])
    passwords.write_text(f"{CREDENTIALS['username']}:{secret}")
    text = example()
    for printed, here in {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "/etc/ssl/robot.pem": certificate,
        "/etc/ssl/robot.key": key,
        "/etc/nginx/perception.htpasswd": passwords,
        "http://127.0.0.1:5000": f"http://127.0.0.1:{upstream}",
    }.items():
        assert printed in text
        text = text.replace(printed, str(here))
    user = "user root;" if os.geteuid() == 0 else ""  # its workers read our files
    (folder / "nginx.conf").write_text(MAIN.format(user=user, example=text))
    command = [NGINX, "-p", folder, "-c", "nginx.conf", "-e", "stderr"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(lambda: process.poll() is not None or is_open(port), lambda: "nginx")
            assert process.poll() is None, process.stderr.read()
            yield port
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def live():
    view = LiveView("/perception", 7, viewers=2)
    view.show_status(HEALTHY)
    return view


@pytest.fixture(scope="module")
def port(color_bundle, live, tmp_path_factory):
    settings = ServerSettings(max_body_mib=2 * LIMIT_MIB, trusted_hosts=(NAME,), viewers=2)
    with (
        serving(color_bundle, settings, live) as server,
        nginx(tmp_path_factory.mktemp("nginx"), server.port) as port,
    ):
        yield port


@pytest.fixture
def visit(browser, port):
    options = {"ignore_https_errors": True, "http_credentials": CREDENTIALS}
    with Visit(browser, f"https://{NAME}:{port}", **options) as opened:
        yield opened


def test_nobody_passes_without_the_password(port):
    unverified = ssl._create_unverified_context()  # noqa: S323 - the certificate is our own
    with pytest.raises(HTTPError, match="401"):
        urlopen(f"https://127.0.0.1:{port}/healthz", context=unverified)


def test_a_picture_is_classified(visit):
    visit.page.set_input_files("#file", picture(encode(solid(GREEN))))
    visit.wait_for_text("#found .label", "green")


def test_what_the_node_says_is_seen_at_once(visit, live):
    visit.wait_for_text("#state", "✓ ok")
    for label in ("red", "green", "blue"):
        live.show_result("/image", [(label, 0.75)])
        visit.wait_for_text(".camera .label", label)


def test_what_nginx_refuses_is_said_in_words(visit, tmp_path):
    large = tmp_path / "large.jpg"
    with large.open("wb") as file:
        file.truncate((LIMIT_MIB << 20) + 1)
    visit.page.set_input_files("#file", large)
    visit.wait_for_text("#message", "The server answered 413.")
