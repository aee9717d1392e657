# SPDX-License-Identifier: GPL-3.0-or-later
"""Planted feet: a made-up walk whose feet slide, float and sink, before and after; and the fit that is asked for it."""

import dataclasses

import pytest

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")

from scipy.spatial.transform import Rotation  # noqa: E402

from bridge import camera  # noqa: E402
from bridge.body.files import load_body  # noqa: E402
from bridge.body.smpl import BodyModel  # noqa: E402
from bridge.keypoints.formats import LAYOUTS, POINT_INDEX  # noqa: E402
from bridge.keypoints.tracks import Keypoints  # noqa: E402
from bridge.lgd import assemble  # noqa: E402
from bridge.lgd.assemble import with_planted_feet  # noqa: E402
from bridge.lgd.fitter import FitOptions, fit  # noqa: E402
from bridge.planting import plant_feet  # noqa: E402

FRAMES = 90
BODY = BodyModel(load_body())
REST = BODY.rest_joints(torch.zeros(10)).numpy().reshape(24, 3).astype(float)
SOLES = BODY.soles[0]


def turned(angles) -> np.ndarray:
    return Rotation.from_rotvec(angles).as_matrix()


def sways(amplitude: float = 0.02, lift: float = 0.0, frames: int = FRAMES, rate: float = 30.0):
    """Somebody who shifts their weight and bends their knees a little, feet `lift` above the ground and never quite still: rotations
    (F, 24, 3, 3), pelvis (F, 3), times (F)."""
    t = np.arange(frames) / rate
    angles = np.zeros((frames, 24, 3))
    bend = 0.35 + 0.15 * np.sin(3 * t)
    angles[:, [1, 2], 0] = -bend[:, None]
    angles[:, [4, 5], 0] = 2 * bend[:, None]
    angles[:, [7, 8], 0] = -bend[:, None] + 0.04 * np.sin(7 * t)[:, None]
    angles[:, 16, 2] = -1.0
    local = turned(angles.reshape(-1, 3)).reshape(frames, 24, 3, 3)
    local[:, 0] = Rotation.from_euler("x", 90, degrees=True).as_matrix()  # y up to z up
    pelvis = np.zeros((frames, 3))
    pelvis[:, 2] = lift - soles_of(local, pelvis)[..., 2].min(-1)
    pelvis += amplitude * np.stack((np.sin(2 * t), np.cos(2.6 * t), np.sin(5 * t)), 1)
    return local, pelvis, t


def posed(local: np.ndarray, pelvis: np.ndarray):
    return BODY.shaped(torch.zeros(10), "smpl").posed(torch.as_tensor(local).float(), torch.as_tensor(pelvis).float())


def soles_of(local: np.ndarray, pelvis: np.ndarray) -> np.ndarray:
    found = posed(local, pelvis)
    return assemble.soles_of(BODY, found.joints.numpy().astype(float), found.world.numpy().astype(float), np.zeros(10))


def sliding(soles: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(soles, axis=0), axis=-1).mean())


@pytest.mark.parametrize("rate", [30.0, 60.0])
def test_resting_feet_hold_still_on_the_ground(rate):
    local, pelvis, times = sways(rate=rate, frames=int(3 * rate))
    before = soles_of(local, pelvis)
    out, moved = plant_feet(local, pelvis, REST, SOLES, np.ones((len(times), 4)), times)
    after = soles_of(out, moved)
    assert sliding(before) > 0.02 / rate and np.abs(before[..., 2]).max() > 0.02
    assert sliding(after) < 0.005 / rate
    assert np.abs(after[..., 2]).max() < 0.003
    assert np.linalg.norm(after - before, axis=-1).max() < 0.1  # where they stood already


def test_only_the_legs_are_bent_and_the_root_moves_little():
    local, pelvis, times = sways()
    out, moved = plant_feet(local, pelvis, REST, SOLES, np.ones((FRAMES, 4)), times)
    rest = [j for j in range(24) if j not in (1, 2, 4, 5, 7, 8)]
    assert np.array_equal(out[:, rest], local[:, rest])
    assert np.allclose(out @ out.transpose(0, 1, 3, 2), np.eye(3), atol=1e-9) and np.allclose(np.linalg.det(out), 1)
    assert np.linalg.norm(moved - pelvis, axis=-1).max() < 0.06
    # Knees stay in front of the line from hip to ankle.
    joints = posed(out, moved).joints.numpy()
    for hip, knee, ankle in ((1, 4, 7), (2, 5, 8)):
        middle = (joints[:, hip] + joints[:, ankle]) / 2
        assert ((joints[:, knee] - middle)[:, 1] < -0.02).all()  # the body looks along -y


def test_what_rests_on_nothing_stays_as_it_is():
    local, pelvis, times = sways()
    out, moved = plant_feet(local, pelvis, REST, SOLES, np.zeros((FRAMES, 4)), times)
    assert np.array_equal(out, local) and np.array_equal(moved, pelvis)
    out, moved = plant_feet(local[:2], pelvis[:2], REST, SOLES, np.ones((2, 4)), times[:2])
    assert np.array_equal(out, local[:2])


def test_a_step_is_stood_on_and_not_left_for_the_ground():
    local, pelvis, times = sways(amplitude=0.005, lift=0.3)
    out, moved = plant_feet(local, pelvis, REST, SOLES, np.ones((FRAMES, 4)), times)
    after = soles_of(out, moved)
    assert sliding(after) < 0.0005 and np.abs(after[..., 2] - 0.3).max() < 0.01


@pytest.mark.parametrize("lift, stands", [(0.03, 0.0), (0.055, 0.0), (0.07, 0.0), (0.1, 0.1), (-0.06, 0.0)])
def test_a_foot_stands_on_the_ground_or_on_a_step_and_not_between(lift, stands):
    local, pelvis, times = sways(amplitude=0.002, lift=lift)
    after = soles_of(*plant_feet(local, pelvis, REST, SOLES, np.ones((FRAMES, 4)), times))
    assert abs(np.median(after[..., 2]) - stands) < 0.01


def on_tiptoe(share: np.ndarray):
    """Somebody who stands on the toes to a share (F) in [0, 1], heels 6 cm up at 1: as `sways`."""
    local, pelvis, times = bent(0.3, 0.3)
    turn = np.outer(np.radians(48) * share, [1, 0, 0])
    local[:, [7, 8]] = local[:, [7, 8]] @ turned(turn)[:, None]
    local[:, [10, 11]] = local[:, [10, 11]] @ turned(-turn)[:, None]
    pelvis[:, 2] -= soles_of(local, pelvis)[..., 2].min(-1)
    return local, pelvis, times


@pytest.mark.parametrize("toes", [1.0, 0.3])
def test_who_stands_on_tiptoe_keeps_the_heels_up(toes):
    """The network calls a heel that keeps still at rest, whatever it is on. toes: their contact, for some frames."""
    local, pelvis, times = on_tiptoe(np.ones(FRAMES))
    pelvis[:, 2] += 0.02
    contacts = np.ones((FRAMES, 4))
    contacts[:5, [1, 3]] = contacts[44:46, [1, 3]] = toes
    before = soles_of(local, pelvis)
    after = soles_of(*plant_feet(local, pelvis, REST, SOLES, contacts, times))
    raised = lambda soles: soles[5:, [0, 2], 2] - soles[5:, [1, 3], 2]  # noqa: E731
    assert np.ptp(after[:, [0, 2], 2]) < 0.004
    assert 0.05 < raised(before).min() < 0.08 and np.abs(raised(after) - raised(before)).max() < 0.005
    assert np.abs(after[5:, [1, 3], 2]).max() < 0.003


def test_steps_of_nearly_one_height_are_taken_on_one_level():
    """Of somebody whose floor lies some 8 cm off the world's ground, as a further person's may; each foothold is off by a centimetre."""
    local, pelvis, times = bent(0.4, 0.4)
    holds, contacts = np.arange(FRAMES) // 15, np.ones((FRAMES, 4))
    contacts[np.arange(FRAMES) % 15 < 3] = 0
    pelvis[:, 2] += np.array([0.068, 0.092, 0.074, 0.086, 0.07, 0.09])[holds]
    after = soles_of(*plant_feet(local, pelvis, REST, SOLES, contacts, times))[..., 2]
    stands = [np.median(after[(holds == hold) & (contacts[:, 0] > 0)]) for hold in range(6)]
    assert np.ptp(stands) < 0.03


@pytest.mark.parametrize("rises", [30, 60])
def test_who_goes_up_on_tiptoe_stood_flat_before_and_stays_up(rises):
    """With heels that the network calls at rest throughout, as it does."""
    local, pelvis, times = on_tiptoe(1 / (1 + np.exp((rises - np.arange(FRAMES)) / 3)))
    before = soles_of(local, pelvis)
    after = soles_of(*plant_feet(local, pelvis, REST, SOLES, np.ones((FRAMES, 4)), times))
    assert np.abs(after[: rises - 12, :, 2]).max() < 0.004
    assert np.abs(after[rises + 12 :, [0, 2], 2] - before[rises + 12 :, [0, 2], 2]).max() < 0.006
    assert np.abs(after[..., 2] - before[..., 2]).max() < 0.025
    assert np.abs(np.diff(after[..., 2], 2, axis=0)).max() < 1.8 * np.abs(np.diff(before[..., 2], 2, axis=0)).max()


def test_a_heel_on_a_step_stays_there_with_the_toes_over_its_edge():
    local, pelvis, times = bent(0.3, 0.3)
    local[:, [7, 8]] = local[:, [7, 8]] @ turned([np.radians(40), 0, 0])
    pelvis[:, 2] += 0.2 - soles_of(local, pelvis)[:, [0, 2], 2].min()
    before = soles_of(local, pelvis)
    after = soles_of(*plant_feet(local, pelvis, REST, SOLES, np.tile([1.0, 0, 1.0, 0], (FRAMES, 1)), times))
    assert (before[:, 0, 2] - before[:, 1, 2]).min() > 0.05 and np.abs(after - before).max() < 0.005


def test_a_foot_comes_down_and_leaves_without_a_jerk():
    local, pelvis, times = sways(amplitude=0.01)
    lifted = np.clip(np.sin(np.linspace(0, 3 * np.pi, FRAMES)), 0, 1) ** 2  # the left foot steps twice
    angles = np.zeros((FRAMES, 3))
    angles[:, 0] = -0.6 * lifted
    local[:, 1] = local[:, 1] @ turned(angles)
    local[:, 4] = local[:, 4] @ turned(-2 * angles)
    contacts = np.ones((FRAMES, 4))
    contacts[:, :2] = np.clip(1 - 20 * lifted, 0, 1)[:, None]
    before = soles_of(local, pelvis)
    out, moved = plant_feet(local, pelvis, REST, SOLES, contacts, times)
    after = soles_of(out, moved)
    rests = (contacts[1:] > 0.9) & (contacts[:-1] > 0.9)
    assert np.linalg.norm(np.diff(after, axis=0), axis=-1)[rests].mean() < 0.0005
    in_the_air = lifted > 0.3
    assert np.linalg.norm(after - before, axis=-1)[in_the_air, :2].max() < 0.06
    peak = lambda points: np.linalg.norm(np.diff(points, 2, axis=0), axis=-1).max() * 900  # noqa: E731
    assert peak(after) < 1.3 * peak(before) + 2
    assert after[..., 2].min() > -0.004


def test_feet_do_not_sink_where_they_are_not_claimed():
    local, pelvis, times = sways(amplitude=0.0)
    contacts = np.ones((FRAMES, 4))
    contacts[30:60, :2] = 0
    local[35:55, 7] = local[35:55, 7] @ turned([0.15, 0, 0])  # the toes point down, through the ground
    before = soles_of(local, pelvis)
    after = soles_of(*plant_feet(local, pelvis, REST, SOLES, contacts, times))
    assert before[..., 2].min() < -0.02 and after[..., 2].min() > -0.0045


@pytest.mark.parametrize("stretched, depth, left", [(0.3, 0.076, 0.0), (0.36, 0.09, 0.014), (0.405, 0.1, 0.05), (0.6, 0.137, 0.137)])
def test_a_foot_that_goes_far_below_the_ground_is_not_raised_on_its_way_there_alone(stretched, depth, left):
    """An unclaimed foot that goes down and comes up again is raised wholly, in part or not at all, and without a bump."""
    local, pelvis, times = bent(1.4, 1.4)
    contacts = np.ones((FRAMES, 4))
    contacts[20:70, :2] = 0
    share = np.zeros(FRAMES)
    share[25:65] = np.sin(np.linspace(0, np.pi, 40)) ** 2
    for joint, part in ((1, 0.5), (4, -1), (7, 0.5)):
        local[:, joint] = local[:, joint] @ turned(np.outer(part * stretched * share, [1, 0, 0]))
    before = soles_of(local, pelvis)[:, :2, 2]
    after = soles_of(*plant_feet(local, pelvis, REST, SOLES, contacts, times))[:, :2, 2]
    assert abs(before.min() + depth) < 0.001 and abs(after.min() + left) < 0.004
    assert np.abs(np.diff(after, 2, axis=0)).max() < 1.05 * np.abs(np.diff(before, 2, axis=0)).max()


@pytest.mark.parametrize("contact", [0.502, 0.51, 0.52])
def test_feet_do_not_sink_where_they_are_hardly_claimed(contact):
    local, pelvis, times = bent(0.4, 0.4)
    pelvis[:, 2] -= 0.05
    contacts = np.ones((FRAMES, 4))
    contacts[:, :2] = contact
    assert soles_of(*plant_feet(local, pelvis, REST, SOLES, contacts, times))[..., 2].min() > -0.0045


def knees(joints: np.ndarray) -> np.ndarray:
    """By how many degrees (F, 2) each knee is bent."""
    thigh, shin = joints[:, [4, 5]] - joints[:, [1, 2]], joints[:, [7, 8]] - joints[:, [4, 5]]
    cosine = (thigh * shin).sum(-1) / np.linalg.norm(thigh, axis=-1) / np.linalg.norm(shin, axis=-1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def bent(left: float, right: float, ahead: float = 0.0, frames: int = FRAMES):
    """Somebody who stands still, knees bent by so much (rad), the right leg `ahead` (rad), the lower sole on the ground: as `sways`."""
    angles = np.zeros((frames, 24, 3))
    angles[:, [1, 2, 4, 5, 7, 8], 0] = np.array([-left, -right, 2 * left, 2 * right, -left, -right]) / 2
    angles[:, 2, 0], angles[:, 8, 0] = angles[:, 2, 0] - ahead, angles[:, 8, 0] + ahead
    local = turned(angles.reshape(-1, 3)).reshape(frames, 24, 3, 3)
    local[:, 0] = Rotation.from_euler("x", 90, degrees=True).as_matrix()
    pelvis = np.zeros((frames, 3))
    pelvis[:, 2] = -soles_of(local, pelvis)[..., 2].min(-1)
    return local, pelvis, np.arange(frames) / 30


def test_no_knee_snaps_straight_for_a_foot_that_comes_down():
    """A foot that rests 7 cm too high, half a stride ahead, is brought down by the root as well and not by stretching its knee."""
    local, pelvis, times = bent(*np.radians([16, 34, 20]))
    contacts = np.ones((FRAMES, 4))
    contacts[45:, 2:] = 0
    assert 0.06 < soles_of(local, pelvis)[0, 2:, 2].min() < 0.08
    out, moved = plant_feet(local, pelvis, REST, SOLES, contacts, times)
    after = knees(posed(out, moved).joints.numpy())
    assert np.abs(soles_of(out, moved)[:45, 2:, 2]).max() < 0.003
    assert after[:, 1].min() > 12 and np.abs(np.diff(after, 2, axis=0)).max() < 4


def test_an_overstretched_knee_is_bent_forward():
    local, pelvis, times = bent(-0.14, -0.1)
    pelvis[:, 2] -= 0.03
    out, moved = plant_feet(local, pelvis, REST, SOLES, np.ones((FRAMES, 4)), times)
    found = posed(out, moved)
    joints, forward = found.joints.numpy(), found.world[:, [1, 2], :, 2].numpy()
    front = ((joints[:, [4, 5]] - (joints[:, [1, 2]] + joints[:, [7, 8]]) / 2) * forward).sum(-1)
    assert front.min() > 0.01 and np.abs(np.diff(front, axis=0)).max() < 0.003


def test_a_leg_held_out_level_does_not_pull_the_root_down():
    """The standing leg's slide takes the hip a little away from a leg that is held straight out to the front."""
    local, pelvis, times = bent(np.radians(20), np.radians(2), ahead=np.radians(80))
    pelvis[:, 1] += 0.03 * np.sin(2 * times)
    contacts = np.zeros((FRAMES, 4))
    contacts[:, :2] = 1
    moved = plant_feet(local, pelvis, REST, SOLES, contacts, times)[1]
    assert np.abs(moved - pelvis)[:, 2].max() < 0.03


def test_feet_that_do_not_stand_on_their_soles_are_not_turned_onto_them():
    """Of somebody who lies on the back or stands on the hands, with contacts that are wrong."""
    for turn in (np.eye(3), turned([-np.pi / 2, 0, 0])):
        local, pelvis, times = bent(0.1, 0.1)
        local[:, 0] = turn
        pelvis += 0.01 * np.sin(3 * times)[:, None] + [0, 0, 1]
        out, moved = plant_feet(local, pelvis, REST, SOLES, np.ones((FRAMES, 4)), times)
        feet = [posed(*motion).world[:, [7, 8]].numpy() for motion in ((local, pelvis), (out, moved))]
        assert np.degrees(np.linalg.norm(feet[1] - feet[0], axis=(-2, -1))).max() < 15
        assert np.linalg.norm(moved - pelvis, axis=-1).max() < 0.04


@pytest.mark.parametrize("speed, held", [(0.02, True), (0.2, False), (0.3, False)])
def test_feet_that_slide_far_are_not_held_whatever_their_contacts_say(speed, held):
    local, pelvis, times = sways(amplitude=0.01, frames=180)
    pelvis[:, 0] += speed * times
    out, moved = plant_feet(local, pelvis, REST, SOLES, np.ones((180, 4)), times)
    off = np.linalg.norm(soles_of(out, moved) - soles_of(local, pelvis), axis=-1)
    assert off.max() < 0.2 and np.linalg.norm(moved - pelvis, axis=-1).max() < 0.2
    if held:
        assert sliding(soles_of(out, moved)) < 0.0005


def test_who_stands_elsewhere_after_a_pause_is_left_there():
    local, pelvis, times = sways()
    pelvis[45:, 0] += 1.0
    times[45:] += 5.0
    contacts = np.ones((FRAMES, 4))
    out, moved = plant_feet(local, pelvis, REST, SOLES, contacts, times)
    assert np.linalg.norm(moved - pelvis, axis=-1).max() < 0.06
    for part in (slice(0, 45), slice(45, None)):
        assert np.array_equal(out[part], plant_feet(local[part], pelvis[part], REST, SOLES, contacts[part], times[part])[0])
        assert sliding(soles_of(out, moved)[part]) < 0.0005


@pytest.mark.parametrize("degrees, left", [(15, 0), (60, 60)])
def test_a_tipped_foot_is_laid_flat_and_one_on_its_edge_stays_there(degrees, left):
    local, pelvis, times = bent(0.4, 0.4)
    local[:, 7] = local[:, 7] @ turned([0, 0, np.radians(degrees)])
    pelvis[:, 2] -= soles_of(local, pelvis)[:, :2, 2].min()
    up = posed(*plant_feet(local, pelvis, REST, SOLES, np.tile([1.0, 1.0, 0.0, 0.0], (FRAMES, 1)), times)).world[:, 7, 2, 1].numpy()
    assert np.abs(np.degrees(np.arccos(np.clip(up, -1, 1))) - left).max() < 4


@pytest.fixture(scope="module")
def filmed():
    """Keypoints of the swaying body before a level camera, and the camera."""
    local, pelvis, times = sways(amplitude=0.02)
    world = np.eye(4)
    world[:3, :3] = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # the camera's z is the world's y
    world[:3, 3] = [0, -4, 1]
    K = camera.camera_matrix(1100.0, 1280, 720)
    found = BODY.shaped(torch.zeros(10), "coco17").posed(torch.as_tensor(local).float(), torch.as_tensor(pelvis).float())
    points = (found.points.numpy() - world[:3, 3]) @ world[:3, :3]
    internal = LAYOUTS["coco17"].internal
    confidence = np.where(internal >= 0, 0.9, 0.0)[None].repeat(FRAMES, 0)
    return Keypoints(camera.project(points, K)[:, np.maximum(internal, 0)][None], confidence[None], "coco17", (1280, 720), fps=30.0), world


@pytest.mark.parametrize("moving", [False, True])
def test_a_fit_is_planted_by_name_alone(filmed, moving):
    keypoints, world = filmed
    options = FitOptions(focal=1100.0, T_world_cam=np.repeat(world[None], FRAMES, 0) if moving else None)
    plain = fit(keypoints, options)[0]
    planted = fit(keypoints, dataclasses.replace(options, plant_feet=True))[0]
    again = with_planted_feet(plain, BODY)
    assert planted.feet_planted and not plain.feet_planted
    none = dataclasses.replace(plain, contacts=np.zeros_like(plain.contacts))
    assert with_planted_feet(none, BODY) is none
    assert np.allclose(planted.poses, again.poses, atol=1e-5) and np.allclose(planted.trans, again.trans, atol=1e-5)
    assert (planted.contacts > 0.5).mean() > 0.5
    assert np.abs(planted.poses - plain.poses).max() > 0.005
    # The body stays where it was, and stands on the world's ground.
    for name in ("joints", "keypoints_3d"):
        assert np.nanmax(np.abs(getattr(planted, name) - getattr(plain, name))) < 0.1
    T = np.broadcast_to(planted.T_world_cam, (FRAMES, 4, 4))
    heights = np.einsum("fa,fka->fk", T[:, 2, :3], assemble.soles_of(BODY, planted.joints, exact(planted), planted.betas)) + T[:, 2, 3:]
    assert np.abs(heights[planted.contacts > 0.9]).max() < 0.005
    # The file hangs together: joints and error are those of the poses.
    rotations = torch.as_tensor(turned(planted.poses.reshape(-1, 3)).reshape(-1, 24, 3, 3)).float()
    shaped = BODY.shaped(torch.as_tensor(planted.betas).float(), "coco17")
    found = shaped.posed(rotations, torch.as_tensor(planted.joints[:, 0]).float())
    assert np.abs(found.joints.numpy() - planted.joints).max() < 1e-4
    error = np.linalg.norm(camera.project(planted.keypoints_3d, planted.cam_K) - keypoints.keypoints[0], axis=-1)
    assert np.allclose(error.mean(-1), planted.reprojection_px, atol=0.05)
    feet = lambda m: assemble.soles_of(BODY, m.joints, exact(m), m.betas)  # noqa: E731
    rests = (plain.contacts[1:] > 0.8) & (plain.contacts[:-1] > 0.8)
    slide = [np.linalg.norm(np.diff(feet(m), axis=0), axis=-1)[rests].mean() for m in (plain, planted)]
    assert slide[1] < 0.0005 and slide[1] < slide[0]


@pytest.mark.parametrize("fps", [6.0, 30.0])
def test_who_seems_to_come_and_go_on_resting_feet_stays_and_lies_over_the_person(monkeypatch, fps):
    """The feet rest, the picture grows and shrinks by 3 %, as detectors' people do: also of slow footage, which claims no contacts."""
    local, pelvis, _ = sways(amplitude=0.0, frames=60, rate=fps)
    found = BODY.shaped(torch.zeros(10), "coco17").posed(torch.as_tensor(local).float(), torch.as_tensor(pelvis).float())
    points = found.points.numpy() @ np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]) + [0, 1, 4]
    internal = LAYOUTS["coco17"].internal
    pixels = camera.project(points, camera.camera_matrix(1100.0, 1280, 720))[:, np.maximum(internal, 0)]
    middle = pixels.mean((0, 1))
    pixels = middle + (pixels - middle) * (1 + 0.03 * np.sin(np.arange(60) * 7.5 / fps))[:, None, None]
    confidence = np.where(internal >= 0, 0.9, 0.0)[None].repeat(60, 0)
    keypoints = Keypoints(pixels[None], confidence[None], "coco17", (1280, 720), fps=fps)
    held = fit(keypoints, FitOptions(focal=1100.0))[0]
    monkeypatch.setattr(assemble, "_anchored", lambda pelvis, *rest: pelvis)
    free = fit(keypoints, FitOptions(focal=1100.0))[0]
    wanders = [float(np.ptp(m.joints[:, [7, 8], 2], axis=0).mean()) for m in (held, free)]
    assert wanders[0] < 0.5 * wanders[1] and wanders[1] > 0.1
    assert np.nanmedian(held.reprojection_px) < np.nanmedian(free.reprojection_px) + 2.6
    assert (held.contacts > 0.5).any() == (fps > 15)


def test_flat_feet_are_seen_flat():
    """Where detectors see heels and ankles, above the soles, lets no flat foot's toes point down."""
    for layout in ("body25b", "blazepose33"):
        found = BODY.shaped(torch.zeros(10), layout).posed(torch.eye(3).repeat(1, 24, 1, 1))
        heights = found.points[0, :, 1].numpy()
        for side in ("left", "right"):
            heel, toe, ankle = (heights[POINT_INDEX[f"{side}_{name}"]] for name in ("heel", "big_toe", "ankle"))
            assert 0.02 < heel - toe < 0.06 and ankle > heel + 0.02


def exact(motion) -> np.ndarray:
    rotations = torch.as_tensor(turned(motion.poses.reshape(-1, 3)).reshape(-1, 24, 3, 3)).float()
    return BODY.shaped(torch.as_tensor(motion.betas).float(), "smpl").posed(rotations).world.numpy()
