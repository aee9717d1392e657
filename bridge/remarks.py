# SPDX-License-Identifier: GPL-3.0-or-later
"""What the user is told of a motion that is doubtful as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .body.landmarks import available_points
from .keypoints.formats import POINT_INDEX, to_internal
from .keypoints.tracks import stands_still
from .keypoints.turned_rays import farthest, lens_of_turns, turns_of
from .motion import Motion

if TYPE_CHECKING:
    from .keypoints.tracks import Keypoints
    from .lgd.fitter import FitOptions

FEET = [7, 8, 10, 11]  # ankles and balls of the feet
OFF_FIRST = 0.5  # m that further people may stand off the first one's ground before it is said
OFF_GROUND, OFF_SIZE = 0.3, 1.33  # m; times: what a camera's scene may be off before it is said
ALIKE = ("body25", "body25b")  # layouts of as many points, which files do not name
ZOOMED = 1.1  # times that the background may grow or shrink before it is said
UNSURE = 0.4  # confidence in the world, below which a camera that travels may have gone another length of way
SURE, HARDLY = 0.3, 0.05  # confidence from which a point is seen (and drawn); part of the frames: limbs seen in fewer are guessed
LIMBS = {
    "legs": ("left_knee", "left_ankle", "right_knee", "right_ankle"),
    "left arm": ("left_elbow", "left_wrist"),
    "right arm": ("right_elbow", "right_wrist"),
}
OFF_PERSON = 0.05  # of the person's height: above it the points are no person's


def off_the_person(motion: Motion, read: bool = False) -> str | None:
    """That the body does not lie over the person, by the median reprojection error in heights of the person; None where it does.

    read: the keypoints come from a file, whose points may be in another order than they were taken for.
    """
    seen = (motion.confidence > 0.05).sum(-1) >= 4
    if not seen.any():
        return None
    across = np.where((motion.confidence > 0.05)[..., None], motion.keypoints, np.nan)[seen]
    tall = np.linalg.norm(np.nanmax(across, 1) - np.nanmin(across, 1), axis=-1)
    off = float(np.nanmedian(motion.reprojection_px[seen]) / max(np.median(tall), 1.0))
    if off <= OFF_PERSON:
        return None
    text = f"The body lies off the person by {100 * off:.0f} % of their height"
    if not read:
        return f"{text}: what was detected fits no body. Look at the skeleton; dark, blurred or crowded footage is read badly."
    text += f": the keypoints, read as {motion.layout}, fit no body. Look at the skeleton; their layout may be another, with the points in another order."
    if motion.layout in ALIKE:
        text += " OpenPose's BODY_25 and BODY_25B have as many points: .json files are read as BODY_25B where body_25b is in their name or a folder's."
    return text


def never_seen(motion: Motion) -> str | None:
    """That limbs are hardly ever seen where the person is, by the points that were fitted; None where all are."""
    seen = to_internal(motion.keypoints, motion.confidence, motion.layout)[1] > SURE
    seen = seen[seen.sum(-1) >= 4]
    known = available_points(motion.layout)
    limbs = []
    for limb, names in LIMBS.items():
        rows = [POINT_INDEX[name] for name in names]
        if len(seen) and known[rows].all() and seen[:, rows].any(-1).mean() < HARDLY:
            limbs.append(limb)
    if not limbs:
        return None
    are, they = ("is", "it does") if len(limbs) == 1 and limbs[0] != "legs" else ("are", "they do")
    return f"The {' and the '.join(limbs)} {are} hardly ever seen: what {they} is a guess."


def _heights(motion: Motion) -> tuple[float, float]:
    """How high the feet stand above z = 0, and the camera, m."""
    seen = motion.confidence.max(-1) > 0
    world = np.broadcast_to(motion.T_world_cam, (motion.frames, 4, 4))[seen]
    feet = np.einsum("fa,fka->fk", world[:, 2, :3], motion.joints[seen][:, FEET]) + world[:, 2, 3:]
    lowest = feet.min(-1)
    return float(np.percentile(lowest, 5 if np.median(lowest) > 0 else 50)), float(np.median(world[:, 2, 3]))  # who leaps comes down


def off_the_ground(motion: Motion, given: bool = False) -> str | None:
    """That a further person does not stand on the ground (z = 0), the first one's or that of a given camera's scene, None where they do; to be told
    after their name."""
    height = _heights(motion)[0]
    if abs(height) < OFF_FIRST:
        return None
    side = "above" if height > 0 else "below"
    ground = "given camera's ground (z = 0)" if given else "first person's ground"
    return f"stands {abs(height):.1f} m {side} the {ground}: one view does not tell a child from somebody farther away, nor a step from a giant."


def against_the_body(motion: Motion) -> str | None:
    """What is wrong with the scale of a given camera, whose ground is z = 0, by the size of the body; None where they agree."""
    height, camera = _heights(motion)
    if abs(height) < OFF_GROUND:
        return None
    text = f"By the body's size the feet are {abs(height):.1f} m {'above' if height > 0 else 'below'} the given camera's ground (z = 0)"
    if camera > OFF_GROUND and camera - height > OFF_GROUND:
        scale = camera / (camera - height)
        if 1 / OFF_SIZE < scale < OFF_SIZE:
            return None
        text += f", as if its scene were {max(scale, 1 / scale):.1f} times too {'large' if scale > 1 else 'small'}"
    return f"{text}. Set its scale or its ground."


def of_the_camera(motion: Motion, keypoints: Keypoints, options: FitOptions, looked_for: bool, kept: bool = False) -> list[str]:
    """What became of the footage's camera, by the first person's motion, and what is wrong with one that was given. looked_for: as one that
    travels; kept: the given one is an earlier solve's."""
    given, turns, travels = options.T_world_cam, keypoints.camera_turns, keypoints.camera_travels
    if options.path is not None:
        return [travelling_camera(motion)]
    zoom_told = keypoints.cam_K is not None and keypoints.cam_K.ndim == motion.cam_K.ndim == 3
    if turns is not None and zoom_told:
        turns = np.column_stack((turns[:, :3], np.ones(len(turns))))
        turns = None if stands_still(turns, keypoints.image_size) else turns
    told: list[str | None] = []
    if given is None or given.ndim == 2:
        if turns is not None:
            told.append(turning_camera(turns, motion, given is not None, False if looked_for else travels, lens_of_turns(keypoints)))
        elif travels and not looked_for:
            told.append("The camera travels and was taken for one that stands still, so that the body leans and slides: set Camera to Travelling.")
    if given is not None and (given.ndim == 3 or not kept):  # an earlier solve's stands as its body told
        told.append(against_the_body(motion))
    return [text for text in told if text]


def turning_camera(turns: np.ndarray, motion: Motion, given: bool = False, travels: bool | None = None, told_by: float | None = None) -> str:
    """What became of a camera that turns, by `Keypoints.camera_turns` (F, 4) and the first person's motion. given: one that stands still
    was told; travels: whether it is seen to travel as well, None: not known; False too where its path was looked for and not
    found; told_by: px, as `turns_of` has it."""
    focal = float(np.asarray(motion.cam_K).reshape(-1, 3, 3)[0, 0, 0])
    turned = turns_of(np.column_stack((turns[:, :3], np.ones(len(turns)))), np.diag((focal, focal, 1.0)), told_by)
    angle = max(round(np.degrees(farthest(turned))), 1)
    degrees = f"{angle} degree{'' if angle == 1 else 's'}"
    followed = not given and motion.cam_K.ndim == 3
    solve = "set Camera to Travelling" if travels else "solve its motion in the movie clip editor and choose Scene Camera"
    grown = float(turns[:, 3].max() / turns[:, 3].min())
    zoomed = f"The background grows or shrinks by {100 * (grown - 1):.0f} %: the camera travels or zooms, which is not taken out"
    zoomed += f". If it travels, set Camera to Travelling; if it zooms, {solve}." if travels is None else f": {solve}."
    zoom = f"zooms, by {100 * (grown - 1):.0f} %: that was read from the background and is the new camera's."
    if angle == 1 and grown >= ZOOMED:
        if travels is False and (given or motion.mode == "paper"):  # else it would be followed
            why, follow = ("the one that was told keeps its lens", "set Camera to New") if given else ("was taken for one that does not", "Video mode follows it")
            return f"The footage's camera zooms, by {100 * (grown - 1):.0f} %, but {why}: {follow}; or {solve}."
        return f"The camera {zoom}" if followed else zoomed
    if given:
        new = "" if travels else "set Camera to New, or "
        return f"The footage's camera turns by {degrees}, but the one that was told stands still, so that the body leans and slides: {new}{solve}."
    if motion.T_world_cam.ndim == 2:
        follow = "Video mode follows it; or " if motion.mode == "paper" and not travels else ""
        return f"The camera turns by {degrees} and was taken for one that stands still, so that the body leans and slides: {follow}{solve}."
    if followed and grown >= ZOOMED:
        return f"The camera turns, by up to {degrees}, and {zoom}"
    text = f"The camera turns, by up to {degrees}: that was read from the background and is the new camera's."
    more = {None: "Where it travels too, set Camera to Travelling.", True: "It travels as well: set Camera to Travelling.", False: ""}
    return f"{text} {zoomed if grown >= ZOOMED else more[travels]}".rstrip()


def travelling_camera(motion: Motion) -> str:
    """How a camera travelled whose path the background told, by the first person's motion."""
    places = motion.T_world_cam[:, :3, 3]
    way = float(np.linalg.norm(np.ptp(places, axis=0)))
    text = f"The camera travels over {way:.1f} m: that was read from the background and is the new camera's."
    if motion.world_confidence < UNSURE:
        text += " How far, and what is level there, is uncertain: look whether the feet slide."
    return text
