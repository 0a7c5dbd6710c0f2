# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from tests.browser import browser
from tests.http_builders import serving


@pytest.fixture(scope="module")
def server(color_bundle):
    """A server of one test file that tells red, green and blue apart."""
    with serving(color_bundle) as served:
        yield served
