# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to core calls, core results to messages. Heavy imports happen inside the functions, not before."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .counting import cuts_text
from .errors import LgdError
from .faults import translated
from .inputs import (
    body_file,
    check_focal,
    check_travels,
    chosen_mode,
    chosen_people,
    existing,
    path_is_wanted,
    places_of,
    read_camera,
    timed,
    told_shape,
    travelling,
)

if TYPE_CHECKING:
    from .keypoints.tracks import Keypoints
    from .motion import Motion
    from .server import Handler, Task

HELD = 2  # frames that Blender may count at a video's end beyond its last picture
UNSEEN = 0.05  # of the frames: from there on it is said


def _guarded(function: Callable[[dict, Task], dict]) -> Handler:
    @functools.wraps(function)
    def handler(request: dict, task: Task) -> dict:
        with translated(task.warning):
            return function(request, task)

    return handler


class Clock:
    """Seconds spent in each named stage."""

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.perf_counter() - start, 4)


@_guarded
def describe_body(request: dict, task: Task) -> dict:
    """Write body.npz: the body's arrays and its joints as a function of the shape. Returns file, id, gender."""
    import numpy as np

    from .arrays import save_arrays
    from .body.files import load_body

    task.progress("body", 0, 1)
    body = load_body(body_file(request.get("body")))
    regressor = np.asarray(body["J_regressor"], np.float64)
    arrays = {key: np.asarray(entry) for key, entry in body.items() if entry is not None}
    if not np.any(arrays["posedirs"]):
        del arrays["posedirs"]  # a body without pose correctives
    arrays["J_template"] = (regressor @ body["v_template"]).astype(np.float32)
    arrays["J_shapedirs"] = np.einsum("jv,vck->jck", regressor, body["shapedirs"][..., :10]).astype(
        np.float32
    )
    file = Path(request["out"]) / "body.npz"
    save_arrays(file, arrays)
    task.progress("body", 1, 1)
    return {"file": str(file), "id": str(body["id"]), "gender": str(body["gender"])}


@_guarded
def detect(request: dict, task: Task) -> dict:
    """Detect keypoints in footage and write keypoints.npz. Returns keypoints, people, layout, frames, fps, image_size."""
    return _kept(request, _detect(request, task))


@_guarded
def fit(request: dict, task: Task) -> dict:
    """Fit the body to footage or keypoints and write a motion (and trace) file for each person.

    Returns motions and traces (paths, in the order of the people fitted), keypoints (path or None), people, seconds
    a stage and what each fit's figures are.
    """
    clock, out = Clock(), Path(request["out"])
    written = None
    body = _checked(request)
    if request.get("source"):
        with clock("detect"):
            keypoints = _detect(request, task, lambda size: (_mode(request), check_focal([request["focal"]] if request.get("focal") else [], max(size))))
        written = out / "keypoints.npz"
        keypoints.save(written)
    else:
        with clock("read"):
            keypoints = _read(request, task)
    people = chosen_people(request.get("person", 0), keypoints, task)
    if request.get("source") and 1 < request.get("look_for", 1) < len(people):
        rest = len(people) - request["look_for"]
        task.warning(f"{rest} more {'track was' if rest == 1 else 'tracks were'} found and left out: of others, or pieces of these people. Detect shows them, to tick.")
        people = people[: request["look_for"]]
    listed, rows = keypoints.describe(), keypoints.prominence()  # as they were chosen: whom a lens bends grows when it is straightened
    with clock("load"):
        task.progress("load", 0, 1)
        from . import remarks
        from .arrays import save_arrays
        from .keypoints.tracks import rate_beside_pauses
        from .lgd import fitter
        from .lgd.resample import is_slow

        options, keypoints = _options(request, keypoints, body, task)
        if request.get("moves") == "still":
            keypoints = dataclasses.replace(keypoints, camera_turns=None, camera_travels=None, camera_focal=None)
    looked_for = path_is_wanted(request, keypoints, options)
    if looked_for:
        with clock("camera"):
            options = travelling(request, keypoints, options, task)
    if is_slow(keypoints.times()):
        rate = f"{rate_beside_pauses(keypoints.times()):.3g}"
        task.warning(f"The footage has {rate} frame{'' if rate == '1' else 's'} a second, fewer than 15: what lies between them is a guess, and ground contacts are not claimed.")
    given = options.T_world_cam is not None and not request.get("camera_kept")  # else the ground is that of who was fitted first
    motions, traces, figures, world = [], [], [], None
    rest = sorted({0, *people})  # the most prominent person who can be fitted defines the world, once for all
    for n in rest:
        alone, called = keypoints.row(int(rows[n])), f"Person {n + task.counts_from}"
        if not (alone.confidence > 0).any():
            raise LgdError("no_person", f"{called} is seen in no frame.", "Choose another person or range.")
        seen = int(alone.seen().sum())
        if n in people and seen < (1 - UNSEEN) * alone.frames:
            task.warning(f"{called} is seen in {seen} of {alone.frames} frames: in the others the pose is held or carried across, with a confidence of 0.")
        if world is not None:
            focal = options.focal if world.focal_source in ("given", "file") else _focal(world)
            if world.cam_K.ndim == 3:  # it zooms
                alone, focal = dataclasses.replace(alone, cam_K=world.cam_K), None
            options = dataclasses.replace(options, T_world_cam=world.T_world_cam, focal=focal, path=None)
        with clock("fit"):
            try:
                own = dataclasses.replace(options, betas=told_shape(request, n) if n in people else None)
                motion, trace = fitter.fit(alone, own, task.progress, task.should_stop)
            except LgdError as error:
                if error.code != "no_person" or people == [n] or (n == rest[-1] and not motions):
                    raise
                if n in people:
                    task.warning(f"{called} is left out. {error.text}")
                continue
        if world is None:
            world = motion
            for text in remarks.of_the_camera(motion, keypoints, options, looked_for, bool(request.get("camera_kept"))):
                task.warning(text)
        else:
            apart = remarks.off_the_ground(motion, given) if n in people else None
            if apart:
                task.warning(f"{called} {apart}")
            motion.focal_source, motion.world_confidence = world.focal_source, world.world_confidence
        if n not in people:
            continue
        if options.plant_feet and not motion.feet_planted:
            why = ": below 15 frames a second that is not claimed of any" if is_slow(keypoints.times()) else ", so that none is planted"
            task.warning(f"No foot of {called[0].lower()}{called[1:]} is known to rest on the ground for three frames{why}.")
        for text in (remarks.off_the_person(motion, read=not request.get("source")), remarks.never_seen(motion)):
            if text:
                task.warning(text if len(people) == 1 else f"{called}: {text}")
        with clock("write"):
            suffix = "" if isinstance(request.get("person", 0), int) else f"_{n}"
            file = out / f"motion{suffix}.npz"
            motion.save(file)
            motions.append(str(file))
            if trace is not None and request.get("trace"):
                file = out / f"trace{suffix}.npz"
                save_arrays(file, trace)
                traces.append(str(file))
        figures.append({"person": n, **describe_motion(motion)})
    return {
        "motions": motions,
        "traces": traces,
        "keypoints": str(written) if written else None,
        "people": listed,
        "seconds": clock.seconds,
        "figures": figures,
    }


@_guarded
def read_keypoints(request: dict, task: Task) -> dict:
    """Read a keypoint file of any known kind and write it as keypoints.npz. Returns what `detect` does."""
    return _kept(request, _read(request, task))


def _kept(request: dict, keypoints: Keypoints) -> dict:
    """Write tracks to keypoints.npz, and what a message tells of them."""
    file = Path(request["out"]) / "keypoints.npz"
    keypoints.save(file)
    return {"keypoints": str(file), **describe_keypoints(keypoints)}


JOBS: dict[str, Handler] = {"describe_body": describe_body, "detect": detect, "read_keypoints": read_keypoints, "fit": fit}


def _checked(request: dict) -> Path | None:
    """The body's file; what a request names is looked at before the long work: body, camera, COLMAP, device. Raises LgdError."""
    body = body_file(request.get("body"))
    if body is not None:
        from .body.files import load_body

        load_body(body)
    given = read_camera(request["camera"]) if request.get("camera") else None
    if request.get("moves") == "travels":
        check_travels(given, request.get("focal"))
    if request.get("weights"):
        from .lgd.checkpoint import load_network

        load_network(_mode(request), path=Path(request["weights"]))
    if request.get("device", "auto") not in ("auto", "cpu"):
        from .lgd.fitter import pick_device  # takes torch, which the detector would not wait for

        pick_device(request["device"])
    return body


def describe_keypoints(keypoints: Keypoints) -> dict:
    """What a message tells of tracks: people (most prominent first), layout, frames, fps, image_size."""
    return {
        "people": keypoints.describe(),
        "layout": keypoints.layout,
        "frames": keypoints.frames,
        "fps": round(float(keypoints.rate()), 6),
        "image_size": [int(side) for side in keypoints.image_size],
    }


def describe_motion(motion: Motion) -> dict:
    """The figures of one fit: frames, in how many the person is seen, mode, median and 95th percentile of the reprojection error in px, focal length."""
    import numpy as np

    from .keypoints.tracks import shows_somebody

    error = np.array([e for e in motion.reprojection_px if np.isfinite(e)], float)
    return {
        "frames": len(motion.poses),
        "seen": int(shows_somebody(motion.confidence).sum()),
        "mode": str(motion.mode),
        "reprojection_px": round(float(np.median(error)), 3) if error.size else None,
        "reprojection_px_95": round(float(np.percentile(error, 95)), 3) if error.size else None,
        "focal": round(_focal(motion), 2),
        "focal_source": str(motion.focal_source),
        "world_confidence": round(float(motion.world_confidence), 3),
    }


def _detect(request: dict, task: Task, check: Callable[[tuple[int, int]], object] | None = None) -> Keypoints:
    from .keypoints.detect import detect as run
    from .keypoints.formats import LAYOUTS

    source = request["source"]
    named = request.get("detector")
    detector = existing(named, "bad_input", "The detector", folder=True) if named else None
    by_count = {len(layout.names): name for name, layout in reversed(LAYOUTS.items())}
    wanted = max(request.get("look_for") or 1, 1)
    size, told = [0, 0], []
    task.progress("detect", 0, 0)

    def notes(footage) -> None:
        for text in getattr(footage, "notes", ())[len(told) :]:
            told.append(text)
            task.warning(text)

    def on_start(footage) -> None:
        size[:] = [int(footage.width), int(footage.height)]
        opened.append(footage)
        if check:
            check((size[0], size[1]))
        notes(footage)

    def on_frame(index: int, done: int, total: int, points, confidence) -> None:
        people = streamed(points, confidence)
        layout = by_count.get(points.shape[-2], "")
        task.send("keypoints", frame=int(index), people=people, layout=layout, image_size=size)
        task.progress("detect", done, max(done, total or 0))

    opened: list = []
    frames, boxes = source.get("frames"), source.get("boxes") or ()
    keypoints = run(
        source["path"],
        frames=tuple(frames) if frames else None,
        fps=source.get("fps"),
        counted=source.get("counted"),
        boxes=[tuple(box) for box in boxes],
        detector=str(detector) if detector else None,
        fast=bool(request.get("fast")),
        people=wanted,
        device=request.get("device", "auto"),
        on_start=on_start,
        on_frame=on_frame,
        should_stop=task.should_stop,
    )
    for footage in opened:
        notes(footage)
        if footage.cuts:
            task.warning(cuts_text(footage.cuts, "of the file"), cuts=footage.cuts)
    if not (keypoints.confidence > 0).any():
        raise LgdError("no_person")
    found = int((keypoints.confidence.max(-1) > 0).sum(0).max())  # at a time: one may be in several tracks
    if found < wanted:
        task.warning(f"{wanted} people were looked for, and {found} found. Draw a box round one who is missing, and solve them alone.")
    return keypoints


def streamed(points, confidence) -> list:
    """(P, K, 2) px and (P, K) as [[[x, y, c], ...], ...] with plain, finite, rounded numbers."""
    import numpy as np

    stacked = np.concatenate([points, np.asarray(confidence)[..., None]], -1).astype(float)
    stacked[~np.isfinite(stacked).all(-1)] = 0.0
    return np.round(stacked, 2).tolist()


def _read(request: dict, task: Task) -> Keypoints:
    from .counting import counts, shown
    from .keypoints.importers import read_keypoints

    task.progress("read", 0, 1)
    size = request.get("image_size")
    keypoints = read_keypoints(request["keypoints"], image_size=tuple(size) if size else None, fps=request.get("fps"))
    for text in keypoints.notes:
        task.warning(text)
    keypoints = timed(request, keypoints)
    if not keypoints.rate_known:
        task.warning("The keypoint file gives no frame rate: 30 frames a second are taken.")
    if request.get("frames"):
        a, b = request["frames"]
        if request.get("counted"):
            last, (begin, end) = int(counts(keypoints.times(), request["counted"])[-1]), shown(keypoints.times(), request["counted"], a, b)
            if a > last or begin >= end:
                raise LgdError("bad_input", "The keypoints end before the range begins, or begin after it ends.", "Detect again, or choose another range.")
            if b - 1 > last + HELD:
                task.warning(f"The keypoints end {b - 1 - last} frames before the range does: what they cover is solved.")
            a, b = begin, end
        elif request.get("short") and b > keypoints.frames:
            if a >= keypoints.frames:
                raise LgdError("bad_input", "The keypoints end before the range begins.", "Choose another range.")
            task.warning(f"The keypoints end {b - keypoints.frames} frames before the range does: what they cover is solved.")
            b = keypoints.frames
        keypoints = keypoints.cut(a, b)
    return keypoints


def _options(request: dict, keypoints: Keypoints, body: Path | None, task: Task):
    from .lgd.fitter import FitOptions

    focal, world = request.get("focal"), None
    if request.get("camera"):
        given = read_camera(request["camera"]).of(keypoints.frames, places_of(request, keypoints))
        world = given.T_world_cam
        keypoints, lost = given.straightened(keypoints)
        if lost:
            task.warning(f"{lost} of the keypoints lie where a lens of the told distortion shows nothing, and are left out: check its values.")
        if given.cam_K is not None and focal is None:
            keypoints = dataclasses.replace(keypoints, cam_K=given.cam_K)
    told = [focal] if focal is not None else [] if keypoints.cam_K is None else keypoints.cam_K[..., [0, 1], [0, 1]].ravel().tolist()
    check_focal(told, max(keypoints.image_size))
    options = FitOptions(
        mode=_mode(request),
        weights=Path(request["weights"]) if request.get("weights") else None,
        focal=focal,
        T_world_cam=world,
        steps=request.get("steps"),
        device=request.get("device", "auto"),
        body=None if body is None else str(body),
        seed=request.get("seed", 0),
        trace=bool(request.get("trace")),
        plant_feet=bool(request.get("plant_feet")),
    )
    return options, keypoints


def _mode(request: dict) -> str:
    return chosen_mode(request.get("mode"), request.get("weights"))


def _focal(motion: Motion) -> float:
    import numpy as np

    return float(np.asarray(motion.cam_K).reshape(-1, 3, 3)[0, 0, 0])
