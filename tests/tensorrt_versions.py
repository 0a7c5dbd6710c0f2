# SPDX-License-Identifier: Apache-2.0
"""TensorRT's Python API by version: its names, and modules that have exactly those names.

A module made here parses anything and builds nothing, but an attribute that the real version
lacks is an ``AttributeError``, and enum values are the real ones.
"""

from __future__ import annotations

import json
from enum import IntEnum
from types import SimpleNamespace

from tests.builders import ROOT

TABLE = json.loads((ROOT / "tests/data/tensorrt_api/names.json").read_bytes())
VERSIONS = tuple(TABLE["versions"])
ALL_NAMES = {
    name: {member for member in members if member}
    for part in ("members", "enums")
    for name, members in TABLE[part].items()
}


def has(version: str, name: str) -> bool:
    """Tell whether a version has ``"Builder"`` or ``"Builder.create_network"``."""
    index = VERSIONS.index(version)
    holder, _, member = name.partition(".")
    if holder in TABLE["enums"]:
        members = TABLE["enums"][holder]
        wanted = [member] if member else list(members)
        return any(_value(members, each, index) is not None for each in wanted)
    presence = TABLE["members"].get(holder, {}).get(member, "")
    return presence == "all" or presence[index : index + 1] == "x"


def _value(members, name, index):
    value = members.get(name)
    return value[index] if isinstance(value, list) else value


class StandinVersion:
    """A module like that of one version, as ``module``, and what it was asked, as ``calls``."""

    def __init__(
        self, version, *, fails=(), log=None, plan=b"ptrt plan", takes_caches=True
    ) -> None:
        """Make it.

        Args:
            version: one of ``VERSIONS``.
            fails: methods that return None, or False, as TensorRT does if something is wrong.
            log: called with the logger by every build.
            plan: what is built.
            takes_caches: of scales, which calibrators hand out.

        """
        self.calls = []
        self._version = version
        self._fails = fails
        self._log = log
        self._plan = plan
        self._takes_caches = takes_caches
        self.module = SimpleNamespace(__version__=version)
        self._add_enums()
        self._add_classes()

    def of(self, method):
        """Return the arguments of each call of a method, in order."""
        return [arguments for name, *arguments in self.calls if name == method]

    def _add_enums(self):
        index = VERSIONS.index(self._version)
        for name, members in TABLE["enums"].items():
            values = {each: _value(members, each, index) for each in members}
            here = {each: value for each, value in values.items() if value is not None}
            if here:
                setattr(self.module, name, IntEnum(name, here))

    def _add_classes(self):
        tensor = SimpleNamespace(name="image", dtype=SimpleNamespace(name="FLOAT"))
        layer = SimpleNamespace(
            name="conv",
            type=SimpleNamespace(name="CONVOLUTION"),
            num_inputs=1,
            get_input=lambda _index: tensor,
            num_outputs=1,
            get_output=lambda _index: SimpleNamespace(name="features"),
        )
        error = SimpleNamespace(
            code=lambda: SimpleNamespace(name="UNSUPPORTED_NODE"),
            node=lambda: 3,
            desc=lambda: "Assertion failed:\n no such operator",
        )
        self._add("ILogger", log=lambda *_: None)
        self._add("IProgressMonitor")
        self._add("IInt8EntropyCalibrator2")
        self._add("IInt8MinMaxCalibrator")
        cache = self._add("ITimingCache", serialize=self._answer("serialize", lambda: b"timings"))
        network = self._add(
            "INetworkDefinition",
            num_inputs=1,
            get_input=lambda _self, _index: tensor,
            num_layers=1,
            get_layer=lambda _self, _index: layer,
        )
        config = self._add(
            "IBuilderConfig",
            set_flag=self._answer("set_flag"),
            clear_flag=self._answer("clear_flag"),
            set_memory_pool_limit=self._answer("set_memory_pool_limit"),
            create_timing_cache=self._answer("create_timing_cache", cache),
            set_timing_cache=self._answer("set_timing_cache", lambda: True),
            get_timing_cache=self._answer("get_timing_cache", cache),
        )
        self._add(
            "Builder",
            __init__=lambda builder, logger: object.__setattr__(builder, "given", logger),
            create_network=self._answer("create_network", network),
            create_builder_config=self._answer("create_builder_config", config),
            build_serialized_network=self._build,
        )
        self._add(
            "OnnxParser",
            __init__=lambda *_: None,
            parse=self._answer("parse", lambda: True),
            num_errors=1,
            get_error=lambda _self, _index: error,
        )

    def _add(self, name, **behaviour):
        if not has(self._version, name):
            return None
        made = _make_class(self._version, name, behaviour)
        setattr(self.module, name, made)
        return made

    def _answer(self, name, result=lambda: None):
        def answer(_self, *arguments, **named):
            self.calls.append((name, *arguments, *named.values()))
            return None if name in self._fails else result()

        return answer

    @property
    def _build(self):
        def build(builder, network, config):
            self.calls.append(("build_serialized_network", network, config))
            if self._log:
                self._log(builder.given)
            calibrator = getattr(config, "int8_calibrator", None)
            if calibrator is not None:
                self._calibrate(calibrator)
            monitor = getattr(config, "progress_monitor", None)
            goes_on = monitor is None or _play(monitor)
            fails = "build_serialized_network" in self._fails
            return self._plan if goes_on and not fails else None

        return build

    def _calibrate(self, calibrator):
        """Ask as TensorRT does: for a cache with its own header, or else for images."""
        algorithm = {
            "IInt8EntropyCalibrator2": "EntropyCalibration2",
            "IInt8MinMaxCalibrator": "MinMaxCalibration",
        }[type(calibrator).__mro__[1].__name__]
        major, minor, patch = map(int, self._version.split(".")[:3])
        number = major * (1000 if major < 10 else 10_000) + minor * 100 + patch
        header = f"TRT-{number}-{algorithm}\n".encode()
        cache = calibrator.read_calibration_cache()
        if self._takes_caches and bytes(cache).startswith(header):
            self.calls.append(("calibrated from a cache",))
            return
        assert calibrator.get_batch(["image"]) is None
        calibrator.write_calibration_cache(memoryview(header))


def _play(monitor) -> bool:
    """Report two nested phases as TensorRT does, and return whether to go on."""
    monitor.phase_start("Building", None, 2)
    monitor.phase_start("Timing", "Building", 4)
    goes_on = all(monitor.step_complete("Timing", step) for step in range(4))
    monitor.phase_finish("Timing")
    goes_on = monitor.step_complete("Building", 0) and goes_on
    monitor.phase_finish("Building")
    return goes_on


def _make_class(version, name, behaviour):
    """Return a class with the members of one version; others cannot even be set."""
    members = {each for each in TABLE["members"][name] if each and has(version, f"{name}.{each}")}
    assert set(behaviour) <= members | {"__init__"}

    def refuse(self, attribute, value):
        if attribute not in members:
            msg = f"{name} of TensorRT {version} has no {attribute}"
            raise AttributeError(msg)
        object.__setattr__(self, attribute, value)

    return type(name, (), {**dict.fromkeys(members), **behaviour, "__setattr__": refuse})
