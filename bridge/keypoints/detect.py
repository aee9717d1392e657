# SPDX-License-Identifier: GPL-3.0-or-later
"""2D pose detection in footage: BlazePose by default, or an ONNX model by its file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bridge.errors import LgdError
from bridge.keypoints.blazepose import BEYOND, WINDOW, BlazePose, nobody
from bridge.keypoints.borders import around, clip_box, confidence_inside
from bridge.keypoints.formats import get_layout
from bridge.keypoints.track import TrackOptions, make_tracks
from bridge.keypoints.tracks import Keypoints
from bridge.keypoints.video import Footage, open_footage

# Without a box BlazePose may need some frames to find the person whole. So many at the beginning are looked at again from behind
# where they do not hang together: where a frame shows nobody, or the points jump by so large a part of the person.
_BEGIN = 12
_JUMP = 0.1
_PARTED = 0.03  # of the person: two looks at one frame that say different things
_HANGS = 0.8  # as sure as what was found first, at least, must be what hangs together with the frames that follow
# Detectors learned from pictures that are lit: of a dark one the brightest hundredth is raised to this value, at most so many times.
_LIT, _MOST = 200.0, 16.0
# One detector that follows one person may jump to another: such a jump starts a new track. Its points are all there in every frame,
# believed or not: a box round the believed ones alone would jump where its two looks do not agree.
# Who is looked for where others were painted over is there if they are believed so much in the mean, by one look and by two: of what was left of
# others, of balls and baskets 0.34 to 0.58 is believed by two looks and 0.49 to 0.83 by one, of people 0.69 to 0.84 and 0.90 to 0.97.
_THERE = (0.85, 0.6)
_ASKED, _LARGE = 3, 0.4  # pictures in which somebody else is looked for, to tell of them; of the first one's size: smaller people are passers-by
_ONE_PERSON = TrackOptions(gate=0.6, size=2.5, age=1.0, join=3.0, least=0.02)


def detect(
    path: str | Path,
    *,
    frames: tuple[int, int] | None = None,
    fps: float | None = None,
    counted: float | None = None,
    boxes: Sequence[Sequence[float | None]] = (),
    detector: str | Path | Sequence[str | Path] | None = None,
    fast: bool = False,
    people: int = 1,
    device: str = "auto",
    on_start: Callable[[Footage], None] | None = None,
    on_frame: Callable[[int, int, int, np.ndarray, np.ndarray], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Keypoints:
    """Keypoints of the people in a video, a folder of images or an image, as whole tracks.

    frames: half-open range of the footage; counted: the rate at which this range and the boxes' count a video's
    frames (`counting.py`), None: its pictures; boxes: (x, y, w, h, a, b) px, of frames a to b of the footage (half-open,
    None = open end): everything outside is hidden from the detector; where several hold, BlazePose looks into the
    last, and from its end on, and from the first box's first frame backwards, follows the person it showed. Boxes of
    which none holds in a frame that is read, or none shows anybody, are refused. detector: None = BlazePose, else an ONNX
    pose model, a folder of ONNX models, or (pose model, person detector). fast: BlazePose's smaller network, and one look alone.
    people: so many are looked for by BlazePose, one after the other, each in pictures without those who were found before (an ONNX model shows
    everybody at once, a box one person: both refuse more than one). on_frame(index, done, total, points (D, K, 2), confidence (D, K)) has the frame's detections, before
    tracking, in the order in which frames are looked at; index counts like the range, from its begin. Raises LgdError: bad_input, no_person, setup_incomplete, cancelled.
    """
    footage = open_footage(path, frames, fps, counted)
    from bridge.keypoints.surroundings import Surroundings  # OpenCV is there

    if people > 1 and (detector is not None or boxes):
        what = "An ONNX detector shows everybody at once" if detector is not None else "A box shows one person"
        raise LgdError("bad_input", f"{what}, and {people} people were asked for.", "Ask for one, or leave it out.")
    finder = BlazePose(fast) if detector is None else _onnx(detector, device)
    footage.notes.extend(finder.notes)
    areas = [_box(b) for b in boxes]
    for box, *_ in areas:
        if clip_box(box, footage.width, footage.height) is None:
            raise LgdError(
                "bad_input",
                f"The box {tuple(round(v) for v in box)} shows nothing of the picture, which is {footage.width} x {footage.height} px.",
                "Draw it round the person; a box is x, y, width, height in pixels from the upper left.",
            )
    if on_start:
        on_start(footage)
    begin = (frames[0] or 0) if frames else 0
    waits = isinstance(finder, BlazePose) and bool(areas)  # for the first box
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    shown: set[int] = set()  # boxes that show somebody

    def tell(index: int, done: int, points: np.ndarray, conf: np.ndarray) -> None:
        if on_frame:
            on_frame(footage.number(index) - begin, done, people * max(footage.count, len(found)), points, conf)

    def look(index: int, image: np.ndarray, here: list[int]) -> None:
        points, conf = finder.find(_lit(image), [areas[k][0] for k in here])
        conf = _inside(points, conf, footage, finder)
        shown.update(k for k in here if _shows(areas[k][0], points, conf))
        known = index in found  # the frame from which the way back begins
        found[index] = points.astype(np.float32), conf.astype(np.float32)
        if not known:
            tell(index, len(found), points, conf)

    def boxed(index: int) -> list[int]:
        # A box on counts that show an earlier picture still holds for the next one.
        at, before = footage.number(index), footage.number(index - 1) if index else begin - 1
        return [k for k, (_, a, b) in enumerate(areas) if a <= at < b or before < a < b <= at]

    def go_on() -> None:
        if should_stop and should_stop():
            raise LgdError("cancelled", "The detection was cancelled.")

    alone = detector is None and people == 1 and not areas
    asked = {footage.count * k // (_ASKED + 1) for k in range(1, _ASKED + 1)}
    pictures: dict[int, np.ndarray] = {}  # of those that there are: a header, or a range of counts, may have more frames
    skipped, held = 0, not areas
    surroundings = Surroundings(footage.nominal())

    try:
        for index, image in footage:
            go_on()
            here = boxed(index)
            held = held or bool(here)
            waits = waits and not here
            if waits:
                skipped = index + 1
            else:
                look(index, image, here)
            if index in asked:
                pictures[index] = image
            surroundings.add(index, image, _points(*found.get(index, ((), ()))))
        surroundings.wait()
        if not held:
            last = footage.number(len(footage.frame_times) - 1)
            raise LgdError(
                "bad_input", f"No box holds in a frame that is read, {begin} to {last}.", "Draw it on one of those frames."
            )
        if areas and not shown:
            raise LgdError(
                "no_person", "Nobody was seen in the box.", "Draw it round the whole person, or on frames that show more of them."
            )
        if skipped and isinstance(finder, BlazePose):
            finder.turn()
            for index, image in footage.backwards(min(skipped + 1, footage.count)):
                go_on()
                look(index, image, boxed(index))
        elif isinstance(finder, BlazePose) and not areas and _starts_badly(found):
            go_on()
            _begin_again(footage, finder, found, _lit_up)
        if isinstance(finder, BlazePose) and alone and _somebody_else(finder, pictures, found, _THERE[not fast]):
            footage.notes.append(ANOTHER)
    finally:
        surroundings.close()
        finder.close()
    takes, everybody = surroundings.cuts(), [found]
    for _ in range(people - 1):
        another = _another(footage, fast, everybody, tell, go_on)
        everybody.append(_believed(another, footage.frame_times, finder.layout, takes, _THERE[not fast]))
    for note in finder.notes:
        if note not in footage.notes:
            footage.notes.append(note)
    times = footage.frame_times
    options = _ONE_PERSON if detector is None else None
    none = nobody(len(get_layout(finder.layout).names))
    whole = [_together([one.get(index, none) for one in everybody]) for index in range(len(times))]
    footage.cuts = [footage.number(index) for index in takes]
    keypoints, confidence, ids = make_tracks(whole, times, finder.layout, options, takes)
    if not len(keypoints):
        raise LgdError(
            "no_person",
            f"No person was found in {footage.path.name}.",
            "Draw a box round the person, choose other frames, or use another detector.",
        )
    size = footage.width, footage.height
    shown_with = {index: (image, _points(*whole[index])) for index, image in pictures.items()}
    tracks = Keypoints(keypoints, confidence, finder.layout, size, fps=footage.fps, frame_times=times, person_ids=ids)
    return replace(tracks, **surroundings.camera(size, shown_with, _take(tracks, takes), should_stop, go_on))


def _take(tracks: Keypoints, cuts: Sequence[int]) -> range:
    """The frames of the take with the most prominent person, whose camera is the footage's."""
    first = int((tracks.confidence[tracks.prominence()[0]] > 0).any(-1).argmax())
    at = int(np.searchsorted(cuts, first, side="right"))
    return range(*[0, *cuts, tracks.frames][at : at + 2])


ANOTHER = "Somebody else is seen as well: look for 2 people, or draw a box round the one to solve."
Found = dict[int, tuple[np.ndarray, np.ndarray]]  # a frame's points (D, K, 2) px and confidence (D, K)


def _lit(image: np.ndarray) -> np.ndarray:
    """A dark picture with more light, others as they are."""
    import cv2

    brightest = float(np.percentile(image[::8, ::8], 99))
    return image if brightest >= _LIT else cv2.convertScaleAbs(image, alpha=min(_LIT / max(brightest, 1.0), _MOST))


def _points(points: Sequence[np.ndarray], confidence: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The points (K, 2) px at which somebody is, of each who is believed at all."""
    return [of[believed > 0] for of, believed in zip(points, confidence, strict=True) if believed.any()]


def _lit_up(index: int, image: np.ndarray) -> np.ndarray:
    return _lit(image)


def _apart(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> float:
    """How far the points of two frames' one person lie apart, in parts of the person; inf where one shows nobody."""
    if not len(one[0]) or not len(other[0]):
        return np.inf
    size = np.linalg.norm(np.ptp(other[0][0], 0))
    return float(np.median(np.linalg.norm(one[0][0] - other[0][0], axis=-1)) / max(size, 1.0))


def _starts_badly(found: Found) -> bool:
    """Whether the first frames, of which the last shows somebody, do not hang together."""
    if _BEGIN not in found or not len(found[_BEGIN][0]):
        return False
    return any(_apart(found[k], found[k + 1]) > _JUMP for k in range(_BEGIN))


def _begin_again(footage: Footage, finder: BlazePose, found: Found, shown: Callable[[int, np.ndarray], np.ndarray]) -> None:
    """Follow the person of frame _BEGIN back to the first, and keep that from where it parts from what was found there, unless it is
    much less sure: it hangs together with what follows, and BlazePose may be sure of somebody upside down."""
    points = found[_BEGIN][0][0]
    box = (*points.min(0), *np.ptp(points, 0))
    again: Found = {}
    finder.turn()
    for index, image in footage.backwards(_BEGIN + 1):
        x0, y0, x1, y1 = around((box[0], box[1], box[0] + box[2], box[1] + box[3]), WINDOW, footage.width, footage.height)
        seen, conf = finder.find(shown(index, image), [(x0, y0, x1 - x0, y1 - y0)] if index == _BEGIN else [])
        again[index] = seen.astype(np.float32), _inside(seen, conf, footage, finder).astype(np.float32)
    parted = next((k for k in range(_BEGIN - 1, -1, -1) if _apart(found[k], again[k]) > _PARTED), -1)
    sure = lambda frames: sum(float(frames[k][1].mean()) if len(frames[k][1]) else 0.0 for k in range(parted + 1))  # noqa: E731
    if sure(again) > _HANGS * sure(found):
        found.update({k: again[k] for k in range(parted + 1)})


def _another(
    footage: Footage, fast: bool, before: list[Found], tell: Callable[[int, int, np.ndarray, np.ndarray], None], go_on: Callable[[], None]
) -> Found:  # fmt: skip
    """Somebody else than those who were found before. tell: of a frame of the footage, of how many that were gone through in all, everybody."""
    from bridge.keypoints.hidden import without

    finder = BlazePose(fast)

    def known(index: int) -> tuple[np.ndarray, np.ndarray]:
        return _together([one[index] for one in before if index in one] or [nobody(len(get_layout(finder.layout).names))])

    def shown(index: int, image: np.ndarray) -> np.ndarray:
        return without(_lit(image), list(zip(*known(index), strict=True)), finder.layout)

    found: Found = {}
    try:
        for index, image in footage.again():
            go_on()
            points, conf = finder.find(shown(index, image), [])
            found[index] = points.astype(np.float32), _inside(points, conf, footage, finder).astype(np.float32)
            tell(index, len(before) * footage.count + len(found), *_together([known(index), found[index]]))
        if _starts_badly(found):
            go_on()
            _begin_again(footage, finder, found, shown)
    finally:
        finder.close()
    return found


def _somebody_else(finder: BlazePose, pictures: dict[int, np.ndarray], found: Found, least: float) -> bool:
    """Whether most of some pictures of the footage show somebody else, not much smaller."""
    from bridge.keypoints.hidden import without

    told = 0
    for index, image in pictures.items():
        if index not in found or not len(found[index][0]):
            continue
        height, width = image.shape[:2]
        finder.turn()
        points, conf = finder.find(without(_lit(image), list(zip(*found[index], strict=True)), finder.layout), [(0, 0, width, height)])
        large = [np.linalg.norm(np.ptp(of[0], 0)) for of in (points, found[index][0]) if len(of)]
        told += len(large) == 2 and float(conf.mean()) >= least and large[0] > _LARGE * large[1] and _apart((points, conf), found[index]) > _JUMP
    return 2 * told > len(pictures)


def _believed(found: Found, times: np.ndarray, layout: str, takes: Sequence[int], least: float) -> Found:
    """What was found of somebody in those stretches in which they are believed."""
    none = nobody(len(get_layout(layout).names))
    _, confidence, _ = make_tracks([found.get(index, none) for index in range(len(times))], times, layout, _ONE_PERSON, takes)
    seen = confidence.max(-1, initial=0) > 0
    sure = [track for track, frames in zip(confidence, seen, strict=True) if track[frames].mean() >= least]
    return {index: found[index] for index in found if any(track[index].any() for track in sure)}


def _together(looks: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """One frame's points (D, K, 2) px and confidence (D, K) of several looks."""
    return np.concatenate([points for points, _ in looks]), np.concatenate([conf for _, conf in looks])


def _onnx(detector, device: str):
    from bridge.keypoints.onnx_detect import OnnxFinder

    return OnnxFinder(detector, device)


def _box(values) -> tuple[tuple[float, float, float, float], float, float]:
    numbers = list(values) + [None] * (6 - len(values))
    try:
        x, y, w, h = (float(v) for v in numbers[:4])
        a = 0 if numbers[4] is None else int(numbers[4])
        b = np.inf if numbers[5] is None else int(numbers[5])
    except (TypeError, ValueError):
        w = h = a = b = x = y = 0.0
    if not (np.isfinite([x, y, w, h]).all() and w > 1 and h > 1 and a < b):
        raise LgdError(
            "bad_input",
            f"The box {tuple(values)} is not valid.",
            "A box is x, y, width, height in pixels and a range of frames.",
        )
    return (x, y, w, h), a, b


def _inside(points: np.ndarray, conf: np.ndarray, footage: Footage, finder) -> np.ndarray:
    """Confidence of a finder's points in a footage's picture."""
    return confidence_inside(points, conf, footage.width, footage.height, BEYOND if finder.layout == BlazePose.layout else False)


def _shows(box, points: np.ndarray, conf: np.ndarray) -> bool:
    """Whether points (D, K, 2) px of confidence (D, K) show somebody inside a box x, y, w, h."""
    inside = ((points >= box[:2]) & (points <= (box[0] + box[2], box[1] + box[3]))).all(-1) & (conf > 0.3)
    return bool((inside.sum(-1) >= 6).any())
