# SPDX-License-Identifier: Apache-2.0
"""The evaluation as one HTML file: verdict, what it cost, confidence, the worst flips.

It needs nothing else: pictures are in it, no script runs, nothing is loaded.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from perception_node.calibration.charts import Row, bars, reliability_diagram
from perception_node.calibration.metrics import Bin
from perception_node.model.bundle import INT8_ON_CPU, MODEL, MODEL_FILES
from perception_node.printable import printable_html

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perception_node.calibration.evaluation import Evaluation, Flip
    from perception_node.model.bundle import ModelBundle
    from perception_node.vision.postprocess import Hypothesis

TITLES = {
    MODEL: "float32",
    MODEL_FILES["fp16"]: "FP16",
    MODEL_FILES["int8"]: "INT8, TensorRT",
    INT8_ON_CPU: "INT8, CPU",
}
COLORS = dict(zip(TITLES, ("reference", "fp16", "int8", "cpu"), strict=True))
SMALLEST_DROP_SCALE, SMALLEST_FLIP_SCALE = 0.5, 0.01  # points; part of the images

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}: accuracy</title><style>{style}</style></head>
<body><main>{body}</main></body></html>
"""
STYLE = """
:root{color-scheme:light dark;--page:#f6f6f3;--card:#fff;--ink:#1c1d1f;--muted:#8a8d93;
--faint:#ecece7;--reference:#8a8d93;--fp16:#3b82c4;--int8:#d97a1f;--cpu:#1f9d82;
--good:#1b7f4d;--bad:#c8362f}
@media(prefers-color-scheme:dark){:root{--page:#131416;--card:#1d1f22;--ink:#ececea;
--muted:#8d929a;--faint:#2b2e33;--fp16:#66a9e6;--int8:#f0a04b;--cpu:#46c3a7;--good:#4cc38a;
--bad:#f2726b}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1120px;margin:0 auto;padding:40px 24px 64px}
header{display:flex;gap:24px;align-items:baseline;justify-content:space-between;flex-wrap:wrap}
h1{font-size:30px;margin:0;letter-spacing:-.02em;overflow-wrap:anywhere}
h2{font-size:17px;margin:0 0 4px}h3{font-size:15px;margin:0 0 8px}
p{margin:0 0 12px;color:var(--muted)}
.verdict{font-weight:700;padding:6px 16px;border-radius:99px;color:var(--card)}
.good{background:var(--good)}.bad{background:var(--bad)}
.why{color:var(--bad);font-weight:600}
section{background:var(--card);border-radius:14px;padding:22px 24px;margin-top:20px}
.two{display:grid;gap:20px;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr))}
.two section{margin:0}.two{margin-top:20px}
.charts{display:grid;gap:20px;grid-template-columns:repeat(auto-fill,minmax(min(100%,230px),1fr))}
figure{margin:0}figcaption{font-size:13px;line-height:1.4;padding-top:6px}
.table{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:7px 10px;border-bottom:1px solid var(--faint);white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0}
th{color:var(--muted);font-weight:500;font-size:13px}
.key{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:8px}
svg{width:100%;height:auto;display:block}
svg text{fill:var(--muted);font-size:12px;dominant-baseline:middle}
svg .name{text-anchor:end}svg .value{fill:var(--ink)}
.track{fill:var(--faint)}.limit{stroke:var(--bad);stroke-width:2;stroke-dasharray:4 3}
.ideal{stroke:var(--muted);stroke-dasharray:3 4}
.curve{fill:none;stroke-width:2;opacity:.55}.dot{stroke:var(--card);stroke-width:1.5}
.flips{display:grid;gap:18px;grid-template-columns:repeat(auto-fill,minmax(160px,1fr));
margin-bottom:20px}
.flips img{width:100%;aspect-ratio:1;border-radius:10px;display:block}
.flips b{font-weight:600}.file{color:var(--muted);overflow-wrap:anywhere;font-size:11px}
.right{color:var(--good)}.wrong{color:var(--bad)}
"""


def to_html(bundle: ModelBundle, evaluation: Evaluation) -> str:
    """Return the report of an evaluation of this bundle's models."""
    record = evaluation.record
    models, limits = record["models"], record["limits"]
    parts = [_header(bundle, evaluation), _table(models)]
    if len(models) > 1:
        parts.append(_budgets(models, limits))
    if record["images"]["labelled"]:
        parts += [_reliability(models), _classes(models)]
    parts += [_flips(name, flips, bundle.labels) for name, flips in evaluation.flips.items()]
    name = printable_html(bundle.manifest.name)
    return PAGE.format(name=name, style=STYLE, body="".join(parts))


def _header(bundle: ModelBundle, evaluation: Evaluation) -> str:
    images = evaluation.record["images"]
    words = ("good", "Passed") if evaluation.passed else ("bad", "Failed")
    if len(evaluation.record["models"]) == 1:
        words = ("good", "Measured")
    facts = [f"{images['count']} images, {'' if images['labelled'] else 'not '}labelled"]
    if images["skipped"]:
        facts.append(f"{images['skipped']} skipped")
    facts.append(f"ONNX Runtime {evaluation.record['onnxruntime']}")
    warning = (
        f'<p class="why">{printable_html(evaluation.warning)}</p>' if evaluation.warning else ""
    )
    reasons = "".join(
        f'<p class="why">{TITLES[name]}: {printable_html("; ".join(verdict["why"]))}</p>'
        for name, verdict in evaluation.record["models"].items()
        if verdict["why"]
    )
    return (
        f"<header><h1>{printable_html(bundle.manifest.name)}</h1>"
        f'<span class="verdict {words[0]}">{words[1]}</span></header>'
        f"<p>{' · '.join(facts)}</p>{warning}{reasons}"
    )


def _table(models: dict[str, Any]) -> str:
    columns = {
        "top-1": ("top_1", "{:.1%}"),
        "top-5": ("top_5", "{:.1%}"),
        "lost points": ("drop", "{:.2f}"),
        "agreement": ("agreement", "{:.1%}"),
        "logit cosine": ("cosine", "{:.4f}"),
        "calibration error": ("calibration_error", "{:.3f}"),
        "CPU latency": ("latency_ms", "{:.2f} ms"),
    }
    shown = {
        heading: (field, form)
        for heading, (field, form) in columns.items()
        if any(verdict.get(field) is not None for verdict in models.values())
    }
    rows = [
        [_key(name), *(_cell(verdict.get(field), form) for field, form in shown.values())]
        for name, verdict in models.items()
    ]
    return f"<section>{_html_table(['model', *shown], rows)}</section>"


def _budgets(models: dict[str, Any], limits: dict[str, float]) -> str:
    """Return how much of what is allowed each model uses: the bar must end before the line."""
    judged = {name: verdict for name, verdict in models.items() if name != MODEL}
    allowed = 1.0 - limits["min_agreement"]
    flips = {name: 1.0 - verdict["agreement"] for name, verdict in judged.items()}
    cards = [
        (
            "Answers that changed",
            f"Images with another label than in float32; {allowed:.1%} are allowed.",
            _budget(flips, allowed, SMALLEST_FLIP_SCALE, "{:.2%}"),
        )
    ]
    if all("drop" in verdict for verdict in judged.values()):
        drops = {name: verdict["drop"] for name, verdict in judged.items()}
        text = f"Points of top-1 lost against float32; {limits['max_drop']:g} are allowed."
        chart = _budget(drops, limits["max_drop"], SMALLEST_DROP_SCALE, "{:.2f}")
        cards.insert(0, ("Accuracy lost", text, chart))
        tops = [
            Row(TITLES[name], verdict["top_1"], f"{verdict['top_1']:.1%}", COLORS[name])
            for name, verdict in models.items()
        ]
        cards.append(("Top-1 accuracy", "Of all images.", bars(tops, 1.0, "top-1 accuracy")))
    timed = [
        Row(TITLES[name], verdict["latency_ms"], f"{verdict['latency_ms']:.2f} ms", COLORS[name])
        for name, verdict in models.items()
        if verdict["latency_ms"] is not None
    ]
    if len(timed) > 1:
        longest = max(row.value for row in timed)
        chart = bars(timed, longest, "latency on the CPU")
        text = "Median of one inference, all in the same run."
        cards.append(("Latency on the CPU", text, chart))
    sections = (
        f"<section><h2>{title}</h2><p>{text}</p>{chart}</section>" for title, text, chart in cards
    )
    return f'<div class="two">{"".join(sections)}</div>'


def _budget(values: dict[str, float], limit: float, smallest: float, form: str) -> str:
    full = max(1.5 * limit, 1.1 * max(values.values()), smallest)
    rows = [
        Row(TITLES[name], value, form.format(value), "bad" if value > limit else COLORS[name])
        for name, value in values.items()
    ]
    return bars(rows, full, "how much of what is allowed is used", limit)


def _reliability(models: dict[str, Any]) -> str:
    curves = {
        name: [Bin(**one) for one in verdict["reliability"]] for name, verdict in models.items()
    }
    figures = "".join(
        f"<figure><h3>{_key(name)}</h3>"
        + reliability_diagram(curve, curves[MODEL], COLORS[name], f"reliability of {TITLES[name]}")
        + "<figcaption>calibration error "
        f"{models[name]['calibration_error']:.3f}</figcaption></figure>"
        for name, curve in curves.items()
    )
    return (
        "<section><h2>How far its confidence can be trusted</h2>"
        "<p>Part of the answers that are right, over how sure the model is. On the dotted line "
        "both are the same; above it, the model is too modest. Larger dots stand for more "
        "images; the grey line is float32.</p>"
        f'<div class="charts">{figures}</div></section>'
    )


def _classes(models: dict[str, Any]) -> str:
    rows = [
        [
            f"{_key(name)}: {printable_html(one['label'])}",
            str(one["images"]),
            f"{one['before']} → {one['after']}",
        ]
        for name, verdict in models.items()
        for one in verdict["worst_classes"]
        if one["images"] > 1  # else it is one of the pictures below
    ]
    if not rows:
        return ""
    headings = ["class", "images", "right, float32 → here"]
    table = _html_table(headings, rows)
    return f"<section><h2>Classes that lost most</h2>{table}</section>"


def _flips(name: str, flips: list[Flip], labels: tuple[str, ...]) -> str:
    if not flips:
        return ""
    cards = "".join(_flip(flip, labels) for flip in flips)
    return (
        f"<section><h2>{_key(name)}: answers that changed most</h2>"
        "<p>Float32's answer, then this model's; first where both were surest.</p>"
        f'<div class="flips">{cards}</div></section>'
    )


def _flip(flip: Flip, labels: tuple[str, ...]) -> str:
    truth = "" if flip.truth is None else f"<br>it is: {printable_html(labels[flip.truth])}"
    if flip.truth in {flip.before.class_id, flip.after.class_id}:
        truth = ""  # one of the two is marked as right
    source = base64.b64encode(flip.jpeg).decode()
    return (
        f'<figure><img alt="" src="data:image/jpeg;base64,{source}"><figcaption>'
        f"{_answer(flip.before, flip.truth)}<br>→ {_answer(flip.after, flip.truth)}{truth}"
        f'<div class="file">{printable_html(flip.name)}</div></figcaption></figure>'
    )


def _answer(answer: Hypothesis, truth: int | None) -> str:
    mark = "" if truth is None else "right" if answer.class_id == truth else "wrong"
    return f'<b class="{mark}">{printable_html(answer.label)}</b> {answer.score:.0%}'


def _key(name: str) -> str:
    return f'<span class="key" style="background:var(--{COLORS[name]})"></span>{TITLES[name]}'


def _cell(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)  # noqa: RUF001 - a dash for people


def _html_table(headings: Iterable[str], rows: Iterable[list[str]]) -> str:
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="table"><table><tr>{head}</tr>{body}</table></div>'
