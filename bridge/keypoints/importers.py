# SPDX-License-Identifier: GPL-3.0-or-later
"""Keypoint files of other programs: OpenPose, COCO, AlphaPose, MMPose, MediaPipe (JSON) and our own .npz."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bridge.errors import LgdError
from bridge.keypoints.formats import LAYOUTS, get_layout
from bridge.keypoints.onnx_decode import to_layout
from bridge.keypoints.pictures import left_out
from bridge.keypoints.track import make_tracks
from bridge.keypoints.tracks import DEFAULT_FPS, LARGEST, Keypoints
from bridge.places import named

_BY_COUNT = {17: "coco17", 25: "body25", 26: "halpe26", 33: "blazepose33", 133: "halpe26"}
NOBODY = 300  # frames at a footage's begin that a file which leaves such out may lack
_OFF = 0.25  # of all points: so many are never off two of the picture's sides
_MARKS = ("landmarks", "pose_landmarks", "poseLandmarks", "keypoints", "landmark")  # the last: MediaPipe's own messages, as JSON
_PIXELS_HINT = "Multiply x by the picture's width in pixels and y by its height; coordinates in space are not read."
_OTHER_SIZE = "The file's pictures have {} x {} px, not the {} x {} that were told: the former are taken."
_SHAPES_HINT = "Known files: OpenPose folders, COCO, AlphaPose, MMPose and MediaPipe JSON, and keypoints.npz."


@dataclass
class _Table:
    """What a file says: frame number -> its people as (id or None, points (K, 3) x, y, confidence). sparse: frames in which
    nobody is seen are left out."""

    people: dict[int, list[tuple[int | None, np.ndarray]]] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    fps: float | None = None
    sparse: bool = False
    notes: list[str] = field(default_factory=list)

    def add(self, frame: int, points: np.ndarray | None, identity: int | None = None) -> None:
        rows = self.people.setdefault(int(frame), [])
        if points is not None:
            rows.append((identity, points))


def read_keypoints(
    path: str | Path,
    *,
    layout: str | None = None,
    image_size: tuple[int, int] | None = None,
    fps: float | None = None,
) -> Keypoints:
    """Keypoints from a file or folder of a known kind, several people tracked into whole tracks.

    layout: needed only where the number of points leaves it open (25: body25 unless body25b is said); image_size
    (w, h) px where the file does not hold it, otherwise the smallest that holds all points is assumed; fps likewise.
    Raises LgdError (bad_input) with a sentence.
    """
    path = named(path)
    if not path.exists():
        raise LgdError("bad_input", f"The keypoint file {path} does not exist.", "Check the path.")
    if path.suffix.lower() == ".npz" and path.is_file():
        found = Keypoints.load(path, image_size)
        if image_size is not None and tuple(image_size) != tuple(found.image_size):
            found.notes.append(_OTHER_SIZE.format(*found.image_size, *image_size))
        return found
    if layout is not None:
        get_layout(layout)
    table = _folder(path) if path.is_dir() else _file(path)
    return _assemble(table, path, layout, image_size, fps)


def _bad(text: str, hint: str = _SHAPES_HINT) -> LgdError:
    return LgdError("bad_input", text, hint)


def _json(path: Path):
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError):
        raise _bad(f"The file {path.name} cannot be read as JSON.") from None


def _points(values, name: str) -> np.ndarray:
    """Flat x, y, c triples, (K, 3), or MediaPipe's dicts, as (K, 3) float."""
    if isinstance(values, list) and values and isinstance(values[0], dict):
        try:
            values = [
                [p["x"], p["y"], p.get("visibility", p.get("confidence", p.get("score", 1.0)))]
                for p in values
            ]
        except (KeyError, AttributeError):
            raise _bad(f"{name}: the points have no x and y.") from None
    try:
        out = np.array([[np.nan if v is None else v for v in np.ravel(r)] for r in values], dtype=float)
    except (TypeError, ValueError):
        raise _bad(f"{name}: the keypoints do not hold numbers in a regular order.") from None
    if out.ndim == 2 and out.shape[1] == 1 and out.size % 3 == 0:
        out = out.reshape(-1, 3)
    if out.ndim == 2 and out.shape[1] == 2:
        out = np.concatenate([out, np.ones((len(out), 1))], 1)
    if out.ndim != 2 or out.shape[1] < 3 or not len(out):
        raise _bad(f"{name}: the keypoints are not x, y and confidence for each point.")
    return out


def _identity(value: object) -> int | None:
    """A person's number in the file; None where there is none, and the people are told apart by where they are."""
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else None
    sound = (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and 0 <= value < 2**53
        and value == int(value)
    )
    return int(value) if sound else None


def _size(width: object, height: object) -> tuple[int, int] | None:
    """The picture's size in px, None where the file does not tell one."""
    sides = [v for v in (width, height) if isinstance(v, int | float) and 1 <= v <= LARGEST]
    return (int(sides[0]), int(sides[1])) if len(sides) == 2 else None


def _rate(value: object) -> float | None:
    """Frames a second, None where the file does not tell them."""
    return float(value) if isinstance(value, int | float) and 0 < value <= LARGEST else None


def _folder(path: Path) -> _Table:
    """OpenPose's one JSON a frame, whose number is in the file's name."""
    files = sorted(p for p in path.iterdir() if p.suffix.lower() == ".json" and p.name[0] != ".")
    if not files:
        raise _bad(f"The folder {path.name} holds no JSON files.")
    numbers = _frames([p.stem.removesuffix("_keypoints") for p in files])
    table = _Table()
    for frame, file in zip(numbers, files, strict=True):
        data = _json(file)
        if not isinstance(data, dict) or not isinstance(data.get("people"), list):
            raise _bad(f"{file.name} has no list of people as OpenPose writes it.")
        table.add(frame, None)
        for person in data["people"]:
            values = (
                person.get("pose_keypoints_2d", person.get("pose_keypoints"))
                if isinstance(person, dict)
                else None
            )
            if not isinstance(values, list):
                raise _bad(f"{file.name}: a person has no pose_keypoints_2d.")
            if values:  # OpenPose counts a person_id only with its tracker; [-1] means none
                table.add(frame, _points(values, file.name), _identity(person.get("person_id")))
    return table


def _file(path: Path) -> _Table:
    if path.suffix.lower() != ".json":
        raise _bad(f"{path.name} is not a kind of keypoint file that is known.")
    data = _json(path)
    name = path.name
    try:
        if isinstance(data, dict) and isinstance(data.get("people"), list):
            table = _Table(notes=left_out(path, "files"))
            for person in data["people"]:
                table.add(0, _points(person["pose_keypoints_2d"], name))
            return table
        if isinstance(data, dict) and "annotations" in data:
            return _coco(data, name)
        if isinstance(data, dict) and isinstance(data.get("instance_info"), list):
            return _mmpose(data["instance_info"], name)
        if isinstance(data, list) and data and isinstance(data[0], dict):
            if "instances" in data[0]:
                return _mmpose(data, name)
            if "keypoints" in data[0] and "image_id" in data[0]:
                return _alphapose(data, name)
            if "keypoint_scores" in data[0]:  # MMPose's file of one picture: its people
                return _mmpose([{"instances": data}], name)
        frames = data.get("frames", data.get("landmarks")) if isinstance(data, dict) else data
        if isinstance(frames, list) and frames:
            return _mediapipe(frames, data if isinstance(data, dict) else {}, name)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, OverflowError) as error:
        if isinstance(error, KeyError):
            raise _bad(f"{name} lacks the entry {error}.") from None
        raise _bad(f"{name} is not built as expected.") from None
    raise _bad(f"{name} is JSON, but not a kind of keypoint file that is known.")


def _sequence(names: list[str]) -> list[int] | None:
    """The numbers of pictures of one numbered sequence, by their names: of several in a name the last that is another in each (0001_cam2);
    None where these are no such."""
    parts = [re.split(r"(\d+)", name) for name in names]
    if len({tuple(part[::2]) for part in parts}) != 1:
        return None
    numbers = list(zip(*([int(digits) for digits in part[1::2]] for part in parts), strict=True))
    return next((list(one) for one in reversed(numbers) if len(set(one)) == len(names)), None)


def _frames(names: list[str]) -> list[int]:
    """The frame numbers of pictures by their names: in their sequence, else the last numbers, else in the order in which they come."""
    last = [int(digits[-1]) for name in names if (digits := re.findall(r"\d+", name))]
    return _sequence(names) or (last if len(set(last)) == len(names) else list(range(len(names))))


def _coco(data: dict, name: str) -> _Table:
    table, order = _Table(), {}
    images = data.get("images", [])
    # Roboflow's are called x_12_jpg.rf.0a1b2c.jpg.
    numbers = _sequence([re.sub(r"(_[a-z]+\.rf\.\w+)?\.\w+$", "", str(image.get("file_name", ""))) for image in images])
    if any("frame_id" in image for image in images) or numbers is None:
        images = sorted(images, key=lambda i: (i.get("frame_id", i["id"]), i["id"]))
    else:  # some tools shuffle them, and number them so
        images = [images[n] for n in np.argsort(numbers)]
    for n, image in enumerate(images):
        order[image["id"]] = image.get("frame_id", n)
        table.add(order[image["id"]], None)
        table.size = _size(image.get("width"), image.get("height")) or table.size
    for note in data["annotations"]:
        if not note.get("keypoints"):
            continue
        points = _points(note["keypoints"], name)
        # COCO's third number is 0 missing, 1 hidden, 2 seen.
        if set(np.unique(points[:, 2])) <= {0.0, 1.0, 2.0} and (points[:, 2] == 2).any():
            points[:, 2] = np.array([0.0, 0.5, 1.0])[points[:, 2].astype(int)]
        table.add(order.get(note["image_id"], note["image_id"]), points, _identity(note.get("track_id")))
    table.sparse = not images
    return table


def _alphapose(data: list, name: str) -> _Table:
    """AlphaPose's results and COCO's: people with the image they were found in; images without anybody are left out."""
    table, images = _Table(sparse=True), list(dict.fromkeys(person["image_id"] for person in data))
    counted = all(isinstance(image, int) for image in images)
    order = dict(zip(images, images if counted else _frames([re.sub(r"\.\w+$", "", str(image)) for image in images]), strict=True))
    for person in data:
        table.add(
            order[person["image_id"]],
            _points(person["keypoints"], name),
            _identity(person.get("idx")),
        )
    return table


def _mmpose(data: list, name: str) -> _Table:
    table = _Table()
    for order, frame in enumerate(data):
        # MMPose counts frame_id from 1.
        number = int(frame.get("frame_id", order + 1)) - 1
        table.add(number, None)
        for person in frame["instances"]:
            points = np.asarray(person["keypoints"], dtype=float)
            scores = np.asarray(person.get("keypoint_scores", np.ones(len(points))), dtype=float)
            both = np.concatenate([points[:, :2], np.clip(scores, 0, 1)[:, None]], 1)
            table.add(number, _points(both.tolist(), name), _identity(person.get("track_id")))
    return table


def _mediapipe(frames: list, head: dict, name: str) -> _Table:
    """Per frame 33 landmarks as dicts or rows (x, y, z and perhaps visibility), alone or in a list of people."""
    table = _Table()
    size = head.get("image_size")
    table.size = (
        _size(*size)
        if isinstance(size, list) and len(size) == 2
        else _size(head.get("width"), head.get("height"))
    )
    table.fps = _rate(head.get("fps"))
    for number, frame in enumerate(frames):
        table.add(number, None)
        while isinstance(frame, dict):
            frame = next((frame[key] for key in _MARKS if key in frame), None)
        if not frame:
            continue
        alone = isinstance(frame[0], dict) or np.ndim(frame[0]) == 1
        for person in [frame] if alone else frame:
            points = _points(person, name)
            if not isinstance(person[0], dict):
                # Rows are x, y, z, visibility: the third number is a depth.
                sure = points[:, 3:4] if points.shape[1] > 3 else np.ones((len(points), 1))
                points = np.concatenate([points[:, :2], sure], 1)
            table.add(number, points)
    return table


def _assemble(table: _Table, path: Path, layout, image_size, fps) -> Keypoints:
    name = path.name
    counts = {len(points) for rows in table.people.values() for _, points in rows}
    if not counts:
        raise LgdError("no_person", f"{name} holds no people.", "Choose other footage or another detector.")
    if len(counts) > 1:
        raise _bad(f"{name} mixes people of {' and '.join(map(str, sorted(counts)))} points.")
    count = counts.pop()
    kind = layout or _BY_COUNT.get(count)
    notes = table.notes
    if layout is None and count == 25:
        # BODY_25B has as many points in another order; nothing but the name can tell.
        special = re.search(r"body_?25b", str(path.absolute()).lower())
        kind = "body25b" if special else kind
        notes.append(f"25 points a person are read as OpenPose's {'BODY_25B' if special else 'BODY_25'}.")
    if kind is None:
        known = ", ".join(f"{lay.name} ({lay.count})" for lay in LAYOUTS.values())
        raise _bad(
            f"{name} has {count} points a person, whose order is not known.", f"Known layouts: {known}."
        )
    if count != 133 and get_layout(kind).count != count:
        raise _bad(
            f"{name} has {count} points a person, but the layout '{kind}' has {get_layout(kind).count}."
        )
    first, last = min(table.people), max(table.people)
    if table.sparse and first > 1:
        # Images may be numbered from anything (1001, a camera's count); a few frames more likely hold nobody.
        counted = first <= NOBODY
        begin = "frames are counted from 0" if counted else f"frame {first} is taken as the footage's first"
        notes.append(f"The file holds nobody before frame {first}: {begin}.")
        first = 0 if counted else first
    if last - first > 20 * len(table.people) + 1000:
        raise _bad(f"The frame numbers in {name} run from {first} to {last} for {len(table.people)} frames.")
    size = table.size or image_size
    if table.size and image_size and tuple(image_size) != table.size:
        notes.append(_OTHER_SIZE.format(*table.size, *image_size))
    if table.fps and fps and abs(fps / table.fps - 1) > 0.01:  # else one of them is rounded
        notes.append(f"The file tells {table.fps:.4g} frames a second, not the {fps:.4g} that were told: the former are taken.")
    nobody = LgdError("no_person", f"{name} holds no person that is seen clearly.", "Use another detector.")
    frames = [table.people.get(f, []) for f in range(first, last + 1)]
    for rows in frames:
        for _, p in rows:
            p[~(np.abs(p[:, :2]) <= LARGEST).all(-1)] = np.nan
            p[(p[:, :2] == 0).all(-1), 2] = 0  # not seen, whatever confidence a tool leaves beside it
    sure = np.concatenate([p[(p[:, 2] > 0) & np.isfinite(p[:, 2]), 2] for rows in frames for _, p in rows] or [np.zeros(0)])
    usual = float(np.quantile(sure, 0.99)) if len(sure) else 1.0
    if usual > 2.0:  # per cent, or a network's own measure; up to 2 a few that are above 1, which counts as 1
        notes.append(f"The file's confidence goes up to {usual:.3g}: it is taken in parts of that.")
        for rows in frames:
            for _, p in rows:
                p[:, 2] /= usual
    flat = np.concatenate([p[:, :3] for rows in frames for _, p in rows])
    flat = flat[np.isfinite(flat[:, :2]).all(-1)]
    if not len(flat):
        raise _bad(f"{name} holds no valid coordinates.")
    flat = flat[flat[:, 2] > 0, :2]  # zeros, or anything, stand where nobody is seen
    if not len(flat):
        raise nobody
    if np.quantile(np.abs(flat), 0.99) <= 2.0:
        # Normalised coordinates, as MediaPipe writes them, count from the picture's edge.
        if size is None:
            raise _bad(f"{name} holds no pixels (nearly all coordinates are below 2) and no size of the picture.", _PIXELS_HINT)
        # OpenPose, which sees nobody outside the picture, writes -1 to 1 where it is told so (keypoint_scale 4).
        centred = count == 25 and any((p[p[:, 2] > 0, :2] < -0.01).any() for rows in frames for _, p in rows)
        if not centred and (flat < -0.05).any(-1).mean() > _OFF:  # metres about the hips (MediaPipe's world landmarks, MMPose's in 3D)
            raise _bad(f"{name} holds coordinates in space, or of another picture: many lie left of the picture or above it.", _PIXELS_HINT)
        for rows in frames:
            for _, p in rows:
                p[:, :2] = ((p[:, :2] + 1) / 2 if centred else p[:, :2]) * size - 0.5
    if table.size is None and size is not None and (np.quantile(flat, 0.99, axis=0) > size).any():
        size = None  # told of another picture, or of one that lies on its side
    if size is None:
        size = _usual_size(flat.max(0))
        notes.append(f"The file does not hold the picture's size: {size[0]} x {size[1]} px are assumed, the smallest usual one that holds all points.")
    rate = float(table.fps or fps or 0) or None
    keypoints, confidence, ids = _tracks(frames, kind, rate or DEFAULT_FPS)
    if not len(keypoints):
        raise nobody
    return Keypoints(keypoints, confidence, kind, size, fps=rate, person_ids=ids, notes=notes)


_USUAL = [(640, 360), (640, 480), (854, 480), (1280, 720), (1920, 1080), (2560, 1440), (3840, 2160), (4096, 2160)]


def _usual_size(reach: np.ndarray) -> tuple[int, int]:
    """The smallest usual picture (w, h) px, lying or standing, that points up to `reach` (2) px lie in; else the smallest at all."""
    sizes = sorted({s for w, h in _USUAL for s in ((w, h), (h, w))}, key=lambda s: (s[0] * s[1], -s[0]))
    return next((s for s in sizes if (reach <= np.array(s)).all()), (int(np.ceil(reach[0])) + 1, int(np.ceil(reach[1])) + 1))


def _tracks(frames: list, kind: str, rate: float):
    """Tracks by the file's own identities where every person has one, else by our tracker."""
    count = get_layout(kind).count

    def clean(rows):
        points = np.array([p[:, :3] for _, p in rows]).reshape(len(rows), -1, 3)
        conf = np.clip(np.where(np.isfinite(points).all(-1), points[..., 2], 0.0), 0.0, 1.0)
        points, conf = to_layout(np.nan_to_num(points[..., :2]), conf)
        return points.reshape(len(rows), count, 2), conf.reshape(len(rows), count)

    pairs = [clean(rows) if rows else (np.zeros((0, count, 2)), np.zeros((0, count))) for rows in frames]
    named = all(i is not None for rows in frames for i, _ in rows)
    unique = all(len({i for i, _ in rows}) == len(rows) for rows in frames)
    if not (named and unique):
        return make_tracks(pairs, np.arange(len(frames)) / rate, kind)
    ids = sorted({i for rows in frames for i, _ in rows})
    keypoints = np.zeros((len(ids), len(frames), count, 2), np.float32)
    confidence = np.zeros((len(ids), len(frames), count), np.float32)
    for f, rows in enumerate(frames):
        for (identity, _), p, c in zip(rows, *pairs[f], strict=True):
            keypoints[ids.index(identity), f], confidence[ids.index(identity), f] = p, c
    return keypoints, confidence, np.array(ids, dtype=np.int64)
