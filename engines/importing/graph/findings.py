# SPDX-License-Identifier: Apache-2.0
"""What the inspection of a graph finds on its way, beside the facts."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Findings:
    """Lines for people.

    Attributes:
        notes: what is changed of the graph and how.
        questions: what the graph leaves open, by name of a question (``questions.QUESTIONS``), and
            the answers that it allows.

    """

    notes: list[str] = field(default_factory=list)
    questions: dict[str, str] = field(default_factory=dict)
