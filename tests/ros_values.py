# SPDX-License-Identifier: Apache-2.0
"""Follow what the values of Python source are, as far as ROS and our own classes go.

A value is one of

    ("is", path)    the module, class or function of that full name
    ("of", path)    an object of that class
    ("each", path)  a collection of such objects

What a call returns comes from the signatures of ROS and of our own functions.
"""

from __future__ import annotations

import ast
import functools
from collections import deque

from tests.ros_api import MISSING, PACKAGES, RELEASES, Api, release
from tools.python_api import Module, imports

# The newest release says most about what a function returns.
NEWEST_FIRST = [release(name) for name in reversed(RELEASES)]
TELLING = (
    *(ast.Import, ast.ImportFrom, ast.arg, ast.AnnAssign, ast.Assign, ast.NamedExpr),
    *(ast.withitem, ast.For, ast.comprehension),
)


class Project:
    """Sources that use each other."""

    def __init__(self, sources) -> None:
        """Read them.

        Args:
            sources: Python by module, such as ``"perception_node.ros.node"``.

        """
        self.trees = {name: ast.parse(source) for name, source in sources.items()}
        self._modules = {name: Module(name, package=False, private=True) for name in sources}
        self.own = Api({name: self._modules[name].read(tree) for name, tree in self.trees.items()})
        self.attributes = {}  # what our objects hold: (class, name) -> value
        for _ in range(3):  # one class holds what another one holds
            for name in sources:
                for _ in self.scopes(name):
                    pass

    def scopes(self, name):
        """Return the functions of a module and the rest of it, each with its scope."""
        for function, owner in functions(self.trees[name]):
            scope = Scope(self, self._modules[name], f"{name}.{owner}" if owner else "")
            scope.learn(function)
            yield function, scope

    def entry(self, path):
        """Return what is known of a path, of our own or in any release."""
        found = (api.find(path) for api in [self.own, *NEWEST_FIRST])
        return next((each for each in found if each is not MISSING), MISSING)

    def lineage(self, path):
        """Return a class and our own classes that it comes from, then the first one of ROS."""
        path = self.own.locate(path)
        if path.partition(".")[0] in PACKAGES:
            return [path]
        return [path, *(each for base in self.own.bases(path) for each in self.lineage(base))]


class Scope:
    """What the variables of one function are; the same name is the same throughout."""

    def __init__(self, project, module, owner) -> None:
        """Begin without variables; ``owner`` is the class of a method."""
        self.project = project
        self.module = module
        self.owner = owner
        self._variables = {}

    def learn(self, function) -> None:
        """Find out what the variables are."""
        arguments = getattr(function, "args", None)
        if self.owner and arguments and arguments.args:
            names = {ast.unparse(each) for each in function.decorator_list}
            if "staticmethod" not in names:
                kind = "is" if "classmethod" in names else "of"
                self._variables[arguments.args[0].arg] = (kind, self.owner)
        for _ in range(2):  # a closure may use what is assigned after it
            for node in _telling_nodes(function):
                self._learn_from(node)

    def _learn_from(self, node) -> None:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for name, origin in imports(node, self.module.package):
                self._variables[name] = ("is", self._with_fallbacks(name, origin))
        elif isinstance(node, ast.arg):
            self._assign(ast.Name(node.arg), self._annotated(node.annotation))
        elif isinstance(node, ast.AnnAssign):
            self._assign(
                node.target, self._annotated(node.annotation) or self.value_of(node.value)
            )
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._assign_all(target, node.value)
        elif isinstance(node, ast.NamedExpr):
            self._assign(node.target, self.value_of(node.value))
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            self._assign(node.optional_vars, self.value_of(node.context_expr))
        elif isinstance(node, (ast.For, ast.comprehension)):
            self._assign(node.target, _one_of(self.value_of(node.iter)))

    def _with_fallbacks(self, name, origin):
        """Return an import together with others that bind the same name."""
        known = self._variables.get(name, ("", ""))
        before = known[1].split("|") if known[0] == "is" and known[1] else []
        return "|".join(dict.fromkeys([*before, origin]))

    def _assign_all(self, target, value) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for each, its_value in zip(target.elts, value.elts, strict=False):
                self._assign(each, self.value_of(its_value))
        else:
            self._assign(target, self.value_of(value))

    def _assign(self, target, value) -> None:
        if value is None:
            return
        if isinstance(target, ast.Name):
            self._variables[target.id] = value
        elif isinstance(target, ast.Attribute):
            holder = self.value_of(target.value)
            if holder and holder[0] == "of":
                self.project.attributes.setdefault((holder[1], target.attr), value)

    def _annotated(self, annotation):
        return _result(self.module.returned(annotation))

    def value_of(self, node):
        """Return what an expression is, or None if that cannot be followed."""
        if isinstance(node, ast.Name):
            return self._named(node.id)
        if isinstance(node, ast.Attribute):
            return self.member(self.value_of(node.value), node.attr)
        if isinstance(node, ast.Call):
            return self._called(node)
        if isinstance(node, (ast.BoolOp, ast.IfExp, ast.NamedExpr)):
            choices = {ast.BoolOp: ["values"], ast.IfExp: ["body", "orelse"]}
            return self._first(node, choices.get(type(node), ["value"]))
        return self._from_collection(node)

    def _first(self, node, fields):
        """Return the first value that can be followed of what an expression chooses from."""
        found = [getattr(node, each) for each in fields]
        choices = found[0] if isinstance(found[0], list) else found
        return next((value for each in choices if (value := self.value_of(each))), None)

    def _from_collection(self, node):
        if isinstance(node, ast.Subscript):
            return _one_of(self.value_of(node.value))
        if isinstance(node, (ast.ListComp, ast.GeneratorExp, ast.DictComp, ast.List)):
            inner = getattr(node, "elt", None) or getattr(node, "value", None)
            value = self.value_of(inner or next(iter(getattr(node, "elts", ())), None))
            return ("each", value[1]) if value and value[0] == "of" else None
        return None

    def _named(self, name):
        if name in self._variables:
            return self._variables[name]
        entry = self.project.own.modules[self.module.name].get(name)
        if entry is None:
            return None
        is_value = isinstance(entry, str) and entry.startswith("-> ")
        return _result(entry) if is_value else ("is", f"{self.module.name}.{name}")

    def member(self, value, name):
        """Return what an attribute of a value is."""
        if value is None or value[0] == "each":
            return value if name == "values" else None  # of a dict
        for each in self.project.lineage(value[1]) if value[0] == "of" else [value[1]]:
            if (each, name) in self.project.attributes:
                return self.project.attributes[(each, name)]
            path = join(each, name)
            entry = self.project.entry(path)
            if isinstance(entry, str) and not entry.startswith("("):
                return _result(entry)
            if entry is not MISSING:
                return ("is", path)
        return None

    def _called(self, node):
        if isinstance(node.func, ast.Name) and node.func.id == "super" and self.owner:
            bases = self.project.own.bases(self.owner)
            return ("of", bases[0]) if bases else None
        if name := text_argument(node, "import_module", 0):
            return ("is", name)
        if name := text_argument(node, "getattr", 1):
            return self.member(self.value_of(node.args[0]), name)
        called = self.value_of(node.func)
        if called is None or called[0] != "is":
            return called if called and called[0] == "each" else None
        entry = self.project.entry(called[1])
        if isinstance(entry, dict):
            return ("of", called[1])
        return _result(entry) if isinstance(entry, str) else None


def join(path, name) -> str:
    """Return the full name of a member of a path, or of each of several."""
    return "|".join(f"{each}.{name}" for each in path.split("|"))


def _result(signature):
    """Return the value that a signature ends with, ``"... -> x.Y"``."""
    path = signature.partition("-> ")[2]
    return ("of", path) if path else None


def _one_of(value):
    return ("of", value[1]) if value and value[0] == "each" else None


def text_argument(node, function, place) -> str:
    """Return the text that a call of a function has at a place, if it is plain text."""
    name = ast.unparse(node.func).rpartition(".")[2]
    if name != function or len(node.args) <= place:
        return ""
    value = getattr(node.args[place], "value", None)
    return value if isinstance(value, str) else ""


def functions(tree):
    """Return the file, its functions and its methods, each with the name of its class."""
    yield tree, ""
    todo = [(node, "") for node in tree.body]
    while todo:
        node, owner = todo.pop(0)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node, owner
        elif isinstance(node, ast.ClassDef):
            inner = f"{owner}.{node.name}".lstrip(".")
            todo += [(each, inner) for each in node.body]
        else:
            todo += [(each, owner) for each in ast.iter_child_nodes(node)]


@functools.cache
def own_nodes(function):
    """Return a function's nodes with those inside it; of a file what is in no function."""
    todo = deque([function])
    hidden = (ast.FunctionDef, ast.AsyncFunctionDef) if isinstance(function, ast.Module) else ()
    found = []
    while todo:
        node = todo.popleft()
        found.append(node)
        todo += [each for each in ast.iter_child_nodes(node) if not isinstance(each, hidden)]
    return tuple(found)


@functools.cache
def _telling_nodes(function):
    """Return those of a function's nodes that say what a variable is."""
    return tuple(node for node in own_nodes(function) if isinstance(node, TELLING))
