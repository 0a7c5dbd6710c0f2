# SPDX-License-Identifier: Apache-2.0
"""YAML as people mean it: ``off`` is a word, a key occurs once, nothing refers to something else.

YAML 1.1 reads ``off`` as false, and an alias can make a small file a huge structure.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import yaml

from perception_node.errors import ConfigError
from perception_node.system.files import read_regular_file

if TYPE_CHECKING:
    from pathlib import Path

    from perception_node.untyped import Json, YamlIndex

MAX_BYTES = 256 * 1024
MOST_BITS = 63  # beside the sign; more digits than Python prints fit into a small file
BOOL_TAG, TIME_TAG = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp"


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases, dates, NaN and keys that come twice."""

    def compose_node(self, parent: yaml.Node | None, index: YamlIndex) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="an alias is not allowed here; write its content",
                problem_mark=self.peek_event().start_mark,  # type: ignore[no-untyped-call]
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - as in PyYAML
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in seen:
                problem = "a key must be one word, and each may occur once"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return {str(key): value for key, value in super().construct_mapping(node, deep).items()}

    def construct_whole(self, node: yaml.ScalarNode) -> int:
        value = int(self.construct_yaml_int(node))
        if value.bit_length() > MOST_BITS:
            raise yaml.MarkedYAMLError(
                problem=f"a whole number must fit into {MOST_BITS} bits",
                problem_mark=node.start_mark,
            )
        return value

    def construct_finite(self, node: yaml.ScalarNode) -> float:
        value = float(self.construct_yaml_float(node))
        if not math.isfinite(value):
            raise yaml.MarkedYAMLError(
                problem="a number must be finite", problem_mark=node.start_mark
            )
        return value


_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag not in {BOOL_TAG, TIME_TAG}]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver(BOOL_TAG, re.compile("^(?:true|false)$"), list("tf"))
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _StrictLoader.construct_finite)
_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_whole)


def read_yaml(path: Path) -> Json:
    """Return what a file says, in plain values.

    Raises:
        ConfigError: it cannot be read, or is no such YAML; names file and line.

    """
    try:
        text = read_regular_file(path, MAX_BYTES).decode()
        return _StrictLoader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" line {mark.line + 1}:" if mark is not None else ""
        raise ConfigError(f"{path}:{line} {error.problem or error.context}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # PyYAML lets through whatever int(), float() and others raise
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{path}: not YAML in UTF-8: {reason}") from error
