# SPDX-License-Identifier: GPL-3.0-or-later
"""The default detector: BlazePose by mediapipe, which follows one person, looking at each picture twice."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from bridge import models, places
from bridge.errors import LgdError
from bridge.keypoints.borders import Borders, around, clip_box, masked, within
from bridge.keypoints.formats import get_layout

# The person finder works at 224 px and would miss a small person, so the graph is shown a cut round the box, with so
# much more on each side (part of the longer one), everything outside the box black. When the box's frames end, a
# window goes along with the person, so much larger than they are; while that lies in the cut, the graph follows on
# unbroken. Lost, the window grows every so many frames.
_CUT = 0.75
WINDOW = 0.25
_GROW_AFTER = 10
# Of the person's size (the diagonal round the points). A point on which two looks differ by AGREE is believed by half; looks that
# differ by PARTED in the median are at two people, or one of them is lost.
AGREE, PARTED = 0.025, 0.15
# Points that are mostly where it has them, though the picture's edge cuts them off; of legs out of the picture it knows less than the fit.
BEYOND = np.array([not name.endswith(("knee", "ankle", "heel", "toe")) for name in get_layout("blazepose33").names])
_SMALL, _LARGE = 1, 2  # mediapipe's "model complexity" of its networks full and heavy
_IMPORT_FAULTS = (ImportError, OSError, RuntimeError, AttributeError, TypeError, ValueError)

Look = tuple[np.ndarray, np.ndarray]
"""Points (33, 2) px and confidence (33) of the one person that a graph sees."""


class BlazePose:
    """BlazePose as a video, its own smoothing off; one person. By its large network (heavy) where that is there (`bridge/models.py`),
    else by the one in mediapipe's wheel (full).

    Every picture is shown to a second graph, mirrored. The detector is not symmetric: where it is unsure of a point, and in
    its own confidence it hardly ever is, the two say different things. fast: by the smaller network, and once.
    """

    layout = "blazepose33"

    def __init__(self, fast: bool = False):
        self.notes: list[str] = []
        self.turn()
        large = not fast and models.there(models.mediapipe())
        self._graphs = [_Graph(_LARGE if large else _SMALL) for _ in range(1 if fast else 2)]
        self._beside = None if fast else ThreadPoolExecutor(1)

    def turn(self) -> None:
        """Forget where the person was: the frames go on elsewhere."""
        self._cut: Borders = (0, 0, 0, 0)  # what part of the picture the graphs are shown
        self._box: Borders | None = None  # the last box that held
        self._window: Borders | None = None  # what goes along with a boxed person
        self._lost = 0  # frames since the boxed person was seen
        self._last: np.ndarray | None = None  # the points that were seen last, px of the picture
        self._strayed: int | None = None  # the graph that went to somebody else in the last frame

    def find(self, image: np.ndarray, boxes) -> tuple[np.ndarray, np.ndarray]:
        """Points (D, 33, 2) px and confidence (D, 33) with D 0 or 1."""
        height, width = image.shape[:2]
        borders = clip_box(boxes[-1], width, height) if boxes else self._window
        if boxes and borders is None:
            return nobody(33)
        left, top, seen, anew = 0, 0, image, False
        if borders is not None:
            boxed = borders if boxes else None
            # The graphs remember places in their cut: another cut, or another box, and they have to look anew.
            anew = not within(borders, self._cut) or (boxed is not None and boxed != self._box)
            if anew:
                self._cut = around(borders, _CUT, width, height)
            self._box = boxed or self._box
            left, top, right, bottom = self._cut
            seen = masked(image, [borders])[top:bottom, left:right]
        look = self._look(seen, np.array((left, top)), anew)
        if look is None:
            self._miss(width, height)
            return nobody(33)
        points, conf = look
        self._last = points
        if borders is not None:
            inside = (points >= borders[:2]) & (points <= borders[2:])
            conf = np.where(inside.all(-1), conf, 0.0)
            self._follow(points, conf, width, height)
        return points[None], conf[None]

    def _look(self, seen: np.ndarray, corner: np.ndarray, anew: bool) -> Look | None:
        """What the graphs together make of a picture whose upper left pixel is the footage's `corner`, in pixels of the footage."""
        pictures, anews = [seen] * len(self._graphs), [anew] * len(self._graphs)
        if self._strayed is not None and self._last is not None:  # shown nobody else, it comes back
            height, width = seen.shape[:2]
            where = np.concatenate((self._last.min(0) - corner, self._last.max(0) - corner))
            pictures[self._strayed] = masked(seen, [around(where, WINDOW, width, height)])
            anews[self._strayed] = True
        self._strayed = None
        if self._beside is None:
            looks = [self._graphs[0].see(pictures[0], anews[0])]
        elif all(graph.started for graph in self._graphs) and not any(anews):
            other = self._beside.submit(_mirrored, self._graphs[1], pictures[1], anews[1])
            looks = [self._graphs[0].see(pictures[0], anews[0]), other.result()]
        else:  # one after the other: what they say while they start is kept off the whole process's stderr
            looks = [self._graphs[0].see(pictures[0], anews[0]), _mirrored(self._graphs[1], pictures[1], anews[1])]
        looks = [look and (look[0] + corner, look[1]) for look in looks]
        if len(looks) < 2 or looks[0] is None or looks[1] is None:
            return next((look for look in looks if look is not None), None)
        one, other = looks[0], _alike(looks[1], looks[0])
        gap = _apart(one, other)
        if np.median(gap) < PARTED:
            return (one[0] + other[0]) / 2, (one[1] + other[1]) / 2 / (1 + (gap / AGREE) ** 2)
        if self._last is None:
            kept = int(other[1].mean() > one[1].mean())
        else:
            kept = int(np.argmin([np.linalg.norm(points - self._last, axis=-1).mean() for points, _ in (one, other)]))
        self._strayed = 1 - kept
        return (one, other)[kept]

    def _follow(self, points: np.ndarray, conf: np.ndarray, width: int, height: int) -> None:
        """Lay the window for the next frame round this one's points (33, 2) px, where enough are seen: round all of them, since a
        limb that is lost for a moment would be outside for good."""
        if (conf > 0.3).sum() < 6:
            self._miss(width, height)
            return
        self._lost = 0
        self._window = around((*points.min(0), *points.max(0)), WINDOW, width, height)

    def _miss(self, width: int, height: int) -> None:
        if self._box is None:
            return
        self._window = self._window or self._box
        self._lost += 1
        if self._lost % _GROW_AFTER == 0:
            self._window = around(self._window, WINDOW, width, height)

    def close(self) -> None:
        """Frees the graphs."""
        if self._beside is not None:
            self._beside.shutdown()
        for graph in self._graphs:
            graph.close()


def nobody(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and confidence of a frame in which nobody is seen, for a layout of so many points."""
    return np.zeros((0, count, 2)), np.zeros((0, count))


_MIRROR = np.array(get_layout(BlazePose.layout).mirror)


def _mirrored(graph: _Graph, image: np.ndarray, anew: bool) -> Look | None:
    """What a graph sees of a picture's mirror image, told of the picture."""
    look = graph.see(image[:, ::-1], anew)
    if look is None:
        return None
    points, conf = look[0][_MIRROR], look[1][_MIRROR]
    return np.stack((image.shape[1] - 1 - points[:, 0], points[:, 1]), -1), conf


def _apart(one: Look, other: Look) -> np.ndarray:
    """(33) how far the points of two looks lie apart, in parts of the person's size."""
    size = max(float(np.linalg.norm(np.ptp(points, 0))) for points, _ in (one, other))
    return np.linalg.norm(one[0] - other[0], axis=-1) / max(size, 1.0)


def _alike(look: Look, to: Look) -> Look:
    """A look, with left and right exchanged where it so lies nearer to another one."""
    exchanged = look[0][_MIRROR], look[1][_MIRROR]
    return exchanged if _apart(exchanged, to).mean() < _apart(look, to).mean() else look


class _Graph:
    """One mediapipe graph, with one of its networks."""

    def __init__(self, network: int):
        self._pose, self._network = None, network
        self.started = False  # it has found somebody, and makes no more remarks
        try:
            with quiet():
                from mediapipe.python import solution_base
                from mediapipe.python.solutions import pose

            _show_files(solution_base)
        except _IMPORT_FAULTS as error:
            raise _no_mediapipe(error) from None
        self._make = pose.Pose

    def see(self, image: np.ndarray, anew: bool) -> Look | None:
        """The person in a picture (BGR), in its pixels; anew: forget where they were."""
        result: Any = self._process(np.ascontiguousarray(image[..., ::-1]), anew)
        if result.pose_landmarks is None:
            return None
        raw = np.array([(p.x, p.y, p.visibility) for p in result.pose_landmarks.landmark], dtype=np.float64)
        # mediapipe counts from the picture's edge, we from the centre of its first pixel.
        return raw[:, :2] * (image.shape[1], image.shape[0]) - 0.5, raw[:, 2]

    def _process(self, rgb: np.ndarray, anew: bool):
        if self._pose is not None and not anew and self.started:
            return self._pose.process(rgb)
        # A graph says its remarks from its own threads while it starts: until it has found somebody for the first time.
        with quiet():
            try:
                if self._pose is None:
                    self._pose = self._make(
                        static_image_mode=False,
                        model_complexity=self._network,
                        smooth_landmarks=False,
                        enable_segmentation=False,
                    )
                elif anew:
                    self._pose.reset()
            except _IMPORT_FAULTS as error:
                raise _no_mediapipe(error) from None
            result = self._pose.process(rgb)
        self.started |= result.pose_landmarks is not None
        return result

    def close(self) -> None:
        if self._pose is not None:
            with contextlib.suppress(RuntimeError, ValueError), quiet():
                self._pose.close()


def _show_files(solution_base: Any) -> None:
    """Have mediapipe open its graphs and networks, which it looks for from its module's own place on, where it can: on Windows not in a folder with
    letters beyond ASCII, such as a user's name may bring. Raises OSError."""
    own = solution_base.__file__
    if sys.platform != "win32" or own.isascii():
        return
    package = Path(own).parents[1]
    plain = places.passing_folder("lgd-models-")
    for part in ("pose_detection", "pose_landmark"):
        shutil.copytree(package / "modules" / part, plain / "mediapipe" / "modules" / part)
    solution_base.__file__ = str(plain / "mediapipe" / "python" / "solution_base.py")


def _no_mediapipe(error: Exception) -> LgdError:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if isinstance(error, ModuleNotFoundError) and sys.version_info >= (3, 13):
        text = f"The default detector (mediapipe 0.10.21) does not exist for Python {version}."
        hint = "Set up with Python 3.11 or 3.12, or name an ONNX pose model."
    elif isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == "mediapipe":
        other = models.mediapipe() is not None
        text = f"The default detector (mediapipe 0.10.21) is not installed{', but another release' if other else ''}."
        hint = f"Run the set-up (in a Python of your own: pip install {models.MEDIAPIPE}), or name an ONNX pose model."
    else:
        text = f"The default detector (mediapipe 0.10.21) does not start: {str(error).splitlines()[0] if str(error) else type(error).__name__}."
        hint = "Repair the set-up, or name an ONNX pose model."
    return LgdError("setup_incomplete", text, hint)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps native libraries' start-up remarks off stderr for the moment."""
    os.environ.setdefault("GLOG_minloglevel", "3")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        sys.stderr.flush()
        saved = os.dup(2)
    except (OSError, ValueError, AttributeError):
        yield
        return
    try:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 2)
        os.close(sink)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
