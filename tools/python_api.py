# SPDX-License-Identifier: Apache-2.0
"""Read from Python source which names a module offers, without importing it.

A module is a mapping of its names to one of:

    "(a, b=, *, c=) -> x.Y"   a function: its parameters, ``=`` where there is a default, and the
                              class that it returns where the source says so
    "x.y.Z"                   a name from elsewhere; ``|`` between them if an import has a fallback
    ""                        any other value
    {...}                     a class: its members in the same way, ``"<bases>"`` its base classes
"""

from __future__ import annotations

import ast
import builtins
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    Api = dict[str, "str | Api"]

BASES = "<bases>"
DUNDERS = {"__new__", "__init__", "__enter__", "__call__", "__version__"}
FIELDS = {"NamedTuple", "TypedDict", "dataclass"}
WRAPPERS = {f"typing.{name}" for name in ("Annotated", "ClassVar", "Final", "Optional", "Union")}


def read_module(source: str, module: str, *, package: bool, private: bool = False) -> Api:
    """Return the names of a module.

    Args:
        source: Python.
        module: its full name.
        package: whether it is the ``__init__.py`` of a package.
        private: with the names that begin with an underscore.

    """
    return Module(module, package=package, private=private).read(ast.parse(source))


class Module:
    """One module, and what its names stand for."""

    def __init__(self, module: str, *, package: bool, private: bool) -> None:
        self.name = module
        self.package = module.split(".") if package else module.split(".")[:-1]
        self._private = private
        self._known: dict[str, str] = {}  # what a name stands for

    def read(self, tree: ast.Module) -> Api:
        """Return the names of the module."""
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                self._known[node.name] = f"{self.name}.{node.name}"
        self._learn_imports(statements(tree.body, typing=True))
        found: Api = {}
        for node in statements(tree.body):
            for name, value in self._describe(node):
                if self._is_public(name) and not (value == "" and name in found):
                    found[name] = value
        return found

    def _learn_imports(self, body: Iterator[ast.stmt]) -> None:
        for node in body:
            for name, origin in imports(node, self.package):
                before = self._known.get(name, origin).split("|")
                self._known[name] = "|".join(dict.fromkeys([*before, origin]))

    def _describe(self, node: ast.stmt) -> Iterator[tuple[str, str | Api]]:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for name, _ in imports(node, self.package):
                yield name, self._known[name]
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, self._signature(node, skip=0)
        elif isinstance(node, ast.ClassDef):
            yield node.name, self._class(node)
        else:
            for name, value, annotation in assignments(node):
                origin = self.origin(value) if value is not None else ""
                self._known.setdefault(name, origin)
                yield name, origin or self.returned(annotation)

    def _class(self, node: ast.ClassDef) -> Api:
        bases = [name for base in node.bases if (name := self._base(base))]
        members: Api = {BASES: " ".join(bases)} if bases else {}
        decorators = _decorators(node)
        fields = []
        for each in statements(node.body):
            if isinstance(each, ast.ClassDef):
                members[each.name] = self._class(each)
            elif isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)):
                self._add_method(members, each)
            for name, value, annotation in assignments(each):
                fields.append(name + "=" * (value is not None))
                members[name] = self.returned(annotation)
        if FIELDS & {*decorators, *(base.rpartition(".")[2] for base in bases)}:
            members.setdefault("__init__", f"({', '.join(fields)})")
        hidden = [name for name in members if name != BASES and not self._is_public(name)]
        for name in hidden:
            del members[name]
        return members

    def _add_method(self, members: Api, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        names = _decorators(node)
        if names & {"setter", "getter", "deleter"}:
            return
        if names & {"property", "cached_property"}:
            members[node.name] = self.returned(node.returns)
            return
        members[node.name] = self._signature(node, skip=0 if "staticmethod" in names else 1)
        for each in ast.walk(node):
            for target, _, annotation in assignments(each, of="self"):
                members[target] = members.get(target) or self.returned(annotation)

    def _signature(self, node: ast.FunctionDef | ast.AsyncFunctionDef, skip: int) -> str:
        given = node.args
        plain = [*given.posonlyargs, *given.args]
        optional = len(plain) - len(given.defaults)
        words = [each.arg + "=" * (place >= optional) for place, each in enumerate(plain)][skip:]
        if given.posonlyargs and len(given.posonlyargs) > skip:
            words.insert(len(given.posonlyargs) - skip, "/")
        if given.vararg or given.kwonlyargs:
            words.append("*" + (given.vararg.arg if given.vararg else ""))
        pairs = zip(given.kwonlyargs, given.kw_defaults, strict=True)
        words += [each.arg + "=" * (default is not None) for each, default in pairs]
        if given.kwarg:
            words.append("**" + given.kwarg.arg)
        returned = node.returns
        if isinstance(returned, ast.Subscript) and "contextmanager" in _decorators(node):
            returned = returned.slice  # with f() as x
        return f"({', '.join(words)}) {self.returned(returned)}".rstrip()

    def returned(self, annotation: ast.expr | None) -> str:
        """Return ``"-> x.Y"`` for an annotation that names one class, else nothing."""
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            annotation = ast.parse(annotation.value, mode="eval").body
        if isinstance(annotation, ast.BinOp):
            return self.returned(annotation.left) or self.returned(annotation.right)
        if isinstance(annotation, ast.Tuple):  # Union[x, y]
            return next(filter(None, map(self.returned, annotation.elts)), "")
        if isinstance(annotation, ast.Subscript) and self.origin(annotation.value) in WRAPPERS:
            return self.returned(annotation.slice)
        origin = self.origin(annotation)
        return "" if origin.startswith("typing.") else f"-> {origin}".removesuffix("-> ")

    def origin(self, node: ast.expr | None) -> str:
        """Return the full name of what a plain or dotted name stands for, else nothing."""
        if isinstance(node, ast.Name):
            return self._known.get(node.id, "")
        if isinstance(node, ast.Attribute) and (origin := self.origin(node.value)):
            return "|".join(f"{each}.{node.attr}" for each in origin.split("|"))
        if isinstance(node, ast.Subscript):  # Publisher[T]
            return self.origin(node.value)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "import_c_library":
            return self.name.partition(".")[0] + ast.literal_eval(node.args[0])
        return ""

    def _base(self, node: ast.expr) -> str:
        name = ast.unparse(node)
        return f"builtins.{name}" if hasattr(builtins, name) else self.origin(node)

    def _is_public(self, name: str) -> bool:
        return self._private or not name.startswith("_") or name in DUNDERS


def statements(body: list[ast.stmt], *, typing: bool = False) -> Iterator[ast.stmt]:
    """Walk what runs at import, into ``if`` and ``try``; for type checkers only if asked for."""
    for node in body:
        if isinstance(node, ast.If):
            hidden = ast.unparse(node.test).endswith("TYPE_CHECKING") and not typing
            yield from statements([*([] if hidden else node.body), *node.orelse], typing=typing)
        elif isinstance(node, ast.Try):
            handlers = [each for handler in node.handlers for each in handler.body]
            inner = [*node.body, *handlers, *node.orelse, *node.finalbody]
            yield from statements(inner, typing=typing)
        else:
            yield node


def imports(node: ast.AST, package: list[str]) -> Iterator[tuple[str, str]]:
    """Return the names that an import binds, each with its full name."""
    if isinstance(node, ast.Import):
        for each in node.names:
            top = each.name.partition(".")[0]
            yield (each.asname, each.name) if each.asname else (top, top)
    elif isinstance(node, ast.ImportFrom):
        start = package[: len(package) + 1 - node.level] if node.level else []
        origin = ".".join([*start, *([node.module] if node.module else [])])
        for each in node.names:
            yield each.asname or each.name, f"{origin}.{each.name}".removesuffix(".*")


def assignments(
    node: ast.AST, of: str = ""
) -> Iterator[tuple[str, ast.expr | None, ast.expr | None]]:
    """Return the names that are assigned, or the attributes ``of`` a name: value, annotation."""
    annotation = node.annotation if isinstance(node, ast.AnnAssign) else None
    targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
    for target in targets if isinstance(node, (ast.Assign, ast.AnnAssign)) else []:
        several = target.elts if isinstance(target, (ast.Tuple, ast.List)) else None
        for each in several or [target]:
            value = None if several else node.value
            if of and isinstance(each, ast.Attribute) and ast.unparse(each.value) == of:
                yield each.attr, value, annotation
            elif not of and isinstance(each, ast.Name):
                yield each.id, value, annotation


def _decorators(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Return the last words of the decorators."""
    called = [each.func if isinstance(each, ast.Call) else each for each in node.decorator_list]
    return {ast.unparse(each).rpartition(".")[2] for each in called}
