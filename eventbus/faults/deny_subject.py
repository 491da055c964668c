"""DenySubject: the server lets nobody publish there."""

from __future__ import annotations

import json
from collections.abc import Sequence

from eventbus.faults.fault import Fault, FaultError, Reconfigurable

_USER = "anyone"


def open_config(denied: Sequence[str] = ()) -> str:
    """nats-server configuration that lets everybody in, and publish everywhere but to these subjects.

    A server must have been made with ``open_config()``, which denies nothing, for DenySubject to work: who counts as
    the user without a login cannot change while a server runs ("config reload not supported for NoAuthUser", 2.15).
    """
    permissions = f", permissions: {{publish: {{deny: {json.dumps(list(denied))}}}}}" if denied else ""
    return f"authorization {{users: [{{user: {_USER}{permissions}}}]}}\nno_auth_user: {_USER}\n"


class DenySubject(Fault):
    """Takes away the right to publish to ``topics``, by a configuration that the running server reads again.

    The server logs every refusal: its log grows by some 150 bytes a message while the fault lasts.
    """

    name = "deny_subject"
    title = "Deny the subject"
    breaks = "Nobody may publish to the topic any more; the server reads a configuration that says so."
    expect = (
        "The server answers only 'permissions violation', no ack: messages are rejected (permission), those under way "
        "when it began become unknown, and an event tells of it."
    )

    def __init__(self, server: Reconfigurable, topics: Sequence[str]) -> None:
        self._server, self._topics = server, tuple(topics)
        self._applied = False

    def apply(self) -> None:
        """Take the right away."""
        if self._server.extra_config != open_config():
            raise FaultError("this server was not started with open_config(), without which no right can be taken away")
        self._applied = True
        self._server.reload(open_config(self._topics))

    def undo(self) -> None:
        """Give it back."""
        if self._applied:
            self._server.reload()
            self._applied = False
