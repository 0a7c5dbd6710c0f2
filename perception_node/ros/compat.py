# SPDX-License-Identifier: Apache-2.0
"""What differs between the releases of ROS 2, from Humble to Lyrical; no other file knows.

Nothing is concluded from a release's number: each difference is a name, a keyword or a variable
that is looked for. Private names of rclpy are in this file alone.
"""

from __future__ import annotations

import ctypes
import inspect
import os
import re
from contextlib import ExitStack, nullcontext, suppress
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, cast

import rclpy
from rclpy.callback_groups import CallbackGroup
from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl import rcutils_logger
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSCompatibility, qos_check_compatible
from rclpy.service import Service

try:
    from rclpy.event_handler import (
        PublisherEventCallbacks,
        SubscriptionEventCallbacks,
        UnsupportedEventTypeError,
    )
except ImportError:  # Humble
    from rclpy.qos_event import (
        PublisherEventCallbacks,
        SubscriptionEventCallbacks,
        UnsupportedEventTypeError,
    )
try:
    from rclpy.experimental import EventsExecutor
except ImportError:  # Humble
    EventsExecutor = None

from perception_node.system.process import refuse_large_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rclpy.context import Context
    from rclpy.lifecycle import LifecycleNode
    from rclpy.node import Node
    from rclpy.parameter import Parameter
    from rclpy.publisher import Publisher
    from rclpy.qos import QoSProfile
    from rclpy.subscription import Subscription

    from perception_node.untyped import Passed, RosObject

__all__ = ["RCLError", "UnsupportedEventTypeError"]

RCLError = rclpy_implementation.RCLError
# Humble does not tell how many publishers a subscription is connected to.
TELLS_MATCHES = "matched" in inspect.signature(SubscriptionEventCallbacks).parameters
# Without events a publisher or subscription may be destroyed while another thread spins its node:
# an executor that is about to wait for the events of one that is gone ends with an error.
NO_PUBLISHER_EVENTS = PublisherEventCallbacks(use_default_callbacks=False)
NO_SUBSCRIPTION_EVENTS = SubscriptionEventCallbacks(use_default_callbacks=False)
LOADED_FILES = Path("/proc/self/maps")
# Of a lifecycle node; rclpy does not let others ask it, nor change its state in two steps. The
# same from rclpy 3.3 to 10.0, as is what follows.
STATE_MACHINE = "_state_machine"
# How an executor takes from what is ready; Humble does not take from waitables in this way.
TAKES = (
    "_take_timer",
    "_take_subscription",
    "_take_client",
    "_take_service",
    "_take_guard_condition",
    "_take_waitable",
)
DISCOVERY_RANGE, LOCALHOST_ONLY = "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY"
RCL = re.compile(r" (/.*/librcl\.so\S*)$", re.MULTILINE)
FAST_DDS = re.compile(r"/lib(fastrtps|fastdds)\.so\.(\d[\d.]*)")
PROFILE_VARIABLES = {
    "fastrtps": "FASTRTPS_DEFAULT_PROFILES_FILE",  # Fast DDS 2: Humble and Jazzy
    "fastdds": "FASTDDS_DEFAULT_PROFILES_FILE",  # Fast DDS 3, which warns of the other name
}
# Of a bag: how it states QoS. Humble reads numbers only.
WORDY_BAG: Final = 9
NUMERIC_BAG: Final = 8


class FastDds(NamedTuple):
    """The Fast DDS of this process.

    Attributes:
        version: as in the name of its library, such as ``2.14``.
        variable: the environment variable in which it looks for a profile.

    """

    version: str
    variable: str


def log_for_caller(file: str) -> bool:
    """Let rclpy's loggers name the callers of functions in ``file`` and not these functions.

    They ask for it by a list that "third parties" may extend. Returns False where there is none.
    """
    files = vars(rcutils_logger).get("_internal_callers")
    if not isinstance(files, list):
        return False
    files.append(os.path.realpath(file))
    return True


def find_middleware() -> str:
    """Return the name of the RMW in use, such as ``rmw_fastrtps_cpp``."""
    return str(rclpy.get_rmw_implementation_identifier())


def find_version() -> str:
    """Return the version of rclpy, for people to read; "" where it does not say."""
    try:
        return metadata.version("rclpy")
    except metadata.PackageNotFoundError:
        return ""


def find_fast_dds(loaded: Path = LOADED_FILES) -> FastDds | None:
    """Return the Fast DDS that the middleware has loaded, None if it is another middleware.

    ``loaded`` lists the files that this process has mapped, see proc_pid_maps(5).
    """
    if "fastrtps" not in find_middleware():  # which loads it
        return None
    found = FAST_DDS.search(_read(loaded))
    return FastDds(found[2], PROFILE_VARIABLES[found[1]]) if found else None


def keep_discovery_local(loaded: Path = LOADED_FILES) -> None:
    """Let this process and its children find nobody on other machines.

    Must come before ``rclpy.init()``; what the user has set stays.
    """
    chosen = os.environ.setdefault(DISCOVERY_RANGE, "LOCALHOST")
    if chosen == "LOCALHOST" and not knows_discovery_range(loaded):
        os.environ.setdefault(LOCALHOST_ONLY, "1")  # later releases warn of it


def knows_discovery_range(loaded: Path = LOADED_FILES) -> bool:
    """Tell whether DISCOVERY_RANGE means something here; Humble does not read it."""
    rcl = RCL.search(_read(loaded))
    return rcl is not None and DISCOVERY_RANGE.encode() in Path(rcl[1]).read_bytes()


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")  # paths may be any bytes
    except OSError:
        return ""


def make_event_callbacks(
    on_lost: Callable[[Any], None],
    on_incompatible: Callable[[Any], None],
    on_publishers: Callable[[int, int], None],
) -> SubscriptionEventCallbacks:
    """Make a subscription's callbacks.

    Args:
        on_lost: gets rclpy's event of images that the middleware lost.
        on_incompatible: gets rclpy's event of a publisher whose QoS does not fit.
        on_publishers: gets how many publishers are connected, and how many have come since it
            was called last; only where TELLS_MATCHES.

    """

    def on_matched(event: RosObject) -> None:
        on_publishers(event.current_count, event.total_count_change)

    matched = {"matched": on_matched} if TELLS_MATCHES else {}
    return SubscriptionEventCallbacks(
        message_lost=on_lost, incompatible_qos=on_incompatible, **matched
    )


def count_publishers(node: Node, topic: str, qos: QoSProfile) -> int:
    """Count the publishers that a subscription with this QoS is connected to, by asking."""
    return sum(
        qos_check_compatible(publisher.qos_profile, qos)[0] != QoSCompatibility.ERROR
        for publisher in node.get_publishers_info_by_topic(topic)
    )


class TakenElsewhere(CallbackGroup):
    """Keeps an executor away from a subscription, and from what is said of it.

    Not from its messages alone: Fast DDS wakes up who waits for a subscription's events also while
    a message lies there. The executor would find nothing to do, and try again at once.
    """

    def can_execute(self, _entity: RosObject) -> bool:
        """Say no: the owner takes messages and events."""
        return False

    def beginning_execution(self, _entity: RosObject) -> bool:
        """Say no; see ``can_execute``."""
        return False

    def ending_execution(self, _entity: RosObject) -> None:
        """Note nothing: nothing begins."""


def take_events(subscription: Subscription, context: Context) -> None:
    """Call back with the events of a subscription that no executor serves; do not wait.

    Raises:
        RCLError: the middleware failed.

    """
    handlers = subscription.event_handlers
    wait_set = rclpy_implementation.WaitSet(0, 0, 0, 0, 0, len(handlers), context.handle)
    with ExitStack() as in_use:
        wait_set.clear_entities()
        for handler in handlers:
            in_use.enter_context(handler)
            handler.add_to_wait_set(wait_set)
        wait_set.wait(0)
        for handler in handlers:
            if handler.is_ready(wait_set) and (event := handler.take_data()) is not None:
                handler.callback(event)


def find_forget() -> Callable[[], None]:
    """Return what makes a thread forget the last error of rcl and rmw."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    found = re.search(r" (/.*/librcutils\.so\S*)$", maps, re.MULTILINE)
    forget = getattr(ctypes.CDLL(found[1]), "rcutils_reset_error", None) if found else None
    return (lambda: None) if forget is None else cast("Callable[[], None]", forget)


class SturdyExecutor(SingleThreadedExecutor):
    """Survives whatever a callback raises, and what a message raises that cannot be taken.

    rclpy marks what it is about to take from as busy, and its callback group with it, and leaves
    them so where that fails: nothing of the group would ever be served again. And the middleware
    keeps the error of a message that it could not read, never asked for; the next one would
    complain of that in ten lines on stderr.
    """

    def __init__(
        self, on_error: Callable[[str, Exception], None], context: Context | None = None
    ) -> None:
        """Prepare; ``on_error`` gets what failed, such as a topic, and why."""
        super().__init__(context=context)
        self._on_error = on_error
        self._forget = find_forget()
        self._at: Any = None  # what is being served
        for name in TAKES:
            if take := getattr(self, name, None):
                setattr(self, name, partial(self._attempt, take))

    def wait_for_ready_callbacks(self, *arguments: Passed, **options: Passed) -> Passed:
        """Note what is served next; see rclpy."""
        self._at = None
        found = super().wait_for_ready_callbacks(*arguments, **options)
        self._at = found[1]
        return found

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Wait for one callback and run it.

        Raises:
            ExternalShutdownException: the context was shut down.

        """
        try:
            super().spin_once(timeout_sec)
        except ExternalShutdownException:
            raise
        except Exception as error:  # noqa: BLE001 - whatever somebody else has sent
            self._on_error(_describe(self._at), error)
        finally:
            self._forget()

    def _attempt(self, take: Callable[[Any], RosObject], entity: RosObject) -> RosObject:
        try:
            with refuse_large_blocks() if _holds_lists(entity) else nullcontext():
                return take(entity)
        except Exception as error:  # noqa: BLE001 - see spin_once
            self._on_error(_describe(entity), error)
            return None  # there was nothing
        finally:
            self._forget()


def _holds_lists(entity: RosObject) -> bool:
    """Tell whether an entity is a service whose requests say how many elements they have."""
    if not isinstance(entity, Service):
        return False
    kinds = entity.srv_type.Request.get_fields_and_field_types().values()
    return any(kind.startswith("sequence<") for kind in kinds)


def _describe(entity: RosObject) -> str:
    """Name what an executor serves: a topic, a service, or what kind of thing it is."""
    for name in ("srv_name", "topic_name"):
        if found := getattr(entity, name, ""):
            return str(found)
    return "the middleware" if entity is None else f"a {type(entity).__name__}"


class MessageWaiter:
    """Waits for messages of subscriptions in C, without Python's lock. Used by one thread."""

    def __init__(self, context: Context) -> None:
        """Prepare to wait in a context that is initialised."""
        self._context = context.handle
        self._guard = rclpy_implementation.GuardCondition(context.handle)
        self._wait_set: Any = None
        self._room = -1

    def wait(self, subscriptions: Mapping[int, Subscription]) -> list[int]:
        """Return the keys of those that have a message; none after ``wake``.

        A subscription may be destroyed meanwhile, by another thread. One that was destroyed
        before is not waited for.

        Raises:
            RCLError: the middleware failed.

        """
        if len(subscriptions) != self._room:
            room = self._room = len(subscriptions)
            self._wait_set = rclpy_implementation.WaitSet(room, 1, 0, 0, 0, 0, self._context)
        wait_set = self._wait_set
        wait_set.clear_entities()
        places = []
        with ExitStack() as in_use:
            for key, subscription in subscriptions.items():
                with suppress(InvalidHandle):
                    in_use.enter_context(subscription.handle)
                    places.append((key, wait_set.add_subscription(subscription.handle)))
            wait_set.add_guard_condition(self._guard)
            wait_set.wait(-1)
            return [key for key, place in places if wait_set.is_ready("subscription", place)]

    def wake(self) -> None:
        """Let ``wait`` return; called by any thread."""
        self._guard.trigger_guard_condition()


class Taken(NamedTuple):
    """A message that was taken from a subscription.

    Attributes:
        message: bytes, or a message of the subscription's type.
        received_ns: when the middleware received it, on the system's clock; 0 if unknown.
        number: the publisher's number of it; None where messages are not numbered.

    """

    message: Any
    received_ns: int
    number: int | None


def take(subscription: Subscription) -> Taken | None:
    """Take a message from a subscription that no executor serves.

    Returns:
        None if there is none, or another thread has destroyed the subscription.

    Raises:
        RCLError: the middleware failed.

    """
    taken = None
    with suppress(InvalidHandle), subscription.handle:
        taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
    if taken is None:
        return None
    message, info = taken
    return Taken(message, info["received_timestamp"], info.get("publication_sequence_number"))


def make_raw_sender(publisher: Publisher) -> Callable[[bytearray], None]:
    """Return what publishes a serialized message that can be changed in place."""
    publish = publisher.handle.publish_raw

    def send(message: bytearray) -> None:
        try:
            publish(message)
        except TypeError:  # Humble
            publish(bytes(message))

    return send


def follow_set_parameters(node: Node, apply: Callable[[list[Parameter]], None]) -> None:
    """Call ``apply`` with parameters that were set, together where they were set together."""
    if hasattr(node, "add_post_set_parameters_callback"):
        node.add_post_set_parameters_callback(apply)
        return
    set_atomically = node.set_parameters_atomically

    def set_parameters_atomically(parameters: list[Parameter]) -> RosObject:
        result = set_atomically(parameters)
        if result.successful:
            apply(parameters)
        return result

    node.set_parameters_atomically = set_parameters_atomically
    node.set_parameters = lambda parameters: [set_parameters_atomically([p]) for p in parameters]


def make_events_executor() -> RosObject | None:
    """Return an executor that wakes up with less effort; None where this rclpy has none.

    It must be spun with a finite timeout: without one it stops the whole process.
    """
    return EventsExecutor() if EventsExecutor is not None else None


def bag_version() -> Literal[8, 9]:
    """Return the version in which bags are written, so that this machine's ros2 bag reads them."""
    try:
        from rosbag2_py import BagMetadata  # noqa: PLC0415 - not needed to run the node
    except ImportError:
        return WORDY_BAG
    return WORDY_BAG if BagMetadata().version >= WORDY_BAG else NUMERIC_BAG


def find_state(node: LifecycleNode) -> int:
    """Return the number of a node's lifecycle state."""
    return int(getattr(node, STATE_MACHINE).current_state[0])


def find_transitions(node: LifecycleNode) -> set[int]:
    """Return the numbers of the transitions that the node's state allows.

    rcl writes a line for each other one that it is asked for, however often.
    """
    return {int(each[0]) for each in getattr(node, STATE_MACHINE).available_transitions}


def begin_transition(node: LifecycleNode, number: int) -> LifecycleState:
    """Enter the state between two states, without a callback; return the state before.

    Raises:
        RCLError: the present state does not allow this transition.

    """
    machine = getattr(node, STATE_MACHINE)
    number_before, label = machine.current_state
    before = LifecycleState(state_id=number_before, label=label)
    machine.trigger_transition_by_id(number, True)
    return before


def end_transition(
    node: LifecycleNode, result: TransitionCallbackReturn, before: LifecycleState
) -> None:
    """Leave that state by what the transition's callback has returned, as rclpy does."""
    machine = getattr(node, STATE_MACHINE)
    machine.trigger_transition_by_label(result.to_label(), True)
    if result == TransitionCallbackReturn.ERROR:
        outcome = node.on_error(before)
        machine.trigger_transition_by_label(outcome.to_label(), True)


def native_node(node: Node) -> int:
    """Return the address of a node's ``rcl_node_t``."""
    return int(node.handle.pointer)


def native_type(kind: RosObject) -> int:
    """Return the address of the type support of a class of messages."""
    kind.__class__.__import_type_support__()
    capsule = kind.__class__._TYPE_SUPPORT  # noqa: SLF001 - where generated classes keep it
    name_of, address_of = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, (ctypes.py_object,)
    address_of.restype, address_of.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    return int(address_of(capsule, name_of(capsule)))
