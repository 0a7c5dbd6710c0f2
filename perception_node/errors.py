# SPDX-License-Identifier: Apache-2.0
"""Every error this package raises on purpose.

::

    PerceptionError
    ├── ConfigError               a parameter or argument has no meaning
    ├── FrameError                one frame is lost, the node lives on
    │   ├── MalformedMessage      the bytes are not the message they claim to be
    │   ├── MalformedImage        size, step and data contradict each other
    │   ├── InvalidStamp          the header's time is not a time
    │   ├── MissingStamp          the header's time was never set
    │   ├── UnsupportedEncoding   an encoding this package does not read
    │   ├── UndecodableImage      a compressed image that cannot be decoded
    │   ├── FrameTooLarge         more pixels than the node accepts
    │   ├── SlowDecoding          decoded, but too late to be classified
    │   ├── StaleFrame            too old to be classified in time
    │   └── LateFrame             classified, but too late
    ├── ModelError                the bundle cannot be used
    │   ├── ModelFormatError      a file of the bundle says something impossible
    │   ├── ModelIntegrityError   a file is not the one the bundle was made with
    │   ├── LabelMismatch         labels and classes differ in number
    │   ├── ConversionError       a model file cannot become a bundle
    │   └── UngatedModel          nobody has shown that an int8 model is accurate enough
    ├── CalibrationError          images or ranges that nothing can be calibrated with
    ├── EngineError               an engine could not be made or failed to run
    │   ├── EngineBuildError      TensorRT made no plan, or not the one that was asked for
    │   ├── EngineLost            the engine must not be used again; the fallback takes over
    │   └── PlanError             a plan in the plan store cannot be used
    │       ├── PlanMissing       nobody has built it yet
    │       ├── PlanMismatch      built for another model, GPU or TensorRT
    │       └── PlanIntegrityError  the plan or its manifest was changed or damaged
    ├── BagError                  a bag cannot be read
    ├── RequestError              a request over HTTP that is not answered with a result
    │   ├── BadUpload             no image in it, or more than one
    │   ├── UnsupportedUpload     a body that is no image and no form
    │   ├── UploadTooLarge        more bytes than the server takes
    │   ├── UntrustedHost         another name in the Host header than the server's
    │   ├── ForeignPage           sent by a web page of another origin
    │   ├── ServerBusy            every place is taken
    │   └── DeadlineMissed        not classified in time
    └── EnvironmentLacks          something this machine does not have
        └── MissingPackage        a Python package that cannot be imported (``installing.py``)

Messages are one line: what is wrong, where, and what to do. A bug is not a
``PerceptionError`` and is never caught as one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from perception_node.printable import is_printable, printable

if TYPE_CHECKING:
    from pathlib import Path

MAX_QUOTED_CHARACTERS = 32
MAX_FOREIGN_CHARACTERS = 300


def quote(text: str) -> str:
    """Return text from outside as a short, printable, quoted word for a log line."""
    dots = "..." if len(text) > MAX_QUOTED_CHARACTERS else ""
    return printable(repr(text[:MAX_QUOTED_CHARACTERS] + dots))


def name_key(key: object) -> str:
    """Return a key from outside as it is written, unless it would break a log line."""
    return text if is_printable(text := str(key)) else quote(text)


class PerceptionError(Exception):
    """Base of all errors that this package raises on purpose.

    Its text is one printable line, whatever the names and library errors in it hold.

    Attributes:
        problem: what is wrong, and where; as it came, which need not be printable.
        advice: what to do; empty where ``problem`` says it, or nothing can be done.

    """

    def __init__(self, problem: str = "", advice: str = "") -> None:
        super().__init__(f"{problem}; {advice}" if advice else problem)
        self.problem, self.advice = problem, advice

    def __str__(self) -> str:
        """Return the message as it may be shown anywhere."""
        return printable(super().__str__())


class ConfigError(PerceptionError):
    """A parameter or a command-line argument has no meaning here."""


class EnvironmentLacks(PerceptionError):
    """Something this machine does not have; the message says how to get it."""


class FrameError(PerceptionError):
    """One frame cannot be used.

    Attributes:
        kind: the counter, log throttle and diagnostics key this error belongs to.

    """

    kind: ClassVar[str] = "frame"


class MalformedMessage(FrameError):
    """The serialized bytes are not the message type they claim to be."""

    kind = "message"


class MalformedImage(FrameError):
    """Height, width, step and data of an image contradict each other."""

    kind = "layout"


class InvalidStamp(FrameError):
    """The stamp of a header is not a time: negative, or 1e9 nanoseconds and more."""

    kind = "stamp"

    def __init__(self, sec: int, nanosec: int) -> None:
        super().__init__(
            f"header.stamp {sec} s {nanosec} ns is not a time",
            "the driver must set sec >= 0 and nanosec < 1000000000",
        )


class MissingStamp(FrameError):
    """The stamp of a header is zero, so that nobody knows how old the image is."""

    kind = "stamp"

    def __init__(self) -> None:
        super().__init__(
            "header.stamp is 0, the age of the image is unknown",
            "let the driver stamp its images or set age_reference to arrival",
        )


class StaleFrame(FrameError):
    """The frame was dropped before inference: its result could not be in time."""

    kind = "stale"


class LateFrame(FrameError):
    """The frame was dropped after inference: its result is older than the deadline."""

    kind = "late"

    def __init__(self, age_ns: int | None, limit_ns: int) -> None:
        if age_ns is None or age_ns < 0:
            super().__init__("the clock was set back while it was classified", "nothing to do")
            return
        super().__init__(
            f"it is {age_ns / 1e6:.1f} ms old, the deadline is {limit_ns / 1e6:g} ms less a "
            "reserve for publishing",
            "it took longer than usual: see ~/latency or raise deadline_ms",
        )


class UnsupportedEncoding(FrameError):
    """The encoding of an image is not among those this package reads."""

    kind = "encoding"

    def __init__(self, encoding: str, advice: str) -> None:
        super().__init__(f"encoding {quote(encoding)} is not supported", advice)


class UndecodableImage(FrameError):
    """A compressed image is of no format that is decoded, or is damaged."""

    kind = "codec"


class SlowDecoding(FrameError):
    """The deadline had passed when a compressed image was decoded; no engine has seen it."""

    kind = "slow_codec"

    def __init__(self, took_ns: int, age_ns: int, limit_ns: int) -> None:
        super().__init__(
            f"decoding took {took_ns / 1e6:.1f} ms, then it was {age_ns / 1e6:.1f} ms old, the "
            f"deadline is {limit_ns / 1e6:g} ms",
            "send smaller or raw images, or raise deadline_ms",
        )


class FrameTooLarge(FrameError):
    """The image has more pixels than ``max_image_pixels``."""

    kind = "too_large"

    def __init__(self, width: int, height: int, limit: int) -> None:
        super().__init__(
            f"{width}x{height} is more than {limit} pixels",
            "raise max_image_pixels if the camera is that large",
        )


class ModelError(PerceptionError):
    """A model bundle cannot be used; the message begins with the file."""

    def __init__(self, path: Path, problem: str, advice: str = "") -> None:
        super().__init__(f"{path}: {problem}", advice)


class ModelFormatError(ModelError):
    """A file of the bundle is missing, unreadable or says something impossible."""


class ModelIntegrityError(ModelError):
    """A file of the bundle has other bytes than those the bundle was made with."""

    def __init__(self, path: Path, expected: str, found: str) -> None:
        super().__init__(
            path,
            f"sha256 is {found[:12]}..., the bundle was made with {expected[:12]}...",
            "the file was changed or damaged, copy the bundle again",
        )


class LabelMismatch(ModelError):
    """The number of labels differs from the number of classes."""

    def __init__(self, path: Path, labels: int, classes: int) -> None:
        advice = "one line per class"
        if classes == labels + 1:
            advice += "; does the model begin with a background class?"
        super().__init__(path, f"{labels} labels for a model with {classes} classes", advice)


class ConversionError(ModelError):
    """A model file cannot become a bundle; the message says what is missing or refused."""


class UngatedModel(ModelError):
    """An int8 model whose accuracy was not measured, or was found to be too low."""


class CalibrationError(PerceptionError):
    """There are no usable images, or what they give is no calibration; says what to do."""


class EngineError(PerceptionError):
    """An engine could not be made, or one inference failed."""


class EngineBuildError(EngineError):
    """TensorRT made no plan, or not the one that was asked for."""


class EngineLost(EngineError):
    """The engine must not be used again in this process: it hangs, or its device failed."""


class PlanError(EngineError):
    """A plan in the plan store cannot be used; the message begins with its path."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")


class PlanMissing(PlanError):
    """The plan store has no plan for this model and precision."""


class PlanMismatch(PlanError):
    """The plan was built for something else; the message names the fields that differ."""


class PlanIntegrityError(PlanError):
    """A plan or its manifest has other bytes, another owner or other permissions than it must."""


class BagError(PerceptionError):
    """A bag cannot be read; the message begins with its path."""

    def __init__(self, path: Path, problem: str, advice: str = "") -> None:
        super().__init__(f"{path}: {problem}", advice)


class RequestError(PerceptionError):
    """A request over HTTP that gets no result; the message is for the client, and harmless."""


class BadUpload(RequestError):
    """A request without an image, with several, or one that cannot be read."""


class UnsupportedUpload(RequestError):
    """The Content-Type is neither a form's nor an image's."""


class UploadTooLarge(RequestError):
    """The request has more bytes or more parts than the server takes."""


class UntrustedHost(RequestError):
    """The Host header has a name that is not the server's: a page elsewhere may be behind it."""

    def __init__(self) -> None:
        super().__init__(
            "the server is not called by this name", "its operator can allow it (--trusted-host)"
        )


class ForeignPage(RequestError):
    """A web page of another origin has sent the request, and the operator has not allowed it."""

    def __init__(self) -> None:
        super().__init__(
            "a page of another origin may not ask this server",
            "its operator can allow it (--cors-origin); with cookies turned off, open the page "
            "from this machine or by https",
        )


class ServerBusy(RequestError):
    """Every place is taken.

    Attributes:
        retry_after_s: when another try makes sense; whole seconds, at least 1.

    """

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = max(1, retry_after_s)


class DeadlineMissed(RequestError):
    """The image was not classified within the time that a request may take."""


def first_line(error: Exception) -> str:
    """Return the first line of a library's error, not too long; else the error's type."""
    lines = str(error).strip().splitlines()
    return lines[0][:MAX_FOREIGN_CHARACTERS] if lines else type(error).__name__
