# SPDX-License-Identifier: Apache-2.0
"""The evaluation as one HTML file: verdict, what it cost, confidence, the worst flips."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from perception_node.calibration.charts import Bar, bars, reliability_diagram
from perception_node.calibration.metrics import Bin
from perception_node.html_page import DASH, to_page
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
LABEL_COLUMNS = {
    "precision": "precision",
    "recall": "recall",
    "average_precision": "average precision",
}
SMALLEST_DROP_SCALE, SMALLEST_FLIP_SCALE = 0.5, 0.01  # points; part of the images


def to_html(bundle: ModelBundle, evaluation: Evaluation) -> str:
    """Return the report of an evaluation of this bundle's models."""
    record = evaluation.record
    models, limits = record["models"], record["limits"]
    parts = [_header(bundle, evaluation), _table(models)]
    if len(models) > 1:
        parts.append(_budgets(models, limits))
    if record["images"]["labelled"]:
        is_multi_label = bundle.manifest.output.is_multi_label
        parts += [_labels(models)] if is_multi_label else [_reliability(models), _classes(models)]
    parts += [_flips(name, flips, bundle.labels) for name, flips in evaluation.flips.items()]
    return to_page(f"{bundle.manifest.name}: accuracy", "\n".join(parts))


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
        f'<p class="why bad">{printable_html(evaluation.warning)}</p>'
        if evaluation.warning
        else ""
    )
    reasons = "".join(
        f'<p class="why bad">{TITLES[name]}: {printable_html("; ".join(verdict["why"]))}</p>'
        for name, verdict in evaluation.record["models"].items()
        if verdict["why"]
    )
    return (
        f'<header><div class="title"><h1>{printable_html(bundle.manifest.name)}</h1>'
        f'<span class="verdict {words[0]}">{words[1]}</span></div>'
        f'<p class="quiet">{" · ".join(facts)}</p>{warning}{reasons}</header>'
    )


def _table(models: dict[str, Any]) -> str:
    columns = {
        "top-1": ("top_1", "{:.1%}"),
        "top-5": ("top_5", "{:.1%}"),
        "mAP": ("mean_average_precision", "{:.1%}"),
        "precision": ("precision", "{:.1%}"),
        "recall": ("recall", "{:.1%}"),
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
        field, short, title = _accuracy_of(models)
        text = f"Points of {short} lost against float32; {limits['max_drop']:g} are allowed."
        chart = _budget(drops, limits["max_drop"], SMALLEST_DROP_SCALE, "{:.2f}")
        cards.insert(0, ("Accuracy lost", text, chart))
        tops = [
            Bar(TITLES[name], verdict[field], f"{verdict[field]:.1%}", COLORS[name])
            for name, verdict in models.items()
        ]
        words = "Of all images." if field == "top_1" else "Mean over the labels."
        cards.append((title, words, bars(tops, 1.0, title.lower())))
    timed = [
        Bar(TITLES[name], verdict["latency_ms"], f"{verdict['latency_ms']:.2f} ms", COLORS[name])
        for name, verdict in models.items()
        if verdict["latency_ms"] is not None
    ]
    if len(timed) > 1:
        longest = max(row.value for row in timed)
        chart = bars(timed, longest, "latency on the CPU")
        text = "Median of one inference, all in the same run."
        cards.append(("Latency on the CPU", text, chart))
    return f'<div class="two">{"".join(map(_section, *zip(*cards, strict=True)))}</div>'


def _accuracy_of(models: dict[str, Any]) -> tuple[str, str, str]:
    """Return the field by which the models are compared, its short and its long name."""
    if "top_1" in models[MODEL]:
        return "top_1", "top-1", "Top-1 accuracy"
    return "mean_average_precision", "mAP", "Mean average precision"


def _budget(values: dict[str, float], limit: float, smallest: float, form: str) -> str:
    full = max(1.5 * limit, 1.1 * max(values.values()), smallest)
    rows = [
        Bar(TITLES[name], value, form.format(value), "bad" if value > limit else COLORS[name])
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
    return _section(
        "How far its confidence can be trusted",
        "Part of the answers that are right, over how sure the model is. On the dotted line "
        "both are the same; above it, the model is too modest. Larger dots stand for more "
        "images; the grey line is float32.",
        f'<div class="charts">{figures}</div>',
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


def _labels(models: dict[str, Any]) -> str:
    """Return a row for each label of each model."""
    rows = [
        [
            f"{_key(name)}: {printable_html(one['label'])}",
            str(one["images"]),
            *(_cell(one[field], "{:.1%}") for field in LABEL_COLUMNS),
        ]
        for name, verdict in models.items()
        for one in verdict["labels"]
        if one["images"]
    ]
    table = _html_table(["label", "images", *LABEL_COLUMNS.values()], rows)
    return f"<section><h2>Labels</h2>{table}</section>"


def _flips(name: str, flips: list[Flip], labels: tuple[str, ...]) -> str:
    if not flips:
        return ""
    cards = "".join(_flip(flip, labels) for flip in flips)
    return _section(
        f"{_key(name)}: answers that changed most",
        "Float32's answer, then this model's; first where both were surest.",
        f'<div class="flips">{cards}</div>',
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
    mark = "" if truth is None else "good" if answer.class_id == truth else "bad"
    return f'<b class="{mark}">{printable_html(answer.label)}</b> {answer.score:.0%}'


def _section(title: str, words: str, content: str) -> str:
    return f'<section><h2>{title}</h2><p class="quiet">{words}</p>{content}</section>'


def _key(name: str) -> str:
    return f'<span class="mark" style="background:var(--{COLORS[name]})"></span>{TITLES[name]}'


def _cell(value: float | None, form: str) -> str:
    return DASH if value is None else form.format(value)


def _html_table(headings: Iterable[str], rows: Iterable[list[str]]) -> str:
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="table"><table class="numbers"><tr>{head}</tr>{body}</table></div>'
