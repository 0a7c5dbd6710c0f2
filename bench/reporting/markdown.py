# SPDX-License-Identifier: Apache-2.0
"""A report as Markdown, and the table for the README."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perception_node.bench.reporting.facts import list_facts
from perception_node.bench.reporting.measurement import END_TO_END, INFER
from perception_node.bench.reporting.merging import describe_machine
from perception_node.bench.reporting.ratios import compute_ratios
from perception_node.bench.reporting.tables import (
    BOUND_NOTE,
    NONE,
    list_sections,
    list_warnings,
    percentile_text,
)
from perception_node.bench.reporting.targets import (
    OVERHEAD_TO_NAIVE,
    P50_TO_LIMIT,
    P99_TO_LIMIT,
    RATED,
    is_rated,
    size_name,
)
from perception_node.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from perception_node.bench.reporting.measurement import Case, Report

COUNTED = ("sent", "answered")
README_HEADERS = (
    "images at 30 Hz",
    "end to end p50 / p99, ms",
    "bare inference p50, ms",
    "floor (no inference) p50, ms",
    "p50 / (bare + floor)",
    "p99 / (bare + floor)",
    "naive node p50, ms",
    "overhead, naive / ours",
    "frames answered",
)


def to_markdown(report: Report) -> str:
    """Return the whole report: what is not to be trusted first, then each case."""
    lines = ["# perception bench", ""]
    for warning in list_warnings(report):
        lines += [f"> **Warning:** {_escape(warning)}", ""]
    lines += [f"- {name}: {_escape(text)}" for name, text in list_facts(report)]
    for section in list_sections(report):
        lines += ["", f"## {_escape(section.title)}", ""]
        for remark in section.remarks:
            lines += [f"> **Not to be trusted:** {_escape(remark)}", ""]
        for table in section.tables:
            lines += [f"### {_escape(table.title)}", "", *_to_lines(table.headers, table.rows), ""]
        lines.pop()
    return "\n".join([*lines, "", BOUND_NOTE, ""])


def readme_table(reports: Sequence[Report]) -> str:
    """Return one row per image size of the rated load, and a line that says where and when.

    Where several reports have a size, the latest counts.
    """
    found: dict[str, tuple[Report, Case]] = {}
    for report in sorted(reports, key=lambda one: one.started_utc):
        for case in report.cases:
            if is_rated(case) and case.level == "node" and case.of("node"):
                found[size_name(case)] = (report, case)
    sizes = [size for size in RATED if size in found]
    rows = [_describe_size(size, found[size][1]) for size in sizes]
    where = dict.fromkeys(_describe_place(*found[size]) for size in sizes)
    return "\n".join([*_to_lines(README_HEADERS, rows), "", *where, ""])


def _describe_size(size: str, case: Case) -> tuple[str, ...]:
    node, floor, naive = (case.merged(s, END_TO_END) for s in ("node", "floor", "naive"))
    ratios = {ratio.name: ratio.value for ratio in compute_ratios(case)}
    factors = [
        f"{ratios[name]:.2f}" if name in ratios else NONE
        for name in (P50_TO_LIMIT, P99_TO_LIMIT, OVERHEAD_TO_NAIVE)
    ]
    sent, answered = (sum(run.counts.get(n, 0) for run in case.of("node")) for n in COUNTED)
    return (
        size,
        f"{percentile_text(node, 50)} / {percentile_text(node, 99)}",
        percentile_text(case.merged("bare", INFER), 50),
        percentile_text(floor, 50),
        *factors[:2],
        percentile_text(naive, 50),
        factors[2],
        "all" if answered == sent else f"{answered} of {sent}",
    )


def _describe_place(report: Report, case: Case) -> str:
    runs = case.of("node")
    frames = min(len(run.timeline.times_s) for run in runs)
    name = report.model.get("name", "?")
    return (
        f"{name}, {describe_machine(report.machine)}, {report.started_utc[:10]}, "
        f"{len(runs)} runs of {frames} frames that took turns; "
        "camera, node and subscriber are processes of their own."
    )


def _to_lines(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    marks = "|".join(["---", *["---:"] * (len(headers) - 1)])
    lines = ["| " + " | ".join(map(_escape, cells)) + " |" for cells in (headers, *rows)]
    return [lines[0], f"|{marks}|", *lines[1:]]


def _escape(text: str) -> str:
    """Keep text of a file or a machine from becoming Markdown or HTML."""
    flat = printable(" ".join(text.split()))
    for sign in "\\|<>`*[]":
        flat = flat.replace(sign, f"\\{sign}")
    return flat
