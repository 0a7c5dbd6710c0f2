# SPDX-License-Identifier: Apache-2.0
"""What /diagnostics says of one camera: is it there, fast enough, alive, connected, in time?

Each row judges one thing and says what to do. While no image comes, the row ``input`` is the
error; the rows that judge images are stale.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perception_node.errors import SlowDecoding
from perception_node.flow.health import Level, Status

if TYPE_CHECKING:
    from perception_node.config.sections import HealthConfig
    from perception_node.flow.accounts import FrameCounts
    from perception_node.flow.deadline import AgeHistogram, AgeSummary

NO_IMAGES = "no images to judge"
NOT_HEARD = "nobody listens, so the lazy node does not subscribe"
PROFILE_ADVICE = (
    "start the camera's driver with our Fast DDS profile (perception doctor prints the command)"
)


@dataclass(frozen=True, slots=True)
class CameraSnapshot:
    """What is known of a camera at one moment, and what was known one period ago.

    Attributes:
        topic: resolved name of the image topic.
        results_topic: resolved name of the topic its classifications go to.
        now: the counters.
        before: the counters one period ago.
        silent_s: seconds since the last image, or since activation if there was none.
        has_images: there was an image since activation.
        clock_stands: simulated time is used, and has not moved for a while.
        is_heard: the camera is subscribed to; of a lazy node, because somebody listens.
        rate_hz: images per second; None before the second.
        is_rate_at_least: there may be more.
        identical: images in a row that look like the one before.
        unusable: why the last unusable image is that; empty if none was.
        range_complaint: why the last 16-bit image is almost of one colour; empty if it is not.
        publishers: connected publishers; None where that is unknown.
        delivery: how the middleware hands images over, ``bytes`` or ``messages``.
        lost: images lost by the middleware so far.
        lost_before: the same one period ago.
        incompatible: the QoS policy for which a publisher was refused; empty if none was.
        deadline_ms: the deadline of this camera.
        ages: ages of the last published results; None before the first.
        histogram: the same ages, in bins up to the deadline.
        predicted_ms: how long a frame probably takes.
        refusal: why the last stale frame was dropped; empty if none was.

    """

    topic: str
    results_topic: str
    now: FrameCounts
    before: FrameCounts
    silent_s: float
    has_images: bool
    clock_stands: bool
    is_heard: bool
    rate_hz: float | None
    is_rate_at_least: bool
    identical: int
    unusable: str
    range_complaint: str
    publishers: int | None
    delivery: str
    lost: int
    lost_before: int
    incompatible: str
    deadline_ms: float
    ages: AgeSummary | None
    histogram: AgeHistogram | None
    predicted_ms: float
    refusal: str


def camera_statuses(report: CameraSnapshot, config: HealthConfig) -> list[Status]:
    """Judge everything about one camera."""
    is_silent = report.silent_s > config.image_timeout_s
    judged = [_rate, _picture, _deadline]
    rows = [judge(report, config) for judge in judged]
    if not report.is_heard:
        rows = [_input(report, is_silent=False), _connection(report, is_silent=False), *rows]
        return [Status(row.task, Level.OK, NOT_HEARD, row.values) for row in rows]
    if is_silent or not report.has_images:
        rows = [Status(row.task, Level.STALE, NO_IMAGES, row.values) for row in rows]
    return [_input(report, is_silent=is_silent), _connection(report, is_silent=is_silent), *rows]


def _input(report: CameraSnapshot, *, is_silent: bool) -> Status:
    """Does the camera send images, and can they be used?"""
    now, before = report.now, report.before
    values = {
        "topic": report.topic,
        "results": report.results_topic,
        "received": str(now.received),
        "published": str(now.published),
        "superseded": str(now.superseded),
        "failed": str(now.failed),
        "malformed": str(now.malformed),
        **{f"malformed ({kind})": str(n) for kind, n in sorted(now.malformed_by_kind.items())},
    }
    if is_silent and report.clock_stands:
        message = "simulated time stands still: the bag is paused, or nobody publishes /clock"
        return Status("input", Level.WARN, message, values)
    if is_silent:
        kind = "Timeout" if report.has_images else "NotReceived"
        message = (
            f"{kind}: no image for {report.silent_s:.1f} s; "
            f"check the camera and that {report.topic} is its topic"
        )
        return Status("input", Level.ERROR, message, values)
    number = now.malformed - before.malformed - _count_slow(report)
    if number > 0:
        return _judge_unusable(report, number, values)
    message = "images arrive" if report.has_images else "waiting for the first image"
    return Status("input", Level.OK, message, values)


def _judge_unusable(report: CameraSnapshot, number: int, values: dict[str, str]) -> Status:
    """Were there other images? Of those that are too late, nobody knows whether they are whole."""
    now, before = report.now, report.before
    usable = sum(
        getattr(now, outcome) - getattr(before, outcome)
        for outcome in ("published", "failed", "stale", "late")
    )
    if usable + _count_slow(report) > 0:
        message = f"{number} unusable image(s); the last: {report.unusable}"
        return Status("input", Level.WARN, message, values)
    message = f"all images are unusable ({number}): {report.unusable}"
    return Status("input", Level.ERROR, message, values)


def _connection(report: CameraSnapshot, *, is_silent: bool) -> Status:
    """Does the middleware deliver what the camera sends?"""
    publishers = "unknown" if report.publishers is None else str(report.publishers)
    values = {
        "publishers": publishers,
        "images arrive as": report.delivery,
        "lost on the way": str(report.lost),
        "replaced by newer ones": _describe_replaced(report.now),
    }
    # Where the publishers are unknown, images tell that another one fits.
    comes = report.has_images and not is_silent
    is_served = comes if report.publishers is None else report.publishers > 0
    if report.incompatible and not is_served:
        message = (
            f"a publisher of {report.topic} was refused for its {report.incompatible}; "
            "set image_qos to sensor_data, or change the camera's QoS"
        )
        return Status("connection", Level.ERROR, message, values)
    if is_silent and report.publishers:
        message = f"{publishers} publisher(s), but no image arrives; {PROFILE_ADVICE}"
        return Status("connection", Level.WARN, message, values)
    if report.lost > report.lost_before:
        number = report.lost - report.lost_before
        message = f"{number} image(s) were lost on the way; {PROFILE_ADVICE}"
        return Status("connection", Level.WARN, message, values)
    message = "nothing is lost" if report.has_images else "waiting for the first image"
    return Status("connection", Level.OK, message, values)


def _describe_replaced(counts: FrameCounts) -> str:
    if not counts.doubt:
        return str(counts.replaced)
    return f"at least {counts.replaced}, and so for received and superseded: {counts.doubt}"


def _rate(report: CameraSnapshot, config: HealthConfig) -> Status:
    """Do images come often enough?"""
    rate_hz = report.rate_hz
    if rate_hz is None:
        values = {"rate (Hz)": "unknown"}
        return Status("rate", Level.OK, "not known before the second image", values)
    rate = f"at least {rate_hz:.1f}" if report.is_rate_at_least else f"{rate_hz:.1f}"
    values = {"rate (Hz)": rate}
    if report.is_rate_at_least:  # the engine is busy, and what it misses has no numbers
        return Status("rate", Level.OK, f"{rate} images per second", values)
    for level, lowest_hz in (
        (Level.ERROR, config.error_rate_hz),
        (Level.WARN, config.warn_rate_hz),
    ):
        if rate_hz < lowest_hz:
            message = (
                f"{rate} images per second, at least {lowest_hz:g} are expected; "
                "check the camera's frame rate and the network"
            )
            return Status("rate", level, message, values)
    return Status("rate", Level.OK, f"{rate} images per second", values)


def _picture(report: CameraSnapshot, config: HealthConfig) -> Status:
    """Does the picture change, as that of a living camera does, and is there something on it?"""
    values = {"identical images in a row": str(report.identical)}
    if 0 < config.stuck_after <= report.identical:
        message = (
            f"stuck: {report.identical} identical images in a row; restart the camera's driver "
            "(a still picture without noise: set stuck_after to 0)"
        )
        return Status("picture", Level.WARN, message, values)
    if report.range_complaint:
        return Status("picture", Level.WARN, report.range_complaint, values)
    return Status("picture", Level.OK, "the picture changes", values)


def _deadline(report: CameraSnapshot, config: HealthConfig) -> Status:
    """Are results in time?"""
    now, before, ages = report.now, report.before, report.ages
    values = {
        "deadline (ms)": f"{report.deadline_ms:g}",
        "stale": str(now.stale),
        "late": str(now.late),
        "predicted (ms)": f"{report.predicted_ms:.1f}",
        "age p50 (ms)": "none yet" if ages is None else f"{ages.p50_ms:.1f}",
        "age p99 (ms)": "none yet" if ages is None else f"{ages.p99_ms:.1f}",
        "age max (ms)": "none yet" if ages is None else f"{ages.max_ms:.1f}",
        "age histogram": "none yet" if report.histogram is None else _to_json(report.histogram),
    }
    stale, late = now.stale - before.stale, now.late - before.late
    slow = _count_slow(report)
    missed = stale + late + slow
    # Superseded images are none that missed: many of them must not hide that all others did.
    judged = missed + now.published - before.published
    missed_percent = 100.0 * missed / judged if judged else 0.0
    level = Level.OK
    if missed and missed_percent >= config.warn_missed_percent:
        level = Level.WARN
    if missed and missed_percent >= config.error_missed_percent:
        level = Level.ERROR
    if level == Level.OK:
        return Status("deadline", level, "results are in time", values)
    why = "the engine takes too long; see ~/latency, or raise deadline_ms"
    if stale and report.refusal:
        why = report.refusal
    if slow:
        why = "decoding takes too long; send smaller or raw images, or raise deadline_ms"
    slowly = f", {slow} while decoded ({SlowDecoding.kind})" if slow else ""
    message = (
        f"{missed_percent:.0f} % of the images missed the deadline "
        f"({stale} stale, {late} late{slowly}): {why}"
    )
    return Status("deadline", level, message, values)


def _count_slow(report: CameraSnapshot) -> int:
    """Return how many images of the last period missed the deadline while they were decoded."""
    now, before = report.now.malformed_by_kind, report.before.malformed_by_kind
    return now.get(SlowDecoding.kind, 0) - before.get(SlowDecoding.kind, 0)


def _to_json(histogram: AgeHistogram) -> str:
    return json.dumps(histogram._asdict(), separators=(",", ":"))
