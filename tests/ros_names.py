# SPDX-License-Identifier: Apache-2.0
"""Read from Python source which names of ROS it uses, by following what each value is.

A value is ``("is", path)``: the module, class or function itself; or ``("of", path)``: an object
of that class. Annotations, assignments, calls and our own classes say which; what a call returns
comes from the signatures of ROS and of our own functions.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from tests.ros_api import MISSING, RELEASES, Api, release
from tools.python_api import Module, imports

# The newest release says most about what a function returns.
NEWEST_FIRST = [release(name) for name in reversed(RELEASES)]
PACKAGES = frozenset().union(*(api.packages for api in NEWEST_FIRST))


@dataclass(frozen=True)
class Use:
    """One use of a name of ROS.

    Attributes:
        line: where.
        path: the full name; several with ``|`` between them if an import has a fallback.
        call: the number of arguments without names, None if unknown, and the others' names.

    """

    line: int
    path: str
    call: tuple[int | None, tuple[str | None, ...]] | None = None


class Project:
    """Sources that use each other."""

    def __init__(self, sources) -> None:
        """Read them.

        Args:
            sources: Python by module, such as ``"perception_node.ros.node"``.

        """
        self._trees = {name: ast.parse(source) for name, source in sources.items()}
        self._modules = {
            name: Module(name, package=False, private=True) for name in self._trees
        }
        self.own = Api(
            {name: module.read(self._trees[name]) for name, module in self._modules.items()}
        )
        self.attributes = {}  # what our objects hold: (class, name) -> value
        for _ in range(3):  # one class holds what another one holds
            for name in self._trees:
                self._read(name, [])

    def uses(self, module):
        """Return the uses of names of ROS in a module, in order, and what is of unknown type."""
        found, unknown = [], []
        self._read(module, found, unknown)
        return sorted(set(found), key=lambda use: (use.line, use.path)), unknown

    def _read(self, name, found, unknown=None):
        module, tree = self._modules[name], self._trees[name]
        for node, owner in _functions(tree):
            path = f"{name}.{owner}" if owner else ""
            scope = _Scope(self, module, path)
            scope.learn(node, tree)
            scope.note(node, found, [] if unknown is None else unknown)

    def entry(self, path):
        """Return what is known of a path, of our own or in any release."""
        for api in [self.own, *NEWEST_FIRST]:
            found = api.find(path)
            if found is not MISSING:
                return found
        return MISSING

    def lineage(self, path):
        """Return a class and the classes of our own and of ROS that it comes from."""
        if path.split(".")[0] in PACKAGES:
            return [path]
        path = self.own.locate(path)
        if path.split(".")[0] in PACKAGES:
            return [path]
        return [path, *(each for base in self.own.bases(path) for each in self.lineage(base))]


class _Scope:
    """What the variables of one function are; the same name is the same throughout."""

    def __init__(self, project, module, owner) -> None:
        self._project = project
        self._module = module
        self._owner = owner
        self._variables = {}

    def learn(self, function, tree):
        for node in tree.body if function is not tree else []:
            self._learn_imports(node)
        if self._owner and isinstance(function, ast.FunctionDef) and function.args.args:
            names = {ast.unparse(each) for each in function.decorator_list}
            if "staticmethod" not in names:
                kind = "is" if "classmethod" in names else "of"
                self._variables[function.args.args[0].arg] = (kind, self._owner)
        for _ in range(2):  # a closure may use what is assigned after it
            for node in _own_nodes(function):
                self._learn_from(node)

    def _learn_imports(self, node):
        package = self._module.package
        for name, origin in imports(node, package):
            if isinstance(node, ast.Import) or "." in origin:
                self._variables[name] = ("is", origin)

    def _learn_from(self, node):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            self._learn_imports(node)
        elif isinstance(node, ast.arg):
            self._assign(ast.Name(node.arg), self._annotated(node.annotation))
        elif isinstance(node, ast.AnnAssign):
            self._assign(node.target, self._annotated(node.annotation) or self._value(node.value))
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._assign_all(target, node.value)
        elif isinstance(node, ast.NamedExpr):
            self._assign(node.target, self.value_of(node.value))
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            self._assign(node.optional_vars, self.value_of(node.context_expr))

    def _assign_all(self, target, value):
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for each, its_value in zip(target.elts, value.elts, strict=False):
                self._assign(each, self.value_of(its_value))
        else:
            self._assign(target, self.value_of(value))

    def _assign(self, target, value):
        if value is None:
            return
        if isinstance(target, ast.Name):
            self._variables[target.id] = value
        elif isinstance(target, ast.Attribute):
            holder = self.value_of(target.value)
            if holder and holder[0] == "of":
                self._project.attributes.setdefault((holder[1], target.attr), value)

    def _value(self, node):
        return self.value_of(node) if node is not None else None

    def _annotated(self, annotation):
        return self._result(self._module.returned(annotation))

    def _result(self, signature):
        """Return the value that a signature ends with, ``"... -> x.Y"``."""
        path = signature.partition("-> ")[2]
        if not path:
            return None
        return ("is" if path in {"types.ModuleType"} else "of", path)

    def value_of(self, node):
        """Return what an expression is, or None if that cannot be followed."""
        if isinstance(node, ast.Name):
            return self._named(node.id)
        if isinstance(node, ast.Attribute):
            return self._member(self.value_of(node.value), node.attr)
        if isinstance(node, ast.Call):
            return self._called(node)
        if isinstance(node, ast.BoolOp):
            return next((v for each in node.values if (v := self.value_of(each))), None)
        if isinstance(node, ast.IfExp):
            return self.value_of(node.body) or self.value_of(node.orelse)
        if isinstance(node, (ast.NamedExpr, ast.Await)):
            return self.value_of(node.value)
        return None

    def _named(self, name):
        if name in self._variables:
            return self._variables[name]
        path = f"{self._module.name}.{name}"
        entry = self._project.own.modules[self._module.name].get(name)
        if entry is None:
            return None
        if isinstance(entry, str) and entry.startswith("-> "):
            return self._result(entry)
        return ("is", path)

    def _member(self, value, name):
        if value is None:
            return None
        kind, path = value
        for each in self._project.lineage(path) if kind == "of" else [path]:
            if (each, name) in self._project.attributes:
                return self._project.attributes[(each, name)]
            full = "|".join(f"{one}.{name}" for one in each.split("|"))
            entry = self._project.entry(full)
            if entry is MISSING:
                continue
            if isinstance(entry, str) and not entry.startswith("("):
                return self._result(entry)
            return ("is", full)
        return None

    def _called(self, node):
        if isinstance(node.func, ast.Name) and node.func.id == "super" and self._owner:
            bases = self._project.own.bases(self._owner)
            return ("of", bases[0]) if bases else None
        if name := _constant_argument(node, "import_module", 0):
            return ("is", name)
        if name := _constant_argument(node, "getattr", 1):
            return self._member(self.value_of(node.args[0]), name)
        called = self.value_of(node.func)
        if called is None or called[0] != "is":
            return None
        entry = self._project.entry(called[1])
        if isinstance(entry, dict):
            return ("of", called[1])
        return self._result(entry) if isinstance(entry, str) else None

    def note(self, function, found, unknown):
        """Add the uses of names of ROS, and the attributes of values of unknown type."""
        for node in _own_nodes(function):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = dict(imports(node, self._module.package)).values()
                full = [each.name for each in node.names] if isinstance(node, ast.Import) else names
                self._add(found, node, full)
            elif isinstance(node, ast.Attribute):
                self._note_member(node, node.value, node.attr, found, unknown)
            elif isinstance(node, ast.Call):
                self._note_call(node, found, unknown)

    def _note_member(self, node, holder, name, found, unknown):
        value = self.value_of(holder)
        if value is None:
            unknown.append(Use(node.lineno, name))
        else:
            self._add(found, node, self._ros_paths(value, name))

    def _note_call(self, node, found, unknown):
        for function in ("getattr", "hasattr"):
            if name := _constant_argument(node, function, 1):
                self._note_member(node, node.args[0], name, found, unknown)
        if name := _constant_argument(node, "import_module", 0):
            self._add(found, node, [name])
        starred = any(isinstance(each, ast.Starred) for each in node.args)
        call = (None if starred else len(node.args), tuple(each.arg for each in node.keywords))
        if isinstance(node.func, ast.Attribute) and (holder := self.value_of(node.func.value)):
            self._add(found, node, self._ros_paths(holder, node.func.attr), call)
        elif called := self.value_of(node.func):
            self._add(found, node, self._ros_constructors(called[1]), call)
        elif isinstance(node.func, ast.Attribute):
            unknown.append(Use(node.lineno, node.func.attr, call))

    def _ros_constructors(self, path):
        path = self._project.own.locate(path)
        for each in self._project.lineage(path):
            if each.split(".")[0] in PACKAGES:
                return [each]
            entry = self._project.own.find(each)
            if not isinstance(entry, dict) or {"__init__", "__new__"} & set(entry):
                return []
        return []

    def _ros_paths(self, value, name):
        """Return the full names in ROS of a member, none if it is our own."""
        kind, path = value
        if kind == "is":
            path = self._project.own.locate(path)
        for each in self._project.lineage(path):
            if each.split(".")[0] in PACKAGES:
                return ["|".join(f"{one}.{name}" for one in each.split("|"))]
            entry = self._project.own.find(each)
            if entry is MISSING or name in entry or (each, name) in self._project.attributes:
                return []
        return []

    def _add(self, found, node, paths, call=None):
        found += [Use(node.lineno, path, call) for path in paths if path.split(".")[0] in PACKAGES]


def _constant_argument(node, function, place):
    """Return the text that a call of a function has at a place, if it is plain text."""
    name = ast.unparse(node.func).rpartition(".")[2]
    if name != function or len(node.args) <= place:
        return ""
    value = getattr(node.args[place], "value", None)
    return value if isinstance(value, str) else ""


def _functions(tree):
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


def _own_nodes(function):
    """Walk a function with those inside it; of a file what is in no function."""
    todo = [function]
    while todo:
        node = todo.pop()
        yield node
        inner = ast.iter_child_nodes(node)
        if not isinstance(function, ast.Module):
            todo += inner
        else:
            todo += [x for x in inner if not isinstance(x, (ast.FunctionDef, ast.AsyncFunctionDef))]
