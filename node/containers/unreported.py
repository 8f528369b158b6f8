"""What happened to a container of this member and could not be committed, for want of a quorum: kept as a note.

Owns how later reports follow earlier ones; `host.py` writes the note and commits it when the quorum is back."""

from collections.abc import Mapping

import msgspec

from lxdnode.node.containers import rules
from lxdnode.node.documents import Draft

UNREPORTED = "unreported"
"""The kind of the notes; their names are the ids of containers."""


class Unreported(msgspec.Struct, frozen=True):
    """The newest state, all events that led to it, and what else changed (see `rules.transition`)."""

    state: str
    events: list[str] = []
    used_at: float | None = None
    changed: dict[str, str | None] = {}
    stateful: bool | None = None

    def followed_by(
        self, state: str, event: str, used_at: float | None, changed: Mapping[str, str | None], stateful: bool | None
    ) -> "Unreported":
        """This, and what came after it."""
        return Unreported(
            state,
            [*self.events, event] if event else self.events,
            self.used_at if used_at is None else used_at,
            {**self.changed, **changed},
            stateful,
        )

    def write(self, draft: Draft, id: str) -> None:
        """Into the documents. NotFound when the container is gone."""
        for event in self.events or [""]:
            rules.transition(draft, id, self.state, event, used_at=self.used_at, stateful=self.stateful, **self.changed)
