# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

from tests.ros_api import MISSING, Api, misfits
from tools.python_api import read_module
from tools.read_ros_api import main

PYTHON = '''
import sys
from typing import NamedTuple, Optional, TYPE_CHECKING, Union
from demo.impl import native as _native
from .other import helper
if TYPE_CHECKING:
    from demo.other import OnlyForTypes
ALIAS = _native.Thing
LIMIT: int = 3
try:
    from demo.new import Fast
except ImportError:
    from demo.old import Fast


class Pair(NamedTuple):
    first: int
    second: int = 0


class Base:
    """Text that must not be copied."""

    KIND = 1

    def __init__(self, name, /, size=1, *rest, deep, wide=2, **more) -> None:
        self.size = size
        self.left, self.right = 1, 2
        self._hidden = name

    @property
    def pair(self) -> "Optional[Pair]":
        return None

    @pair.setter
    def pair(self, value): ...

    @staticmethod
    def make(text) -> Union["Base", int]: ...

    def copy(self) -> "Base": ...

    def _private(self): ...


class Derived(Base): ...


def build(*, now=None) -> Derived: ...
'''
NATIVE = """
// py::class_<NotThis>(m, "NotThis")
py::class_<Thing, Parent, std::shared_ptr<Thing>>(module, "Thing")
  .def(py::init<int>(), py::arg("size"), py::arg("deep") = 1)
  .def("go", &Thing::go, "Go")
  .def_property_readonly("width", [](const Thing & t) { return t.width; });
py::class_<Parent>(module, "Parent").def("__enter__", &Parent::enter).def("stop", &Parent::stop);
py::enum_<color>(m, "Color").value("RED", RED).value("BLUE", BLUE);
py::register_exception<Oops>(m, "Oops", PyExc_RuntimeError);
m.def("start", &start);
"""
MESSAGE = """
# a comment
uint8 OK=0
std_msgs/Header header
float64[<=3] values  # with another
string name "default"
"""


def make_table(folder):
    package = folder / "sources/demo"
    for name, text in {
        "package.xml": "<package><name>demo</name><version>1.2.3</version></package>",
        "demo/__init__.py": "from .first import Base, Fast\nfrom demo.other import *\n",
        "demo/first.py": PYTHON,
        "demo/other.py": "def helper(x): ...\n",
        "demo/new.py": "class Fast: ...\n",
        "demo/impl.py": "native = import_c_library('._demo_pybind11', package)\n",
        "src/demo/thing.cpp": NATIVE,
        "msg/State.msg": MESSAGE,
        "srv/Ask.srv": "int32 a\nint32 b\n---\nbool good\n",
    }.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    main(folder / "sources", folder / "table.json")
    return json.loads((folder / "table.json").read_text())


def test_a_package_is_read(tmp_path):
    table = make_table(tmp_path)
    assert table["packages"] == {"demo": "1.2.3"}
    assert "must not be copied" not in (tmp_path / "table.json").read_text()
    first = table["modules"]["demo.first"]
    assert first == {
        "ALIAS": "demo.impl.native.Thing",
        "Base": {
            "KIND": "",
            "__init__": "(name, /, size=, *rest, deep, wide=, **more)",
            "size": "",
            "left": "",
            "right": "",
            "pair": "-> demo.first.Pair",
            "make": "(text) -> demo.first.Base",
            "copy": "() -> demo.first.Base",
        },
        "Derived": {"<bases>": "demo.first.Base"},
        "Fast": "demo.new.Fast|demo.old.Fast",
        "LIMIT": "",
        "Pair": {
            "<bases>": "typing.NamedTuple",
            "first": "",
            "second": "",
            "__init__": "(first, second=)",
        },
        "build": "(*, now=) -> demo.first.Derived",
        "helper": "demo.other.helper",
    }
    assert table["modules"]["demo._demo_pybind11"] == {
        "Color": {"RED": "", "BLUE": "", "__init__": "(*args)"},
        "Oops": {"__init__": "(*args)", "<bases>": "builtins.Exception"},
        "Parent": {"__enter__": "(*args)", "stop": "(*args)", "__init__": "(*args)"},
        "Thing": {
            "__init__": "(size, deep=)",
            "go": "(*args)",
            "width": "",
            "<bases>": "demo._demo_pybind11.Parent",
        },
        "start": "(*args)",
    }
    assert table["modules"]["demo.msg"]["State"] == {
        "OK": "",
        "header": "",
        "values": "",
        "name": "",
        "__init__": "(*, header=, values=, name=)",
    }
    assert table["modules"]["demo.srv"]["Ask_Request"]["__init__"] == "(*, a=, b=)"


def test_names_are_found_where_they_are_imported_and_inherited(tmp_path):
    api = Api(make_table(tmp_path)["modules"])
    assert api.locate("demo.Base.copy") == "demo.first.Base.copy"
    assert api.locate("demo.Fast") == "demo.new.Fast"
    assert api.locate("demo.helper") == "demo.other.helper"
    assert api.locate("demo.first.Derived.copy") == "demo.first.Base.copy"
    assert api.locate("demo.first.ALIAS.stop") == "demo._demo_pybind11.Parent.stop"
    assert api.find("demo.first.Derived.no_such") is MISSING
    assert api.find("demo._demo_pybind11.Oops.args") == ""
    assert api.find("demo.absent|demo.first.LIMIT") == ""
    assert api.signature("demo.first.Derived").startswith("(name, /, size=")
    assert api.signature("demo.new.Fast") == "()"


def test_calls_that_do_not_fit_are_told():
    signature = "(name, /, size=, *, deep, wide=)"
    assert misfits(signature, 1, ("deep",)) == []
    assert misfits(signature, 2, ("deep", "wide")) == []
    assert misfits(signature, 1, ()) == ["the argument deep is needed"]
    assert misfits(signature, 3, ("deep",)) == ["no 3 arguments without names"]
    assert misfits(signature, 1, ("deep", "tall")) == ["no argument tall"]
    assert misfits(signature, None, ()) == []
    assert misfits(signature, 1, (None,)) == []
    assert misfits("(**more)", 0, ("any",)) == []
    assert misfits("(*args)", 5, ()) == []
    assert misfits("(*args)", 0, ("size",)) == ["no argument size"]
    assert misfits("", 3, ("anything",)) == []


def test_private_names_only_on_request():
    source = "_a = 1\nclass B:\n  def _c(self): ...\n"
    assert read_module(source, "m", package=False) == {"B": {}}
    assert read_module(source, "m", package=False, private=True) == {"_a": "", "B": {"_c": "()"}}
