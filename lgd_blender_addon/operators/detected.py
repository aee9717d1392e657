# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of detected keypoints: the scene goes on from them, the panel lists their people, the footage shows them."""

from pathlib import Path

import bpy

from .. import overlay
from .._bridge import arrays, counting
from ..scene.footage import same_footage
from ..scene.timing import decoded
from .request import Plan, listed_for


def remember(run, show) -> None:
    """A detection, or a list of people, that is done: the scene's keypoints, skeletons over the footage, the people in the panel."""
    scene, found = scene_of(run.plan), run.detected
    if scene is not None and run.job.kind == "detect":
        _take_keypoints(scene, run.plan.footage, found["keypoints"])
    shown = None  # keypoints without footage
    if run.plan.footage is not None:
        shown = decoded(run.plan.footage, overlay.times_of(found["keypoints"]))
        overlay.load(found["keypoints"], shown, [entry["id"] for entry in found["people"]])
    if show is not None:
        list_people(show, found["people"], shown, scene.lgd.start if scene is not None else 1, run.plan.people)
        named = found["keypoints"] if run.job.kind == "detect" else run.job.request["keypoints"]
        show.people_of = listed_for(named, run.plan.footage) if len(found["people"]) > 1 else ""
        show.summary = f"{len(found['people'])} found in {counting.frames_text(found['frames'])}"


def _take_keypoints(scene, footage, file: str) -> None:
    scene.lgd.keypoints = file
    scene.lgd.keypoints_source = footage.path
    scene.lgd.keypoints_first = footage.frames[0]


def keep(run) -> None:
    """Of a solve that ends early, or whose result cannot be built, what it has detected by then is not lost, except where the user's own file of
    keypoints stands in its place, or an earlier detection of more."""
    scene, job = scene_of(run.plan), run.job
    done = run.fitted is not None and run.error is None
    if scene is None or job is None or job.kind != "fit" or not job.request.get("source") or done:
        return
    own = scene.lgd.keypoints and not scene.lgd.keypoints_source
    file = job.folder / "keypoints.npz"
    if file.is_file() and not own and not _part_of_more(scene, run, file):
        _take_keypoints(scene, run.plan.footage, str(file))
        run.warnings.append("What was detected is kept: Solve Keypoints goes on from there.")


def _part_of_more(scene, run, file: Path) -> bool:
    """Whether the keypoints that a scene has are of the same footage, from as early on, and of more frames; of whom a box is round they may
    show another."""
    held = scene.lgd
    same = held.keypoints_source and same_footage(held.keypoints_source, run.plan.footage.path) and not run.job.request["source"]["boxes"]
    return bool(same) and held.keypoints_first <= run.plan.footage.frames[0] and _frames_in(Path(bpy.path.abspath(held.keypoints))) > _frames_in(file)


def _frames_in(file: Path) -> int:
    try:
        return arrays.load_arrays(file)["confidence"].shape[1]
    except (arrays.Unreadable, KeyError, IndexError):
        return 0


def list_people(show, people, footage=None, start: int = 1, ticked: tuple[int, ...] = (0,)) -> None:
    """Fill the panel's list of people, with Blender's frames; without footage frame k of the keypoints lies on start + k."""
    from ..properties import COLOURS
    from ..scene.timing import shown_keys

    places = {}
    if footage is not None:
        a, b = footage.frames
        order, times = shown_keys(footage.table, footage.start, a, b - a)
        places = dict(zip(order.tolist(), times.tolist(), strict=True))
    show.people.clear()
    show.people_move = footage is None or footage.file_start is not None
    show.people_start = start if footage is None else footage.file_start or 0
    for entry in people:
        if not entry["seen"]:
            continue
        item = show.people.add()
        item.person, item.seen, item.confidence = entry["person"], entry["seen"], entry["confidence"]
        ends = [round(places.get(entry[end], entry[end] + (start if footage is None else 0))) for end in ("first", "last")]
        item.first, item.last = sorted(ends)
        item.colour = COLOURS[item.person % len(COLOURS)]
        item.use = item.person in ticked


def scene_of(plan: Plan):
    """The scene a plan was made in, whatever it is called by now; None where it is gone."""
    return next((scene for scene in bpy.data.scenes if scene.session_uid == plan.scene), None)
