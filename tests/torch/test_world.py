# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the fitted body stands: its path, what is up, and the ground."""


import numpy as np
import torch

from bridge import camera, contact
from bridge.body.files import load_body
from bridge.body.smpl import BodyModel
from bridge.keypoints.formats import from_internal
from bridge.keypoints.tracks import Keypoints
from bridge.lgd.assemble import ground_world, skin_of, soles_of
from bridge.lgd.fitter import FitOptions, fit
from bridge.rotations import exp_so3, quaternion_to_matrix
from bridge.train.data import load_mocap, shared_mocap


def test_placement_finds_where_a_body_stands():
    random = np.random.default_rng(0)
    relative = random.normal(0, 0.5, (7, 12, 3))
    place = np.array([0.3, -0.2, 4.0])
    rays = (relative + place)[..., :2] / (relative + place)[..., 2:]
    assert np.abs(camera.place_by_reprojection(relative, rays, np.ones((7, 12))) - place).max() < 1e-6


def test_settling_keeps_a_steady_walk_and_crosses_a_gap_without_a_jump():
    rng = np.random.default_rng(0)
    times = np.arange(90) / 30
    truth = np.stack((0.3 * times, 0 * times, 5 - 0.8 * times), -1)
    relative = np.broadcast_to(rng.normal(0, 0.3, (1, 20, 3)), (90, 20, 3))
    placed = truth[:, None] + relative
    rays = placed[..., :2] / placed[..., 2:]
    confidence = np.ones((90, 20))
    confidence[40:55] = 0
    off = truth * (1 + 0.15 * np.exp(-(((np.arange(90) - 47) / 8) ** 2)))[:, None]
    settled = camera.settle(off, relative, rays, confidence, times)
    # The depth's logarithm bends, so a line in it is not quite one in depth.
    assert np.abs(settled - truth).max() < 0.05 and np.abs(settled[:38] - truth[:38]).max() < 0.02
    assert np.linalg.norm(np.diff(settled - truth, axis=0), axis=-1).max() < 0.01
    noisy = camera.settle(off, relative, rays + rng.normal(0, 0.003, rays.shape), np.ones((90, 20)), times)
    alone = camera.place_by_reprojection(relative, rays + rng.normal(0, 0.003, rays.shape), np.ones((90, 20)))
    jitter = [np.linalg.norm(np.diff(p - truth, 2, axis=0), axis=-1).mean() for p in (noisy, alone)]
    assert jitter[0] < 0.2 * jitter[1]
    # Two points close together tell no depth: what the network found holds.
    confidence[:] = 0
    confidence[:, :2] = 1
    close = np.broadcast_to(np.array([[[0.3, 0.2, 0.1], [0.31, 0.2, 0.1]]]), (90, 2, 3))
    relative = np.concatenate((close, relative[:, 2:]), 1)
    rays = (truth[:, None] + relative)[..., :2] / (truth[:, None] + relative)[..., 2:]
    poor = camera.settle(truth, relative, rays + rng.normal(0, 0.01, rays.shape), confidence, times)
    assert np.abs(np.log(poor[:, 2] / truth[:, 2])).max() < 0.8


def test_anchoring_holds_a_foot_at_rest_and_keeps_a_free_path():
    random = np.random.default_rng(1)
    frames = 90
    truth = np.stack((np.linspace(0, 1, frames), np.zeros(frames), np.full(frames, 4.0)), -1)
    feet = np.broadcast_to((-truth)[:, None], (frames, 4, 3)).copy()  # feet at rest at the world's origin
    noisy = truth + np.cumsum(random.normal(0, 0.01, truth.shape), 0)
    out = contact.anchor_root(noisy, feet, np.ones((frames, 4)), np.full((frames, 3), 0.1))
    slip = np.abs(np.diff(out - truth, axis=0)).mean()
    assert slip < 0.2 * np.abs(np.diff(noisy - truth, axis=0)).mean()
    free = contact.anchor_root(noisy, feet, np.zeros((frames, 4)), np.full((frames, 3), 0.1))
    assert np.abs(free - noisy).max() < 1e-6


def test_a_slope_in_the_estimated_gravity_is_taken_out_and_a_jump_is_not():
    along = np.linspace(0, 3, 200)
    sloped = np.stack((np.zeros(200), along, 0.1 * along), -1)
    level = sloped @ contact.level_ground(sloped, np.ones(200)).T
    assert np.ptp(level[:, 2]) < 0.03
    jump = np.stack((np.zeros(200), 0.1 * along, np.where(np.arange(200) % 40 < 8, 0.4, 0.0)), -1)
    assert np.abs(contact.level_ground(jump, np.ones(200)) - np.eye(3)).max() < 0.03
    stairs = np.stack((np.zeros(200), along, 0.17 * np.floor(along / 0.3)), -1)
    assert np.array_equal(contact.level_ground(stairs, np.ones(200)), np.eye(3))


def test_the_ground_under_a_walk_is_level_of_two_frames_a_second_too():
    for rate, count in ((30.0, 90), (2.0, 9)):
        times = np.arange(count) / rate
        pelvis = np.stack((0 * times, 0 * times, 4 + times), -1)  # away from the camera; the feet stand 0.85 m below it
        foot = np.round(pelvis[:, 2] * 1.5) / 1.5 - pelvis[:, 2]  # one rests for 0.67 s, then the other
        soles = np.stack((0 * foot, 0 * foot + 0.85, foot), -1)[:, None].repeat(4, 1)
        up = np.array([0.0, -1.0, 0.09])  # five degrees off
        world = ground_world(up / np.linalg.norm(up), pelvis, soles, np.ones(count, bool), times, None)
        heights = (soles[:, 0] + pelvis) @ world[2, :3] + world[2, 3]
        assert np.ptp(heights) < 0.1


def posed_body(pose: dict[int, tuple], frames: int = 60):
    """Joints (F, 24, 3) and soles (F, 4, 3) m, y up, of a body that holds a pose and sways."""
    model = BodyModel(load_body())
    turns = torch.zeros(frames, 24, 3)
    for joint, turn in pose.items():
        turns[:, joint] = torch.tensor(turn)
    turns[:, 3, 2] = 0.05 * torch.sin(torch.arange(frames) / 5)
    posed = model.shaped(torch.zeros(10), "smpl").posed(exp_so3(turns))
    return posed.joints.numpy().astype(float), soles_of(model, posed.joints.numpy().astype(float), posed.world.numpy().astype(float), np.zeros(10))


def test_gravity_is_where_the_body_is_balanced():
    """Who stands corrects what the picture tells of up; who sits or lies does not."""
    tilted = np.array([np.sin(np.radians(12)), np.cos(np.radians(12)), 0.0])
    touching = np.ones((60, 4))
    up, apart = contact.balanced_up(tilted, *posed_body({16: (0, 0, -1.2), 17: (0, 0, 1.2)}), touching)
    assert up[1] > np.cos(np.radians(6)) and np.radians(8) < apart < np.radians(16)
    legs = dict.fromkeys((1, 2), (-1.5, 0.0, 0.0)) | dict.fromkeys((4, 5), (1.5, 0.0, 0.0))
    up, apart = contact.balanced_up(tilted, *posed_body(legs), touching)
    assert np.allclose(up, tilted) and np.isnan(apart)
    up, apart = contact.balanced_up(np.array([0.0, 0.1, 1.0]), *posed_body({}), touching)  # straight legs, on the back
    assert up[2] > 0.99 and apart > 1.2
    assert np.isnan(contact.balanced_up(tilted, *posed_body({}), 0 * touching)[1])


def test_the_ground_is_where_feet_rest_whatever_some_frames_say():
    random = np.random.default_rng(3)
    frames = 150
    soles = np.zeros((frames, 4, 3))
    soles[..., 2] = random.normal(0.2, 0.015, (frames, 1)) + [0, 0, 0.15, 0.15]  # on the left foot
    soles[:12, :, 2] -= 0.5  # a person who comes into the picture, guessed far too near
    rest = np.tile([0.9, 0.9, 0.0, 0.0], (frames, 1))
    rest[:12] = 0
    seen = np.ones(frames, bool)
    assert contact.ground_height(soles, seen) < -0.2
    assert abs(contact.ground_height(soles, seen, rest) - 0.2) < 0.01
    soles[50:100, :, 2] += 0.17  # up a stair, and up another
    soles[100:, :, 2] += 0.34
    assert abs(contact.ground_height(soles, seen, rest) - 0.2) < 0.01
    assert contact.ground_height(soles, seen, np.zeros_like(rest)) == contact.ground_height(soles, seen)
    hour = np.tile(soles[20:21], (100_000, 1, 1)), np.ones(100_000, bool), np.tile(rest[20:21], (100_000, 1))
    assert abs(contact.ground_height(*hour) - soles[20, 0, 2]) < 1e-9  # no table of all frames against all


def test_the_ground_is_what_somebody_lies_on():
    frames = 60
    soles = np.full((frames, 4, 3), 0.12)  # of somebody on their back the feet's points are above it
    soles[:20, :, 2] = 0.02  # who stood before that
    rest, seen = np.ones((frames, 4)), np.ones(frames, bool)
    lies = np.where(np.arange(frames) < 20, np.inf, 0.0)
    assert contact.ground_height(soles, seen, rest) == 0.12
    assert contact.ground_height(soles, seen, rest, lies) < 0.021 and contact.ground_height(soles, seen, None, lies) == 0
    on_toes = np.where(np.arange(frames) < 20, 0.1, 0.3)  # what rests above the soles is no ground
    assert contact.ground_height(soles, seen, rest, on_toes) == contact.ground_height(soles, seen, rest)


def test_the_lowest_skin_is_found_and_how_it_moves():
    times = np.arange(20) / 30
    pelvis = np.stack((0 * times, 0.5 * times, 1 + 0 * times), -1)
    skin = np.zeros((20, 3, 3), np.float32)
    skin[:, 1, 2], skin[:, 2, 2] = -0.3, -0.2
    skin[:, 1, 1] = -0.5 * times  # rests, while the rest moves on
    place, speed = contact.lowest_skin(skin, pelvis, np.array([0.0, 0, 1]), times)
    assert np.allclose(place, [0, 0, 0.7], atol=1e-6) and speed.max() < 1e-4
    place, speed = contact.lowest_skin(skin, pelvis, np.array([0.0, 0, -1]), times)
    assert np.allclose(place, pelvis) and np.allclose(speed, 0.5)
    place, speed = contact.lowest_skin(skin[:1], pelvis[:1], np.array([0.0, 0, 1]), times[:1])
    assert abs(place[0, 2] - 0.7) < 1e-6 and speed[0] == 0


def test_the_skin_that_may_lie_on_the_ground_is_the_lowest_of_the_body():
    model = BodyModel(load_body())
    turns = torch.zeros(4, 24, 3)
    turns[1, 0] = torch.tensor([-1.5, 0.0, 0.0])  # on the back, on the belly, on hands and knees
    turns[2, 0] = torch.tensor([1.5, 0.0, 0.0])
    turns[3, 0] = torch.tensor([1.4, 0.0, 0.0])
    turns[2:, [7, 8], 0] = 1.2  # feet stretched
    turns[3, [1, 2], 0], turns[3, [4, 5], 0] = -1.4, 1.5
    turns[3, 16], turns[3, 17] = torch.tensor([0.0, -1.4, 0.0]), torch.tensor([0.0, 1.4, 0.0])
    rotations = exp_so3(turns)
    posed = model.shaped(torch.zeros(10), "smpl").posed(rotations)
    joints, axes = posed.joints.numpy().astype(float), posed.world.numpy().astype(float)
    skin, soles = skin_of(model, joints, axes, np.zeros(10)), soles_of(model, joints, axes, np.zeros(10))
    assert skin.dtype == np.float32 and 100 < skin.shape[1] < 250
    lowest = (model.vertices(rotations, torch.zeros(10), torch.zeros(4, 3)) - model.rest_joints(torch.zeros(10))[:1])[..., 1].amin(1).numpy()
    assert skin[0, :, 1].min() > soles[0, :, 1].max() + 0.05, "who stands stands on the soles"
    assert (skin[1:, :, 1].min(1) - lowest[1:]).max() < 0.03 < 0.05 < (soles[1:, :, 1].min(1) - lowest[1:]).min()


def filmed(model: BodyModel, lgd_data, name: str, frames: int | None = None, away: float = 4.0, roll: float = 0.0) -> tuple[Keypoints, np.ndarray]:
    """A clip's keypoints before a camera that looks down a little and is rolled by so much (rad), and what is up in its axes."""
    mocap = load_mocap(model, lgd_data)
    clip = np.load(shared_mocap(lgd_data), allow_pickle=False)["clip"].tolist().index(name)
    rows = slice(int(mocap.start[clip]), int(mocap.start[clip]) + min(int(mocap.length[clip]), frames or 10**9))
    rotations = quaternion_to_matrix(mocap.quats[rows])
    spin = exp_so3(torch.tensor([0.0, 0.9, 0.0]))
    tilt = exp_so3(torch.tensor([0.0, 0.0, roll])) @ exp_so3(torch.tensor([0.2, 0.0, 0.0])) @ torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    rotations[:, 0] = tilt @ spin @ rotations[:, 0]
    place = mocap.trans[rows] @ (tilt @ spin).T + exp_so3(torch.tensor([0.0, 0.0, roll])) @ torch.tensor([0.0, 0.3, away])
    posed = model.shaped(torch.zeros(10), "body25b").posed(rotations, place)
    points = (posed.points[..., :2] / posed.points[..., 2:] * 1500).numpy() + np.array([959.5, 539.5])
    points, confidence = from_internal(points, np.ones(points.shape[:2]), "body25b")
    return Keypoints(points[None], confidence[None], "body25b", (1920, 1080), fps=30.0), tilt[:, 1].numpy()


def test_who_climbs_does_not_lean_the_world(lgd_data):
    """Up and down what stands in a playground: steps are no slope, and what is level is not found anew on top of what was."""
    keypoints, up = filmed(BodyModel(load_body()), lgd_data, "01_07", 600, 7.0)
    motion = fit(keypoints, FitOptions(device="cpu", focal=1500.0))[0]
    assert motion.T_world_cam[2, :3] @ up > np.cos(np.radians(5))


def test_who_walks_is_upright_before_a_camera_on_its_side(lgd_data):
    for roll, off in ((np.pi / 2, 12), (np.pi, 5)):
        keypoints, up = filmed(BodyModel(load_body()), lgd_data, "07_05", 130, 8.0, roll)
        motion = fit(keypoints, FitOptions(device="cpu", focal=1500.0))[0]
        assert motion.T_world_cam[2, :3] @ up > np.cos(np.radians(off))
        assert motion.world_confidence < 0.1, "a guess all the same"


def test_who_lies_is_not_stood_up():
    """Straight legs with feet at rest: they stay where they are, or move along them."""
    body, touching = posed_body({}), np.ones((60, 4))
    up, along = np.array([0.0, 0.1, 1.0]) / np.sqrt(1.01), np.linspace(0, 3, 60)[:, None]
    for path in (np.zeros((60, 3)), along * [0, 1, 0], along * [0.3, 0.9, 0]):
        assert contact.balanced_up(up, *body, touching, path)[0] @ up > 0.99
    assert contact.balanced_up(up, *body, touching, along * [0.9, 0.1, 0])[0][1] > 0.99  # who walks


def test_who_crawls_and_who_sleeps_is_on_the_ground(lgd_data):
    model = BodyModel(load_body())
    for name in ("m2m_Crawl", "m2m_Sleeping"):
        motion = fit(filmed(model, lgd_data, name)[0], FitOptions(device="cpu", focal=1500.0))[0]
        poses = exp_so3(torch.as_tensor(motion.poses).float().unflatten(-1, (24, 3)))
        skin = model.vertices(poses, torch.as_tensor(motion.betas).float(), torch.as_tensor(motion.trans).float()).numpy()
        heights = skin @ motion.T_world_cam[2, :3] + motion.T_world_cam[2, 3]
        assert -0.045 < np.percentile(heights.min(1), 5) and np.median(heights.min(1)) < 0.05, name


def test_depth_is_corrected_until_the_feet_stand():
    random = np.random.default_rng(2)
    frames, up = 120, np.array([0.0, -0.94, -0.342])
    truth = np.array([0.0, 0.4, 4.0]) + np.linspace(0, 1, frames)[:, None] * np.cross(up, [1.0, 0, 0])
    soles = np.repeat((-0.9 * up)[None, None], frames, 0).repeat(4, 1)
    wander = 0.04 * np.sin(np.arange(frames) / 15)[:, None] + random.normal(0, 0.003, (frames, 1))
    seen = truth * (1 + wander)
    out = contact.stand_on_ground(seen, soles, up, None, np.arange(frames) / 30, np.ones(frames, bool))
    height = lambda path: np.std((path + soles[:, 0]) @ up)  # noqa: E731
    assert height(out) < 0.8 * height(seen)
    assert np.abs(np.cross(out, seen)).max() < 1e-9  # along the ray only


def test_times_that_hardly_rise_are_no_fault():
    path, soles = np.tile([0.0, 0.4, 4.0], (60, 1)), np.tile([0.0, 0.9, 0.0], (60, 4, 1))
    times = np.arange(60) / 30
    usual = contact.stand_on_ground(path, soles, np.array([0.0, -1, 0]), None, times, np.ones(60, bool))
    times[30] = np.nextafter(times[29], 1)
    assert np.allclose(contact.stand_on_ground(path, soles, np.array([0.0, -1, 0]), None, times, np.ones(60, bool)), usual)
