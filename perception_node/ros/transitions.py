# SPDX-License-Identifier: Apache-2.0
"""The lifecycle's transitions as others ask for them: always answered, and never deaf meanwhile.

Configuring takes long. The model is loaded on a thread of its own, and the coroutine that will
answer waits for it; the executor serves everything else.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.task import Future

from perception_node.errors import quote
from perception_node.ros.compat import (
    RCLError,
    begin_transition,
    end_transition,
    find_state,
    find_transitions,
)
from perception_node.ros.outputs import LOG_PERIOD_S
from perception_node.system.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable

    from perception_node.ros.node import PerceptionNode

CONFIGURE, CLEANUP = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP
ACTIVATE, DEACTIVATE = Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE
NAMES = {
    CONFIGURE: "configure",
    CLEANUP: "cleanup",
    ACTIVATE: "activate",
    DEACTIVATE: "deactivate",
    Transition.TRANSITION_UNCONFIGURED_SHUTDOWN: "shutdown",
    Transition.TRANSITION_INACTIVE_SHUTDOWN: "shutdown",
    Transition.TRANSITION_ACTIVE_SHUTDOWN: "shutdown",
}
NUMBERS = {name: number for number, name in NAMES.items() if name != "shutdown"}
SHUTDOWNS = {
    State.PRIMARY_STATE_UNCONFIGURED: Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
    State.PRIMARY_STATE_INACTIVE: Transition.TRANSITION_INACTIVE_SHUTDOWN,
    State.PRIMARY_STATE_ACTIVE: Transition.TRANSITION_ACTIVE_SHUTDOWN,
}
IMPOSSIBLE = "not possible in this state; see ros2 lifecycle list"
NONE: Final[int] = Transition.TRANSITION_CREATE  # which cannot be asked for


class Transitions:
    """Answers one node's ~/change_state; all of it runs on the executor's thread."""

    def __init__(self, node: PerceptionNode) -> None:
        """Take the service over from rclpy."""
        self._node = node
        self._configured: Future | None = (
            None  # done when configuring is over, whatever came of it
        )
        self._throttle = Throttle(LOG_PERIOD_S)
        (service,) = (one for one in node.services if one.srv_type is ChangeState)
        self._change_state: Callable[..., ChangeState.Response] = service.callback
        # One that waits must not keep others out: they may end its waiting.
        service.callback_group = ReentrantCallbackGroup()
        service.callback_group.add_entity(service)
        service.callback = self._answer

    @property
    def is_configuring(self) -> bool:
        """Whether the model is being loaded."""
        return self._configured is not None

    async def start(self) -> None:
        """Configure and activate; where that fails the node stays, to be configured again."""
        if await self._configure():
            self._change(ACTIVATE)

    async def _answer(
        self, request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        response.success = await self._do(request.transition)
        return response

    async def _do(self, asked: Transition) -> bool:
        number = self._find_number(asked)
        if self._configured is not None:
            if NAMES.get(number) not in {"cleanup", "deactivate", "shutdown"}:
                return self._refuse(asked, "the node is configuring")
            self._node.loading.give_up(f"{NAMES[number]} was asked for")
            await self._configured
            if number == CLEANUP and self._state() == State.PRIMARY_STATE_UNCONFIGURED:
                return True
            if NAMES[number] == "shutdown":
                number = self._find_shutdown()
        if number == CONFIGURE:
            return await self._configure()
        begun = self._node.transitions_begun
        is_done = self._change(number)
        if not is_done and self._node.transitions_begun == begun:
            return self._refuse(asked, IMPOSSIBLE)
        return is_done

    def _find_number(self, asked: Transition) -> int:
        """Return the transition that is meant; those that a state machine does itself are none.

        As in rcl, a label counts more than a number.
        """
        if asked.label == "shutdown":
            return self._find_shutdown()
        number: int = NUMBERS.get(asked.label, NONE) if asked.label else asked.id
        return number if number in NAMES else NONE

    def _change(self, number: int) -> bool:
        """Go through a transition at once, as rclpy does it; only where the state allows it."""
        if number not in find_transitions(self._node):
            return False
        request = ChangeState.Request(transition=Transition(id=number))
        try:
            return bool(self._change_state(request, ChangeState.Response()).success)
        except RCLError:  # whoever asked has an answer all the same
            return False

    async def _configure(self) -> bool:
        """Go through configuring; other requests are served meanwhile."""
        node = self._node
        if CONFIGURE not in find_transitions(node):
            return self._refuse(Transition(id=CONFIGURE), IMPOSSIBLE)
        before = begin_transition(node, CONFIGURE)
        executor = node.executor
        self._configured = configured = Future(executor=executor)
        loaded = Future(executor=executor)

        def on_end() -> None:
            # From the executor's own thread: that is how it wakes up for it in every release.
            with suppress(Exception):  # the executor has ended
                executor.create_task(loaded.set_result, None)

        try:
            node.loading.begin(on_end)
            await loaded
        finally:  # also where it could not begin: then this says why
            result = node.on_configure(before)
            self._configured = None
            end_transition(node, result, before)
            configured.set_result(None)
        return bool(result == TransitionCallbackReturn.SUCCESS)

    def _refuse(self, asked: Transition, why: str) -> bool:
        known = NAMES.get(asked.id, f"transition {asked.id}")
        name = asked.label if asked.label in {*NUMBERS, "shutdown"} else ""
        subject = name or (known if not asked.label else "unknown")
        if self._throttle.is_due(subject):
            shown = name or (known if not asked.label else quote(asked.label))
            self._node.get_logger().warning(f"{shown} refused: {why}")
        return False

    def _find_shutdown(self) -> int:
        """Return the transition that shuts down from the present state."""
        number: int = SHUTDOWNS.get(self._state(), Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
        return number

    def _state(self) -> int:
        return find_state(self._node)
