# SPDX-License-Identifier: Apache-2.0
"""Read from Python source which names of TensorRT it uses, by following what each value is.

``<anything>.module`` is TensorRT; annotations such as ``network: INetworkDefinition``, calls of
its classes and plain assignments say what the rest is. An attribute that only TensorRT has, on a
value that nothing is known of, is an error: its type must be written down.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

MODULE = "module"
CLASS = "class "


@dataclass
class Names:
    """What was found in one file.

    Attributes:
        used: such as ``"Builder"``, ``"Builder.create_network"``, ``"BuilderFlag.FP16"``.
        unknown: uses of a name of TensorRT on a value of unknown type, with their lines.

    """

    used: set[str] = field(default_factory=set)
    unknown: list[str] = field(default_factory=list)


def find_names(
    source: str, classes: dict[str, set[str]], ours: frozenset[str] = frozenset()
) -> Names:
    """Return the names of TensorRT in a source.

    Args:
        source: Python.
        classes: all names of all versions: members by class, or by enum.
        ours: names that are not TensorRT's alone, see ``own_names``.

    """
    tree = ast.parse(source)
    names = Names()
    distinct = {
        member for members in classes.values() for member in members if "_" in member.strip("_")
    } - ours
    returned = {
        node.name: _annotated(node.returns, classes)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }
    attributes = _Scope(classes, returned, {}).learn(tree).attributes
    for function in [tree, *_functions(tree)]:
        scope = _Scope(classes, returned, attributes).learn(function)
        for node in _own_nodes(function):
            if isinstance(node, ast.Attribute):
                _note(node, scope, distinct, names)
    return names


def _note(node, scope, distinct, names) -> None:
    base = scope.type_of(node.value)
    if base == MODULE:
        if not node.attr.startswith("__"):
            names.used.add(node.attr)
    elif base is not None:
        if not node.attr.startswith("__"):
            names.used.add(f"{base.removeprefix(CLASS)}.{node.attr}")
    elif node.attr in distinct:
        names.unknown.append(f"line {node.lineno}: {ast.unparse(node)}")


class _Scope:
    """What the variables of one function are; the same name is the same type throughout."""

    def __init__(self, classes, returned, attributes) -> None:
        self._classes = classes
        self._returned = returned
        self._variables = {}
        self.attributes = dict(attributes)

    def learn(self, function) -> _Scope:
        for _ in range(2):  # what a loop runs over may be found after the loop
            for node in ast.walk(function):
                self._learn_from(node)
        return self

    def _learn_from(self, node) -> None:
        if isinstance(node, ast.arg):
            self._set(node.arg, _annotated(node.annotation, self._classes))
        elif isinstance(node, ast.AnnAssign):
            self._assign(node.target, _annotated(node.annotation, self._classes))
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._learn_assignment(target, node.value)
        elif isinstance(node, (ast.For, ast.comprehension)):
            self._assign(node.target, self._element_of(node.iter))

    def type_of(self, node) -> str | None:
        """Return ``MODULE``, ``"class X"``, the name of a class, or None."""
        if isinstance(node, ast.Name):
            return self._variables.get(node.id)
        if isinstance(node, ast.Attribute):
            return self._type_of_attribute(node)
        if isinstance(node, ast.Call):
            made = self.type_of(node.func)
            if made and made.startswith(CLASS):
                return made.removeprefix(CLASS)
            return self._returned.get(getattr(node.func, "id", ""))
        return None

    def _type_of_attribute(self, node) -> str | None:
        if node.attr == MODULE:
            return MODULE
        if self.type_of(node.value) == MODULE:
            return CLASS + node.attr
        return self.attributes.get(node.attr)

    def _learn_assignment(self, target, value) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for each, its_value in zip(target.elts, value.elts, strict=False):
                self._assign(each, self.type_of(its_value))
        else:
            self._assign(target, self.type_of(value))

    def _assign(self, target, kind) -> None:
        if isinstance(target, ast.Name):
            self._set(target.id, kind)
        elif isinstance(target, ast.Attribute) and kind:
            self.attributes[target.attr] = kind

    def _set(self, name, kind) -> None:
        if kind:
            self._variables[name] = kind

    def _element_of(self, node) -> str | None:
        """Return the type of what a variable annotated ``list[X]`` holds."""
        return self.type_of(node) if isinstance(node, ast.Name) else None


def _annotated(annotation, classes) -> str | None:
    """Return the class of TensorRT in an annotation: ``X``, ``X | None`` or ``list[X]``."""
    for node in ast.walk(annotation) if annotation is not None else ():
        if isinstance(node, ast.Name):
            if node.id == "TensorRtModule":
                return MODULE
            if node.id in classes:
                return node.id
    return None


def _functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def _own_nodes(function):
    """Walk a function, or a file, without the functions inside it that are walked themselves."""
    todo = [function]
    while todo:
        node = todo.pop()
        yield node
        todo += [
            each for each in ast.iter_child_nodes(node) if not isinstance(each, ast.FunctionDef)
        ]


def own_names(source: str) -> frozenset[str]:
    """Return the names of all functions that a source defines."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(
        node.name for node in ast.walk(ast.parse(source)) if isinstance(node, functions)
    )
