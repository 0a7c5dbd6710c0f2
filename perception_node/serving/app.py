# SPDX-License-Identifier: Apache-2.0
"""The Flask application: routes, headers, and who may ask."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, abort, g, jsonify, render_template, request, send_from_directory
from flask_cors import CORS
from prometheus_client import CONTENT_TYPE_LATEST

from perception_node.errors import UntrustedHost
from perception_node.serving.headers import NO_STORE, SECURITY_HEADERS
from perception_node.serving.metrics import Metrics
from perception_node.serving.origins import mark_page, require_known_page
from perception_node.serving.problems import Problems
from perception_node.serving.uploads import (
    MAX_FIELD_BYTES,
    MAX_FIELDS,
    UploadRequest,
    read_image,
)

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

    from perception_node.engines.pipeline import Prediction
    from perception_node.live.live_view import LiveView
    from perception_node.serving.classification import ClassificationQueue
    from perception_node.serving.settings import ServerSettings

PAGE = Path(__file__).resolve().parent / "page"
TEMPLATE = "index.html"
ASSET_SUFFIXES = frozenset({".css", ".js", ".svg"})
GREETING = "Hello"  # of the reference application


def create_app(
    classifier: ClassificationQueue,
    settings: ServerSettings,
    live: LiveView | None = None,
    metrics: Metrics | None = None,
) -> Flask:
    """Return the application.

    Args:
        classifier: answers ``/predict``.
        settings: limits, and who may ask.
        live: adds the routes of a watched node.
        metrics: what ``/metrics`` says; by default its own, of this application alone.

    """
    app = Flask(__name__, static_folder=None, template_folder=str(PAGE))
    app.request_class = UploadRequest
    app.url_map.merge_slashes = False  # an address is right or wrong: no redirections
    app.config.update(
        MAX_CONTENT_LENGTH=settings.max_body_bytes,
        MAX_FORM_MEMORY_SIZE=MAX_FIELD_BYTES,
        MAX_FORM_PARTS=MAX_FIELDS,
    )
    app.json.sort_keys = False  # type: ignore[attr-defined] # of Flask's default provider
    metrics = metrics or Metrics(classifier, live)
    Problems().register(app)
    app.before_request(_note_arrival)
    names = settings.answered_hosts
    app.before_request(lambda: _require_trusted_host(names))
    app.before_request(lambda: require_known_page(request, settings.cors_origins))
    app.after_request(lambda response: _finish(response, metrics))
    _add_page(app, classifier, settings, has_live=live is not None)
    _add_predict(app, classifier, settings, metrics)
    _add_monitoring(app, classifier, metrics)
    if live is not None:
        from perception_node.serving.live_routes import live_routes  # noqa: PLC0415 - if needed

        app.register_blueprint(live_routes(live, settings))
    if settings.cors_origins:
        _allow_origins(app, settings.cors_origins)
    return app


def to_record(prediction: Prediction, latency_ns: int, model: str) -> dict[str, Any]:
    """Return the answer of ``/predict``; scores are those of the node, not rounded."""
    results = [
        {"class_id": str(h.class_id), "label": h.label, "score": h.score}
        for h in prediction.hypotheses
    ]
    best: dict[str, Any] = results[0] if results else {"label": None, "score": None}
    return {
        "label": best["label"],
        "score": best["score"],
        "results": results,
        "latency_ms": round(latency_ns / 1e6, 3),
        "model": model,
    }


def _add_predict(
    app: Flask, classifier: ClassificationQueue, settings: ServerSettings, metrics: Metrics
) -> None:
    @app.post("/predict")
    def predict() -> ResponseReturnValue:
        data = read_image(request, settings.max_body_bytes)
        prediction = classifier.classify(data, g.arrival_ns)
        latency_ns = time.monotonic_ns() - g.arrival_ns
        metrics.observe_prediction(latency_ns, prediction.times)
        return jsonify(to_record(prediction, latency_ns, classifier.model))


def _add_page(
    app: Flask, classifier: ClassificationQueue, settings: ServerSettings, *, has_live: bool
) -> None:
    @app.get("/")
    def page() -> ResponseReturnValue:
        if request.accept_mimetypes.best_match(("text/html", "text/plain")) == "text/plain":
            response = Response(GREETING, mimetype="text/plain")
        else:
            text = render_template(
                TEMPLATE,
                has_live=has_live,
                model=classifier.model,
                max_body_mib=settings.max_body_mib,
            )
            response = Response(text, mimetype="text/html")
            if has_live:
                mark_page(response)
        response.vary.add("Accept")
        response.headers["Cache-Control"] = "no-cache"
        return response

    @app.get("/static/<filename>", endpoint="static")
    def asset(filename: str) -> ResponseReturnValue:
        if Path(filename).suffix not in ASSET_SUFFIXES:  # the template is not for the public
            abort(404)
        return send_from_directory(PAGE, filename)


def _add_monitoring(app: Flask, classifier: ClassificationQueue, metrics: Metrics) -> None:
    @app.get("/healthz")
    def healthz() -> ResponseReturnValue:
        record = describe_health(classifier)
        return jsonify(record), 503 if record["status"] == "failed" else 200

    @app.get("/metrics")
    def scrape() -> ResponseReturnValue:
        return Response(metrics.render(), content_type=CONTENT_TYPE_LATEST)


def describe_health(classifier: ClassificationQueue) -> dict[str, str]:
    """Return the answer of ``/healthz``; why an engine was lost is in the log, for its paths."""
    pipeline = classifier.pipeline
    if pipeline.is_exhausted:
        status, reason = "failed", "no engine is left; the server ends"
    elif pipeline.lost is not None:
        status, reason = "degraded", "an engine was given up and another took over"
    else:
        status, reason = "ok", ""
    engine = pipeline.description
    return {"status": status, "model": classifier.model, "engine": engine, "reason": reason}


def _note_arrival() -> None:
    g.arrival_ns = time.monotonic_ns()


def _require_trusted_host(names: tuple[str, ...] | None) -> None:
    """Refuse other names in the Host header (DNS rebinding).

    Flask's TRUSTED_HOSTS does not know the address [::1].
    """
    if names is None:
        return
    host = request.headers.get("Host", "").lower()
    name, _, port = host.rpartition(":")
    if (name if port.isdigit() else host) not in map(str.lower, names):
        raise UntrustedHost


def _finish(response: Response, metrics: Metrics) -> Response:
    for name, value in SECURITY_HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault("Cache-Control", NO_STORE)
    route = request.url_rule.rule if request.url_rule else None
    metrics.count_request(response.status_code, route)
    return response


def _allow_origins(app: Flask, origins: tuple[str, ...]) -> None:
    """Let pages of these origins call the server."""
    # Flask-CORS takes a plain origin with brackets, http://[::1]:8000, for a pattern.
    exact = [re.compile(rf"{re.escape(origin)}\Z", re.IGNORECASE) for origin in origins]
    CORS(
        app,
        origins="*" if "*" in origins else exact,
        methods=["GET", "HEAD", "POST", "OPTIONS"],
        send_wildcard="*" in origins,
        always_send=False,
        expose_headers=["Retry-After"],
        max_age=600,
    )
