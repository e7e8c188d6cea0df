"""The unix socket between plugins and agent: delay, no listener, lost answers.

The bytes are real: requests and answers go through ``enim.wire`` both ways. As on a unix socket, nothing is lost on the
way to a listener; what can be lost is the answer, when the agent dies or the client gives up. A client that gives up is
not noticed by the agent: it goes on (contract C5).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from enim import effects as plugin_effects
from enim import errors as plugin_errors
from enim import wire
from simulator.errors import InvariantBroken
from simulator.virtual.driver import Driver, Pending, Process

NS_PER_MS = 1_000_000

Serve = Callable[[wire.Request], Process]  # starts the flow that answers


class Network:
    """The agent's socket.

    Args:
        path: where it is.
        delay_ns: one way.
    """

    def __init__(self, driver: Driver, path: str, delay_ns: int = 0) -> None:
        self.answers_to_lose = 0  # the next answers that are lost, though the request is served
        self.request_count = 0
        self._driver = driver
        self._path = path
        self._delay_ns = delay_ns
        self._serve: Serve | None = None
        self._open: list[Pending] = []  # requests that were accepted and not answered

    def listen(self, serve: Serve) -> None:
        """An agent accepts connections from now on."""
        self._serve = serve

    def close(self) -> None:
        """The agent is gone: whoever waits for an answer gets none."""
        self._serve = None
        waiting, self._open = self._open, []
        for pending in waiting:
            pending.fail(plugin_errors.Interrupted("the connection ended without an answer"))

    def request(self, effect: plugin_effects.Request, pending: Pending) -> None:
        """The handler of ``Request``."""
        self._driver.after(self._delay_ns, lambda: self._arrive(effect, pending))
        late = plugin_errors.Interrupted(f"no whole answer within {effect.timeout_ms} ms")
        self._driver.after(effect.timeout_ms * NS_PER_MS, lambda: pending.fail(late))

    def _arrive(self, effect: plugin_effects.Request, pending: Pending) -> None:
        if not pending.is_open:
            return
        if self._serve is None or effect.socket != self._path:
            reason = errno.ECONNREFUSED if effect.socket == self._path else errno.ENOENT
            pending.fail(plugin_errors.Unreachable(reason, os.strerror(reason)), self._delay_ns)
            return
        self.request_count += 1
        decoded = wire.decode_request(wire.encode_request(effect.request))
        if decoded is None:
            raise InvariantBroken(f"not a whole request: {effect.request!r}")
        process = self._serve(decoded[0])
        self._open.append(pending)
        process.on_end.append(lambda: self._answer(process, pending))

    def _answer(self, process: Process, pending: Pending) -> None:
        self._open = [one for one in self._open if one is not pending]
        reply = wire.decode_reply(wire.encode_reply(process.result()), closed=True)
        if self.answers_to_lose > 0:
            self.answers_to_lose -= 1
            pending.fail(plugin_errors.Interrupted("the connection was reset before the answer"), self._delay_ns)
        else:
            pending.succeed(reply, self._delay_ns)
