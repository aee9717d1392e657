# SPDX-License-Identifier: GPL-3.0-or-later
"""What a clip shows beside its people: cuts, how the camera moves, its lens, straight lines. Looked at beside the detector, in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from ..camera import assumed_focal
from .background import Background
from .cuts import Cuts
from .shifts import Shifts
from .straight_lines import straight_lines


class Surroundings:
    """Looks at a clip's pictures one after the other, while the detector is at the next."""

    def __init__(self, rate: float):
        """rate: frames a second."""
        self._background, self._shifts, self._cuts = Background(), Shifts(rate), Cuts()
        self._thread = ThreadPoolExecutor(1)
        self._looking: Future | None = None

    def add(self, index: int, image: np.ndarray, people: list[np.ndarray]) -> None:
        """The frame `index`, BGR. people: (K, 2) px each, the points at which somebody is."""
        self.wait()
        self._looking = self._thread.submit(self._look, index, image, people)

    def _look(self, index: int, image: np.ndarray, people: list[np.ndarray]) -> None:
        self._background.add(image, people)
        self._shifts.add(index, image, people)
        self._cuts.add(image)

    def wait(self) -> None:
        """Until the last picture is looked at; a fault of that is raised here."""
        if self._looking is not None:
            self._looking.result()

    def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown()

    def cuts(self) -> list[int]:
        """The frames with which another take begins."""
        return self._cuts.first()

    def camera(
        self, size: tuple[int, int], pictures: dict[int, tuple[np.ndarray, list[np.ndarray]]], take: range, should_stop: Callable[[], bool] | None,
        go_on: Callable[[], None],
    ) -> dict[str, Any]:  # fmt: skip
        """The camera's fields of `Keypoints`, for footage of size (w, h) px. pictures: by frame, with the points (K, 2) px at which somebody is, for the
        lines; take: the frames whose camera it is, since that of another take stands elsewhere and has a lens of its own. Raises LgdError cancelled, as `go_on` does."""
        self._shifts.only(take)
        turns = self._background.turns(*size)
        travels = False if self._background.still(*size) else self._shifts.travels(should_stop)
        lens = None
        if turns is not None:
            lens = self._shifts.lens(turns) if travels is False else None
            turns = self._background.turns_seen_by(lens or assumed_focal(*size), lens is None, *size, go_on)
        lines = [np.zeros((0, 5))]
        if travels is False or len(self._background.moves) == 1:  # of a camera that travels each picture's are others
            for index, (image, people) in ((k, pictures[k]) for k in pictures if k in take):
                ends = straight_lines(image, people)
                lines.append(np.column_stack((np.full(len(ends), index), ends)))
        found = np.concatenate(lines)
        return {"camera_turns": turns, "camera_travels": travels, "camera_focal": lens, "lines": found if len(found) else None}
