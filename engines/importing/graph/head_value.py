# SPDX-License-Identifier: Apache-2.0
"""In the confined child: what a tensor of a graph's head holds, apart from how it is found out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

Form = Literal[
    "linear", "probabilities", "log-probabilities", "sigmoid", "log-sigmoid", "exp", "unknown"
]
SLACK = 0.01  # a limit that cuts off less of the scores' range is there for safety
LOWEST_LOGARITHM = -10.0  # e to it is nothing
ROUNDING = 1e-3  # room for that of float16


class Value(NamedTuple):
    """What a tensor holds: ``scale`` times something of this form, plus ``offset``."""

    form: Form
    operator: str
    scale: float = 1.0
    offset: float = 0.0
    rounded: bool = False

    def affine(self, factor: float, summand: float) -> Value:
        """Return this value times ``factor``, plus ``summand``; NaN is any constant."""
        return self._replace(scale=self.scale * factor, offset=self.offset * factor + summand)

    def unknown(self, operator: str) -> Value:
        """Return what ``operator`` makes of it if no rule says more."""
        return Value("unknown", operator if self.form != "unknown" else self.operator)

    @property
    def is_plain(self) -> bool:
        """Whether scale and offset do nothing."""
        return abs(self.scale - 1.0) < ROUNDING and abs(self.offset) < ROUNDING

    @property
    def is_turned(self) -> bool:
        """Whether it is 1 minus something of this form: of a sigmoid, the opposite's."""
        return self.affine(-1.0, 1.0).is_plain


DECIDING = {
    "HardSigmoid": Value("sigmoid", "HardSigmoid"),
    "LogSoftmax": Value("log-probabilities", "LogSoftmax"),
    "Sigmoid": Value("sigmoid", "Sigmoid"),
    "Softmax": Value("probabilities", "Softmax"),
    "Softplus": Value("log-sigmoid", "Softplus", scale=-1.0),  # of the opposite
    "Tanh": Value("sigmoid", "Tanh", scale=2.0, offset=-1.0),  # of twice the value
}


def together(values: list[Value], allowed: Iterable[Form], operator: str) -> Value:
    """Return the form that all values share, if it is an allowed one."""
    if values and len({value.form for value in values}) == 1 and values[0].form in allowed:
        return values[0]._replace(rounded=any(value.rounded for value in values))
    return values[0].unknown(operator) if values else Value("unknown", operator)


def fits(value: Value, lowest: float, highest: float) -> bool:
    """Tell whether limits leave the values as they are, but for safety."""
    if value.form == "linear":
        return lowest < 0.0 < highest
    if value.form == "log-probabilities":
        return lowest <= LOWEST_LOGARITHM and highest >= 0.0
    if value.form not in {"probabilities", "sigmoid"}:
        return False
    ends = sorted((value.offset, value.offset + value.scale))
    slack = SLACK * abs(value.scale)
    return lowest <= ends[0] + slack and highest >= ends[1] - slack
