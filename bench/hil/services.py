# SPDX-License-Identifier: Apache-2.0
"""What a host asks of a device: transitions and parameters, by its services."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters, SetParametersAtomically
from rclpy.parameter import Parameter, parameter_value_to_python

from perception_node.errors import ConfigError, EnvironmentLacks, quote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rclpy.node import Node

    from perception_node.config.parameter import Value
    from perception_node.untyped import Message

ASK_AGAIN_S, TRANSITION_S = 1.0, 5.0
TRANSITIONS = {
    "configure": (Transition.TRANSITION_CONFIGURE, "inactive"),
    "activate": (Transition.TRANSITION_ACTIVATE, "active"),
    "deactivate": (Transition.TRANSITION_DEACTIVATE, "inactive"),
    "cleanup": (Transition.TRANSITION_CLEANUP, "unconfigured"),
}
WAY_DOWN = {"active": ("deactivate", "cleanup"), "inactive": ("cleanup",)}
WAY_UP = ("configure", "activate")


class DeviceServices:
    """Clients of one node, whose callbacks another thread runs."""

    def __init__(
        self,
        node: Node,
        target: str,
        timeout_s: float,
        wait: Callable[[Callable[[], bool], float], bool],
    ) -> None:
        """Make the clients.

        Args:
            node: their owner.
            target: full name of the device's node.
            timeout_s: how long to try until an answer comes.
            wait: waits for a condition, at most so many seconds; returns whether it holds.

        """
        self._target, self._timeout_s, self._wait = target, timeout_s, wait
        self._clients = {
            kind: node.create_client(kind, f"{target}/{name}")
            for kind, name in (
                (GetState, "get_state"),
                (ChangeState, "change_state"),
                (GetParameters, "get_parameters"),
                (SetParametersAtomically, "set_parameters_atomically"),
            )
        }

    def change(self, step: str) -> str:
        """Make a transition; return why that failed, empty if it did not.

        It is asked for again where no answer comes and the state is still another: the client may
        have found the service of a process that is gone.
        """
        number, goal = TRANSITIONS[step]
        request = ChangeState.Request(transition=Transition(id=number))
        tries = max(1, round(self._timeout_s / TRANSITION_S))
        for _ in range(tries):
            if self.read_state() is None:
                break
            answer = self._ask(ChangeState, request, TRANSITION_S)
            if answer is not None:
                return "" if answer.success else f"refused in state {self.read_state()}"
            if self.read_state() == goal:
                return ""
        return f"no answer of {self._target}/change_state in {self._timeout_s:g} s"

    def read_state(self) -> str | None:
        """Return the lifecycle state; None if no answer comes."""
        answer = self._ask_again(GetState, GetState.Request())
        return None if answer is None else str(answer.current_state.label)

    def read_parameters(self, names: Sequence[str]) -> dict[str, Value]:
        """Return those of the parameters that the device has; none if no answer comes."""
        answer = self._ask_again(GetParameters, GetParameters.Request(names=list(names)))
        if answer is None:
            return {}
        values = map(parameter_value_to_python, answer.values)
        return {n: v for n, v in zip(names, values, strict=False) if v is not None}

    def apply_parameters(self, values: Mapping[str, Value]) -> None:
        """Set parameters while the device is unconfigured, then configure and activate it.

        A device that was active is active again also where it refuses them.

        Raises:
            ConfigError: the device refuses one of them.
            EnvironmentLacks: it does not make a transition, or does not answer.

        """
        before = self.read_state() or ""
        for step in WAY_DOWN.get(before, ()):
            self._require(step)
        parameters = [
            Parameter(name, value=list(v) if isinstance(v, tuple) else v).to_parameter_msg()
            for name, v in values.items()
        ]
        request = SetParametersAtomically.Request(parameters=parameters)
        answer = self._ask_again(SetParametersAtomically, request)
        is_set = answer is not None and answer.result.successful
        for step in WAY_UP if is_set or before == "active" else ():
            self._require(step)
        if answer is None:
            raise EnvironmentLacks(f"{self._target}: no answer of set_parameters_atomically")
        if not answer.result.successful:
            reason = " ".join(answer.result.reason.split())
            raise ConfigError(f"node.parameters: {self._target} refuses them: {reason}")

    def _require(self, step: str) -> None:
        problem = self.change(step)
        if problem:
            raise EnvironmentLacks(f"{self._target}: {step} failed: {quote(problem)}")

    def _ask_again(self, kind: type, request: Message) -> Message:
        """Ask what may be asked twice until an answer comes; None if none does in time."""
        for _ in range(max(1, round(self._timeout_s / ASK_AGAIN_S))):
            answer = self._ask(kind, request, ASK_AGAIN_S)
            if answer is not None:
                return answer
        return None

    def _ask(self, kind: type, request: Message, timeout_s: float) -> Message:
        client = self._clients[kind]
        if not self._wait(client.service_is_ready, timeout_s):
            return None
        future = client.call_async(request)
        if self._wait(future.done, timeout_s):
            return future.result()
        client.remove_pending_request(future)
        return None
