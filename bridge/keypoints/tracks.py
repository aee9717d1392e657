# SPDX-License-Identifier: GPL-3.0-or-later
"""The tracks of one take of footage: every person's 2D points in every frame, and their file (numpy only)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bridge.arrays import Unreadable, load_arrays, save_arrays
from bridge.camera import SKEW_HINT, is_skewed
from bridge.errors import LgdError
from bridge.keypoints.formats import Layout, get_layout

DEFAULT_FPS = 30.0
SEEN, FEW = 0.05, 4
"""A person counts as seen in a frame, and is fitted there, where so many points have more confidence than that."""

LARGEST = 1e6
"""px: no picture is larger, and no point that is seen lies farther away."""

STILL_SHIFT, STILL_ROLL, STILL_SIZE = 0.005, np.radians(0.5), 1.1
"""Of the longer side; rad; times: a camera that moves its picture by less stands on a tripod."""

TOGETHER = 1 / 3
"""s: frames farther apart than that, and than those of the footage mostly are, are no neighbours."""

_FILE_HINT = "Export the keypoints again; what the file must hold is in docs/files.md, beside the README."


def _bad(text: str, hint: str = _FILE_HINT) -> LgdError:
    return LgdError("bad_input", text, hint)


def stands_still(turns: np.ndarray, size: tuple[int, int]) -> bool:
    """Whether a camera on a tripod may have turned so (F, 4), as `Keypoints.camera_turns` has it, with pictures of size (w, h) px."""
    extent = np.ptp(turns, axis=0)
    still = max(extent[:2]) < STILL_SHIFT * max(size) and extent[2] < STILL_ROLL
    return bool(still and turns[:, 3].max() < STILL_SIZE * turns[:, 3].min())


def rate_beside_pauses(times: np.ndarray) -> float:
    """Frames a second where frames follow each other: of footage that a motion started, or a phone held, without what lies between its parts."""
    gaps = np.diff(np.asarray(times, float))
    if not len(gaps):
        return DEFAULT_FPS
    return float(1 / gaps[gaps <= max(TOGETHER, 1.5 * np.median(gaps))].mean())


def shows_somebody(confidence: np.ndarray) -> np.ndarray:
    """(..., F) bool: whether frames, by the confidence of one person's points (..., F, K), show them."""
    return (confidence > SEEN).sum(-1) >= FEW


@dataclass
class Keypoints:
    """Whole tracks of P people over F frames of K points each.

    keypoints (P, F, K, 2) px, float32 ((F, K, 2) is taken as one person); confidence (P, F, K) in [0, 1], 0 = not
    seen; image_size (w, h) px; fps or frame_times (F,) s, strictly rising; cam_K (3, 3) or (F, 3, 3) px;
    person_ids (P,) int; person_boxes (P, F, 4) x, y, w, h px; camera_turns (F, 4): what is seen in the middle of each picture lay so many px
    further right and further down in the first, and the picture is turned by so many rad clockwise and made so many times as large to lie
    on it (of a turn: its rad times `camera_focal`, or the picture's diagonal); None: the camera stands still, or it is not known; camera_travels: whether the camera is seen to travel, None: not known;
    camera_focal: px, the focal length of a camera that turns, as its background tells, None: not known; lines (N, 5): straight lines of the
    background, each a frame and its two ends, x, y, x, y px.
    Coordinates of unseen points are made 0 where they are none. Anything else that does not fit raises LgdError (bad_input) with a sentence.
    """

    keypoints: np.ndarray
    confidence: np.ndarray
    layout: str
    image_size: tuple[int, int]
    fps: float | None = None
    frame_times: np.ndarray | None = None
    cam_K: np.ndarray | None = None
    person_ids: np.ndarray | None = None
    person_boxes: np.ndarray | None = None
    camera_turns: np.ndarray | None = None
    camera_travels: bool | None = None
    camera_focal: float | None = None
    lines: np.ndarray | None = None
    notes: list[str] = field(default_factory=list, compare=False)

    def __post_init__(self):
        self.keypoints = _numbers(self.keypoints, "keypoints")
        self.confidence = _numbers(self.confidence, "confidence")
        if self.keypoints.ndim == 3 and self.confidence.ndim == 2:
            self.keypoints = self.keypoints[None]
            self.confidence = self.confidence[None]
            if self.person_boxes is not None and np.ndim(self.person_boxes) == 2:
                self.person_boxes = np.asarray(self.person_boxes)[None]
        self._check_points()
        self._check_time()
        self._check_rest()

    def _check_points(self):
        k, c = self.keypoints, self.confidence
        if k.ndim != 4 or k.shape[-1] != 2 or c.shape != k.shape[:-1]:
            raise _bad(
                f"The keypoints have the shape {k.shape} and the confidence {c.shape}: "
                "(people, frames, points, 2) and (people, frames, points) are needed."
            )
        count = get_layout(self.layout).count
        if k.shape[2] != count:
            raise _bad(f"The layout '{self.layout}' has {count} points, but {k.shape[2]} were given.")
        if k.shape[0] < 1 or k.shape[1] < 1:
            raise _bad("The keypoints hold no frames or no people.")
        unseen = ~np.isfinite(c) | (c <= 0) | (k == 0).all(-1)  # tools put there what they do not see, and may leave its confidence
        valid = np.abs(k) <= LARGEST
        if (~valid.all(-1) & ~unseen).any():
            raise _bad("Some keypoints that are marked as seen have no valid coordinates in pixels.")
        self.keypoints = np.where(valid, k, np.float32(0))
        if c[~unseen].size and float(c[~unseen].max()) > 1.001:
            raise _bad(
                f"The confidence must lie between 0 and 1; the largest value is {c[~unseen].max():.3g}."
            )
        self.confidence = np.clip(np.where(unseen, np.float32(0), c), 0.0, 1.0)
        size = np.asarray(self.image_size).reshape(-1)
        if size.shape != (2,) or not ((size >= 1) & (size <= LARGEST)).all():
            raise _bad("The image size must be two positive numbers, width and height in pixels.")
        self.image_size = (int(size[0]), int(size[1]))

    def _check_time(self):
        if self.fps is not None:
            self.fps = float(self.fps)
            if not np.isfinite(self.fps) or self.fps <= 0:
                raise _bad("The frame rate must be a positive number.")
        if self.frame_times is not None:
            times = np.asarray(self.frame_times, dtype=np.float64)
            if times.shape != (self.frames,):
                raise _bad(f"There are {self.frames} frames but {times.size} frame times.")
            if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
                raise _bad("The frame times must be finite and strictly rising.")
            self.frame_times = times

    def _check_rest(self):
        if self.cam_K is not None:
            k = np.asarray(self.cam_K, dtype=np.float64)
            if (
                k.shape not in ((3, 3), (self.frames, 3, 3))
                or not np.isfinite(k).all()
                or (np.diagonal(k, axis1=-2, axis2=-1) <= 0).any()
                or np.abs(k[..., 2, :] - np.array([0, 0, 1])).max() > 1e-6
            ):
                raise _bad("cam_K must be a 3 x 3 camera matrix in pixels, or one for each frame.")
            if is_skewed(k):
                raise _bad("cam_K has skew, which is not modelled.", SKEW_HINT)
            self.cam_K = k
        if self.person_ids is None:
            self.person_ids = np.arange(self.people)
        self.person_ids = np.asarray(self.person_ids).reshape(-1).astype(np.int64)
        if self.person_ids.shape != (self.people,):
            raise _bad(f"There are {self.people} people but {self.person_ids.size} person ids.")
        if self.person_boxes is not None:
            boxes = _numbers(self.person_boxes, "person_boxes")
            if boxes.shape != (self.people, self.frames, 4):
                raise _bad("The person boxes must have the shape (people, frames, 4).")
            self.person_boxes = boxes
        if self.camera_turns is not None:
            turns = np.asarray(self.camera_turns, dtype=np.float64)
            if turns.shape != (self.frames, 4) or not np.isfinite(turns).all() or (turns[:, 3] <= 0).any():
                raise _bad("The camera's turns must be four finite numbers for each frame, the last above 0.")
            self.camera_turns = turns
        if self.camera_focal is not None and not 0 < self.camera_focal < np.inf:
            raise _bad("The camera's focal length must be above 0 px.")
        if self.lines is not None:
            lines = np.asarray(self.lines, dtype=np.float64)
            if lines.ndim != 2 or lines.shape[1] != 5 or not np.isfinite(lines).all() or not ((lines[:, 0] >= 0) & (lines[:, 0] < self.frames)).all():
                raise _bad("The background's lines must be five finite numbers each, the first a frame.")
            self.lines = lines

    @property
    def people(self) -> int:
        """Number of tracks P."""
        return self.keypoints.shape[0]

    @property
    def frames(self) -> int:
        """Number of frames F."""
        return self.keypoints.shape[1]

    @property
    def spec(self) -> Layout:
        """The layout's description."""
        return get_layout(self.layout)

    @property
    def rate_known(self) -> bool:
        """Whether the times come from the source and not from the default of 30 frames a second."""
        return self.frame_times is not None or self.fps is not None

    def times(self) -> np.ndarray:
        """(F,) seconds: the frame times, or by fps, or by 30 frames a second."""
        if self.frame_times is not None:
            return self.frame_times
        return np.arange(self.frames) / (self.fps or DEFAULT_FPS)

    def rate(self) -> float:
        """Frames a second: the mean over the frame times, or fps, or 30."""
        if self.frame_times is not None and self.frames > 1:
            return float((self.frames - 1) / (self.frame_times[-1] - self.frame_times[0]))
        return float(self.fps or DEFAULT_FPS)

    def seen(self) -> np.ndarray:
        """(P, F) bool: the frames in which each person is seen."""
        return shows_somebody(self.confidence)

    def boxes(self) -> np.ndarray:
        """(P, F, 4) x, y, w, h px round each person's seen points; NaN where the person is not seen."""
        hidden = ~(self.confidence >= 0.2)
        hidden |= ~self.seen()[..., None]
        low = np.where(hidden[..., None], np.inf, self.keypoints).min(2)
        high = np.where(hidden[..., None], -np.inf, self.keypoints).max(2)
        with np.errstate(invalid="ignore"):
            box = np.concatenate([low, high - low], -1)
        box[~np.isfinite(box).all(-1)] = np.nan
        return box.astype(np.float32)

    def prominence(self) -> np.ndarray:
        """(P,) int: the people's rows from the most prominent on (visible longest, weighted by size)."""
        box = self.boxes()
        size = np.nan_to_num(np.hypot(box[..., 2], box[..., 3]))
        return np.argsort(-(size * self.confidence.mean(-1)).sum(1), kind="stable")

    def person(self, n: int) -> Keypoints:
        """The n-th most prominent person alone; raises LgdError (bad_input) where there are fewer people."""
        if not 0 <= n < self.people:
            have = "one person" if self.people == 1 else f"{self.people} people (0 to {self.people - 1})"
            raise _bad(f"Person {n} does not exist: there is {have}.", "Choose another person.")
        return self.row(int(self.prominence()[n]))

    def row(self, row: int) -> Keypoints:
        """One track alone, by its place among the tracks."""
        assert self.person_ids is not None
        pick = slice(row, row + 1)
        boxes = None if self.person_boxes is None else self.person_boxes[pick]
        return replace(
            self,
            keypoints=self.keypoints[pick],
            confidence=self.confidence[pick],
            person_ids=self.person_ids[pick],
            person_boxes=boxes,
        )

    def describe(self) -> list[dict]:
        """One dict a person, most prominent first: person, id, first and last seen frame (or None), seen, confidence."""
        assert self.person_ids is not None
        seen = self.seen()
        out = []
        for n, row in enumerate(self.prominence()):
            where = np.flatnonzero(seen[row])
            out.append(
                {
                    "person": n,
                    "id": int(self.person_ids[row]),
                    "first": int(where[0]) if where.size else None,
                    "last": int(where[-1]) if where.size else None,
                    "seen": int(where.size),
                    "confidence": round(float(self.confidence[row, where].mean()), 4) if where.size else 0.0,
                }
            )
        return out

    def cut(self, a: int | None, b: int | None) -> Keypoints:
        """Frames a to b (half-open, None = the end); their times stay those of the whole footage."""
        a, b = a or 0, self.frames if b is None else b
        if not 0 <= a < b <= self.frames:
            raise _bad(
                f"The frame range {a}:{b} does not lie within the {self.frames} frames.",
                f"Choose one that lies in 0:{self.frames}.",
            )
        times = self.frame_times
        if times is None and a > 0:
            times = self.times()
        k = self.cam_K
        turns = None if self.camera_turns is None else self.camera_turns[a:b]
        lines = self.lines
        if lines is not None and turns is None:  # what does not turn sees them in any frame
            lines = np.column_stack((np.clip(lines[:, 0], a, b - 1) - a, lines[:, 1:]))
        elif lines is not None:
            lines = lines[(lines[:, 0] >= a) & (lines[:, 0] < b)] - (a, 0, 0, 0, 0)
        return replace(
            self,
            keypoints=self.keypoints[:, a:b],
            confidence=self.confidence[:, a:b],
            frame_times=None if times is None else times[a:b],
            cam_K=k if k is None or k.ndim == 2 else k[a:b],
            person_boxes=None if self.person_boxes is None else self.person_boxes[:, a:b],
            camera_turns=None if turns is None or stands_still(turns, self.image_size) else turns,  # it may in this part, and in one picture
            lines=lines,
        )

    def save(self, path: str | Path) -> Path:
        """Writes keypoints.npz (written beside, then renamed); raises LgdError (disk) where it cannot."""
        path = Path(path)
        data = {
            "keypoints": self.keypoints.astype(np.float32),
            "confidence": self.confidence.astype(np.float32),
            "layout": np.array(self.layout),
            "image_size": np.array(self.image_size, dtype=np.int64),
            "person_ids": self.person_ids,
        }
        for name in ("fps", "frame_times", "cam_K", "person_boxes", "camera_turns", "camera_travels", "camera_focal", "lines"):
            value = getattr(self, name)
            if value is not None:
                data[name] = np.asarray(value)
        save_arrays(path, data, compressed=True)
        return path

    @classmethod
    def load(cls, path: str | Path, image_size: tuple[int, int] | None = None) -> Keypoints:
        """Reads keypoints.npz; raises LgdError (bad_input) for a missing, damaged or unfitting file. image_size: (w, h) px where it holds none."""
        path = Path(path)
        if not path.is_file():
            raise _bad(f"The keypoint file {path} does not exist.", "Check the path.")
        try:
            data = load_arrays(path)
        except Unreadable:
            raise _bad(f"The file {path.name} cannot be read as an .npz of plain arrays.") from None
        if image_size is not None:
            data.setdefault("image_size", np.array(image_size))
        for name in ("keypoints", "confidence", "layout", "image_size"):
            if name not in data:
                raise _bad(f"The file {path.name} has no '{name}'.")
        optional = {n: data[n] for n in ("frame_times", "cam_K", "person_ids", "person_boxes", "camera_turns", "lines") if n in data}
        try:
            fps = float(data["fps"]) if "fps" in data else None
            found = cls(
                data["keypoints"],
                data["confidence"],
                str(data["layout"]),
                data["image_size"],
                fps,
                camera_travels=bool(data["camera_travels"]) if "camera_travels" in data else None,
                camera_focal=float(data["camera_focal"]) if "camera_focal" in data else None,
                **optional,
            )
            coordinates = np.abs(found.keypoints[found.confidence > 0])
            if coordinates.size and coordinates.max() <= 2 and min(found.image_size) > 20:
                raise _bad("no coordinate is above 2, so they are no pixels.", "Multiply x by the picture's width in pixels and y by its height.")
            if str(data.get("focal_source")) in ("estimated", "assumed"):  # a motion's keypoints
                found.notes.append("The focal length in the file was estimated, and is taken for true: tell another where it is known.")
            return found
        except LgdError as error:
            raise _bad(f"{path.name}: {error.text}", error.hint) from None
        except (TypeError, ValueError):
            raise _bad(f"The file {path.name} holds arrays of an unexpected kind.") from None


def _numbers(value, name: str) -> np.ndarray:
    try:
        return np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError):
        raise _bad(f"'{name}' does not hold numbers in a regular array.") from None
