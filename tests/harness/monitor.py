"""What `lxc monitor` hears on a member while a block runs."""

import json
import subprocess
from collections.abc import Callable
from typing import Any

from tests.harness.daemons import Daemon, within


class Monitor:
    """`lxc monitor` of one type of events. `poke` makes one: the client does not say when it listens, so it is poked
    until it hears something."""

    def __init__(self, member: Daemon, kind: str, poke: Callable[[], object]) -> None:
        self._member = member
        self._kind = kind
        self._poke = poke
        self._path = member.directory.with_name(f"{member.name}.events")

    def __enter__(self) -> "Monitor":
        assert self._member.host is not None
        with self._path.open("wb") as out:
            self._process = subprocess.Popen(
                [*self._member.host.enter, "lxc", "monitor", "--type", self._kind, "--format", "json"],
                env=self._member.environment,
                stdout=out,
                stderr=subprocess.DEVNULL,
            )
        within(10, f"{self._member.name} is listened to", self._is_heard)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)

    def _is_heard(self) -> bool:
        self._poke()
        return bool(self.heard())

    def heard(self) -> list[dict[str, Any]]:
        """The metadata of the events so far, those of the pokes among them."""
        lines = self._path.read_text().splitlines()
        return [json.loads(line)["metadata"] for line in lines if line.endswith("}")]
