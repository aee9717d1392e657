# SPDX-License-Identifier: GPL-3.0-or-later
"""From what a mode found to a Motion: kinematics, the world, contacts, and all the fields of the result."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch

from .. import camera, contact
from ..body.smpl import BodyModel
from ..keypoints.formats import LAYOUTS, POINT_INDEX, to_internal
from ..keypoints.repair import relabelled
from ..keypoints.tracks import SEEN, TOGETHER, Keypoints, rate_beside_pauses, shows_somebody
from ..motion import Motion
from ..places import version
from ..planting import SURE, plant_feet, runs
from ..remarks import HARDLY
from ..rotations import exp_so3, log_so3
from .manhattan import told_up
from .resample import RATE

# Gravity's confidence: between the picture's up and balance's so much makes it half, and so much of it is left where nobody stands.
LEANING, UNTOLD = np.radians(15), 0.5
BY_LINES = 0.9  # the world's confidence where straight lines of the background told what is up
# Of the distance: how far off the path as seen may be across the image and along the ray, where feet at rest say otherwise.
ACROSS, ALONG = 0.002, 0.01


@dataclass
class Found:
    """What a mode found, F frames of the source. pelvis (F, 3) m; up (3) of the camera frame, or of the world that a camera moves in; anchored: hold feet that
    are seen at rest; lens_told: the focal length is no guess from the person; contacts (F, 4) in [0, 1] as a network reads them for a camera that does not move, or None; labels (F) the states of
    `repair_swaps`, whose labels were fitted, or None."""

    rotations: torch.Tensor
    pelvis: np.ndarray
    betas: torch.Tensor
    up: np.ndarray
    world_confidence: float
    joint_confidence: np.ndarray
    focal_source: str
    cam_K: np.ndarray
    anchored: bool
    lens_told: bool = False
    contacts: np.ndarray | None = None
    labels: np.ndarray | None = None


def reprojection_px(landmarks: np.ndarray, points: np.ndarray, confidence: np.ndarray, cam_K: np.ndarray) -> np.ndarray:
    """(F) mean distance in px over the points seen, NaN where none is."""
    error = np.linalg.norm(camera.project(landmarks, cam_K) - points, axis=-1)
    seen = confidence > 0
    total = np.where(seen, error, 0).sum(-1)
    return np.where(seen.any(-1), total / np.maximum(seen.sum(-1), 1), np.nan)


def posed_in_camera(model: BodyModel, layout: str, rotations: torch.Tensor, betas: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Joints (F, 24, 3) m about the pelvis, their axes (F, 24, 3, 3) and landmarks (F, 30, 3) m, all along the camera's axes."""
    posed = model.shaped(betas, layout).posed(rotations.to(model.device))
    joints, axes, points = (x.cpu().numpy().astype(float) for x in (posed.joints, posed.world, posed.points))
    return joints, axes, points


def soles_of(model: BodyModel, posed_joints: np.ndarray, world: np.ndarray, betas: np.ndarray) -> np.ndarray:
    """Sole points (F, 4, 3) m, camera axes and origin of `posed_joints`."""
    return _fixed_to(model.soles, posed_joints, world, betas)


def skin_of(model: BodyModel, posed_joints: np.ndarray, world: np.ndarray, betas: np.ndarray) -> np.ndarray:
    """What but the feet may lie on the ground, (F, K, 3) m float32, as `soles_of`."""
    return _fixed_to(model.skin, posed_joints.astype(np.float32), world.astype(np.float32), betas)


def _fixed_to(
    points: tuple[np.ndarray, np.ndarray, np.ndarray], posed_joints: np.ndarray, world: np.ndarray, betas: np.ndarray
) -> np.ndarray:  # fmt: skip
    offsets, directions, parents = points
    local = (offsets + directions @ betas).astype(posed_joints.dtype)
    return posed_joints[:, parents] + np.einsum("fjab,jb->fja", world[:, parents], local)


def in_world(world: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (F, K, 3) of the camera frame in the world. world: (4, 4) or (F, 4, 4)."""
    turn = np.broadcast_to(world, (len(points), 4, 4))
    return np.einsum("fab,fkb->fka", turn[:, :3, :3], points) + turn[:, None, :3, 3]


def ground_world(
    up: np.ndarray, pelvis: np.ndarray, soles: np.ndarray, seen: np.ndarray, times: np.ndarray, contacts: np.ndarray | None,
    skin: np.ndarray | None = None, levels: bool = True,
) -> np.ndarray:  # fmt: skip
    """T_world_cam (4, 4) of a camera that stands still, in whose frame pelvis (F, 3), soles (F, 4, 3) and skin (F, K, 3) about it are:
    gravity along `up`, the ground under the soles, or what somebody lies on, the first pelvis above 0.
    levels: the ground that is told so is taken for level, a little."""
    turn = contact.world_from_up(up)
    placed = (soles + pelvis[:, None]) @ turn.T
    lowest = placed[np.arange(len(placed)), placed[..., 2].argmin(-1)]
    laid = None
    if skin is not None:
        lies, moves = contact.lowest_skin(skin, pelvis, turn[2], times)
        lowest = np.where((lies @ turn[2] < lowest[:, 2])[:, None], lies @ turn.T, lowest)
    speed = np.full(len(lowest), np.inf)
    if len(lowest) > 2:
        speed = np.linalg.norm(np.gradient(lowest[:, :2], times, axis=0), axis=-1)
        speed[np.gradient(times) > TOGETHER / 2] = 0  # no foot of a walk rests so long: two steps are compared, not one foot
    level = contact.level_ground(lowest, seen * (speed < 2 * contact.CONTACT_SPEED)) if levels else np.eye(3)
    world = np.eye(4)
    # Leveled first, then turned so that the camera looks along +Y again.
    world[:3, :3] = contact.world_from_up((level @ turn)[2])
    if skin is not None:
        laid = np.where(moves < contact.CONTACT_SPEED, lies @ world[2, :3], np.inf)
    ground = contact.ground_height((soles + pelvis[:, None]) @ world[:3, :3].T, seen, contacts, laid)
    start = world[:3, :3] @ pelvis[int(np.argmax(seen))]
    world[:3, 3] = -np.array([start[0], start[1], ground])
    return world


def _anchored(pelvis: np.ndarray, soles: np.ndarray, contacts: np.ndarray, world: np.ndarray, rate: float) -> np.ndarray:
    """The path (F, 3) of the camera's frame, held on feet at rest: in its own axes for a camera that stands still, else in the world's."""
    doubt, slip = pelvis[:, 2:] * np.array([ACROSS, ACROSS, ALONG]), 0.004 / rate
    together = 10 * rate  # frames over which errors of the path as seen hang together: a third of a second
    if world.ndim == 2:
        return contact.anchor_root(pelvis, soles, contacts, doubt, slip, together=together)
    turn, place = world[:, :3, :3], world[:, :3, 3]
    held = contact.anchor_root(
        np.einsum("fab,fb->fa", turn, pelvis) + place, np.einsum("fab,fkb->fka", turn, soles), contacts,
        np.sqrt(np.einsum("fab,fb->fa", turn**2, doubt**2)), slip, turn[:, :, 2], together,
    )  # fmt: skip
    return np.einsum("fba,fb->fa", turn, held - place)


def assemble(
    keypoints: Keypoints, T_world_cam: np.ndarray | None, mode: str, weights: str, model: BodyModel, data: dict, found: Found, slow: bool
) -> Motion:  # fmt: skip
    """Kinematics, world, contacts and all the fields of a Motion."""
    if found.labels is not None:
        keypoints = relabelled(keypoints, found.labels)
    times = np.asarray(keypoints.times(), float)
    betas = found.betas.to(model.device)
    pelvis = found.pelvis
    relative, frames_world, landmarks = posed_in_camera(model, keypoints.layout, found.rotations, betas)
    shape = found.betas.cpu().numpy().astype(float)
    soles = soles_of(model, relative, frames_world, shape)
    skin = skin_of(model, relative, frames_world, shape) if mode == "video" else None  # the paper's ground is under the soles
    seen = shows_somebody(keypoints.confidence[0])
    read = found.contacts  # tells the ground at any rate, and is claimed where the frames are near enough
    up, sure = found.up, 1.0 if T_world_cam is not None else found.world_confidence
    if read is not None and T_world_cam is None:
        up, apart = contact.balanced_up(up, relative, soles, read, pelvis)
        sure *= UNTOLD if np.isnan(apart) else 1 / (1 + (apart / LEANING) ** 2)
    straight = told_up(keypoints, found.cam_K, up, found.lens_told) if T_world_cam is None and mode == "video" else None
    if straight is not None:
        up, sure = straight, max(sure, BY_LINES)
    levels = straight is None
    world = ground_world(up, pelvis, soles, seen, times, read, skin, levels) if T_world_cam is None else np.asarray(T_world_cam, float)
    if found.anchored:
        ground = None if T_world_cam is None else -world[..., 2, 3]
        lower = soles if skin is None else np.concatenate((soles, skin), 1, dtype=float)
        pelvis = contact.stand_on_ground(pelvis, lower, world[..., 2, :3], ground, times, seen)
        if T_world_cam is None:  # anew from what is up: the path was drawn to the last slope
            world = ground_world(up, pelvis, soles, seen, times, read, skin, levels)
    contacts = np.zeros((len(pelvis), 4))
    if not slow:
        if read is not None and world.ndim == 2 and len(pelvis) > 2:
            contacts = read
        else:
            contacts = contact.contacts_by_height(in_world(world, soles + pelvis[:, None]), times) * seen[:, None]  # who is not seen is held, and would rest
    held = read if slow and read is not None and world.ndim == 2 else contacts
    if found.anchored and held.any() and len(pelvis) > 2:
        pelvis = _anchored(pelvis, soles, held, world, min(rate_beside_pauses(times) / RATE, 4))
        if T_world_cam is None:
            world = ground_world(up, pelvis, soles, seen, times, read, skin, levels)
    rest = model.rest_joints(betas).cpu().numpy()[0]
    landmarks = landmarks + pelvis[:, None]
    points, confidence = to_internal(keypoints.keypoints[0], keypoints.confidence[0], keypoints.layout)
    return Motion(
        poses=log_so3(found.rotations.double()).flatten(1).numpy(), betas=shape, trans=pelvis - rest, joints=relative + pelvis[:, None],
        cam_K=found.cam_K, focal_source=found.focal_source, T_world_cam=world,
        world_confidence=sure, mocap_framerate=keypoints.rate(),
        frame_times=times, gender=str(data["gender"]), body_model=str(data["id"]),
        reprojection_px=reprojection_px(landmarks, points, confidence, found.cam_K),
        joint_confidence=found.joint_confidence, contacts=contacts, keypoints=keypoints.keypoints[0],
        confidence=keypoints.confidence[0], layout=keypoints.layout, image_size=np.asarray(keypoints.image_size),
        person_id=int(keypoints.person_ids[0]) if keypoints.person_ids is not None else 0,
        keypoints_3d=_layout_points(landmarks, keypoints.layout), mode=mode, weights=weights,
        bridge_version=version(),
    )  # fmt: skip


def with_planted_feet(motion: Motion, model: BodyModel) -> Motion:
    """The motion after the clean-up of `planting.plant_feet`, on the ground of its world; itself where no foot rests."""
    betas = torch.as_tensor(motion.betas, dtype=torch.float32, device=model.device)
    rest = model.rest_joints(betas).cpu().numpy().reshape(24, 3).astype(float)
    offsets, directions, _ = model.soles
    world = np.broadcast_to(motion.T_world_cam, (motion.frames, 4, 4)).astype(float)
    turn, place = world[:, :3, :3], world[:, :3, 3]
    local = exp_so3(torch.as_tensor(motion.poses).double().unflatten(-1, (24, 3))).numpy()
    local[:, 0] = turn @ local[:, 0]
    pelvis = in_world(world, (motion.trans + rest[0])[:, None])[:, 0]
    contacts = motion.contacts * _foot_seen(motion)
    planted = plant_feet(local, pelvis, rest, offsets + directions @ motion.betas, contacts, motion.frame_times)
    if np.array_equal(planted[0], local):
        return motion
    local, pelvis = planted
    local[:, 0] = turn.transpose(0, 2, 1) @ local[:, 0]
    pelvis = np.einsum("fba,fb->fa", turn, pelvis - place)
    rotations = torch.as_tensor(local, dtype=torch.float32)
    joints, _, landmarks = posed_in_camera(model, motion.layout, rotations, betas)
    joints, landmarks = joints + pelvis[:, None], landmarks + pelvis[:, None]
    points, confidence = to_internal(motion.keypoints, motion.confidence, motion.layout)
    return dataclasses.replace(
        motion, poses=log_so3(torch.as_tensor(local)).flatten(1).numpy(), trans=pelvis - rest[0], joints=joints,
        reprojection_px=reprojection_px(landmarks, points, confidence, motion.cam_K), keypoints_3d=_layout_points(landmarks, motion.layout),
        feet_planted=True,
    )  # fmt: skip


def _foot_seen(motion: Motion) -> np.ndarray:
    """Whether (F, 4), as `contacts` has it, a foot's contact is more than a guess: the foot is seen in the course of it. Planting one that the
    picture never shows would drag the person off where they are seen."""
    confidence = to_internal(motion.keypoints, motion.confidence, motion.layout)[1]
    known = np.zeros((motion.frames, 4), bool)
    for column in range(4):
        side = "left" if column < 2 else "right"
        rows = [POINT_INDEX[f"{side}_{part}"] for part in ("ankle", "heel", "big_toe", "small_toe")]
        seen = (confidence[:, rows] > SEEN).any(-1)
        for a, b in runs(motion.contacts[:, column] > SURE[0]):
            known[a:b, column] = seen[a:b].mean() >= HARDLY
    return known


def _layout_points(landmarks: np.ndarray, layout: str) -> np.ndarray:
    """Internal points (F, 30, 3) in the layout's own order (F, K, 3); NaN for what the body has no landmark for."""
    internal = LAYOUTS[layout].internal
    out = landmarks[:, np.maximum(internal, 0)].copy()
    out[:, internal < 0] = np.nan
    return out
