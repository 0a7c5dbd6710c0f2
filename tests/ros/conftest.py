# SPDX-License-Identifier: Apache-2.0
from tests.browser import browser
from tests.ros.fixtures import (
    _environment,
    color_model,
    domain,
    jpeg,
    local,
    peer,
    start,
)
