# SPDX-License-Identifier: GPL-3.0-or-later
"""One job as the user sees it: its state, how far it is, how long it takes, what came of it."""

import enum
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .._bridge import LgdError


class State(str, enum.Enum):
    """QUEUED -> STARTING (the worker starts) -> RUNNING -> DONE, FAILED or CANCELLED."""

    QUEUED = "QUEUED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def over(self) -> bool:
        """Whether nothing comes any more."""
        return self in (State.DONE, State.FAILED, State.CANCELLED)


@dataclass(eq=False)
class Job:
    """A request and its life. `folder` is private to it; all files of its result lie there."""

    kind: str
    request: dict
    folder: Path
    on_event: Callable[["Job", dict], None] | None = None
    clock: Callable[[], float] = time.monotonic
    state: State = State.QUEUED
    stage: str = ""
    done: int = 0
    total: int = 0
    result: dict | None = None
    error: LgdError | None = None
    warnings: list[str] = field(default_factory=list)
    id: int | None = None  # the request's, once the worker was asked
    _begun: float | None = None
    _over: float | None = None
    _stage_begun: float = 0.0

    @property
    def over(self) -> bool:
        """Whether the job is done, failed or cancelled."""
        return self.state.over

    @property
    def elapsed(self) -> float:
        """Seconds since the worker was asked, until the end."""
        if self._begun is None:
            return 0.0
        return (self.clock() if self._over is None else self._over) - self._begun

    @property
    def fraction(self) -> float | None:
        """How much of the stage is done, 0 to 1; None where that is not known."""
        return min(1.0, self.done / self.total) if self.total else None

    @property
    def remaining(self) -> float | None:
        """Seconds that the present stage still takes, by its mean speed so far; None while that is not known."""
        spent = self.clock() - self._stage_begun
        if self.state is not State.RUNNING or not 0 < self.done < self.total or spent < 0.5:
            return None
        return spent * (self.total - self.done) / self.done

    def asked(self, id: int) -> None:
        """The worker was asked, though it may not run yet."""
        self.id = id
        self.state = State.STARTING
        self._begun = self._stage_begun = self.clock()

    def runs(self) -> None:
        """The worker is ready."""
        if self.state is State.STARTING:
            self.state = State.RUNNING

    def apply(self, event: dict) -> bool:
        """Take an event in; False, and nothing changes, if the job is over."""
        if self.over:
            return False
        self.runs()
        kind = event["type"]
        if kind == "progress":
            if event["stage"] != self.stage:
                self.stage, self._stage_begun = event["stage"], self.clock()
            self.done, self.total = event["done"], event["total"]
        elif kind == "warning" and event["text"] not in self.warnings:
            self.warnings.append(event["text"])
        elif kind == "result":
            self.result = event["value"]
            self._end(State.DONE)
        elif kind == "error":
            self.fail(LgdError(event["code"], event["text"], event["hint"], event["action"]))
        elif kind == "cancelled":
            self._end(State.CANCELLED)
        return True

    def fail(self, error: LgdError) -> None:
        """End the job with an error, also one that had gone well so far."""
        self.error = error
        self._end(State.FAILED)

    def cancel(self) -> None:
        """End the job for the user, at once."""
        if not self.over:
            self._end(State.CANCELLED)

    def _end(self, state: State) -> None:
        self.state = state
        if self._over is None:
            self._over = self.clock()
