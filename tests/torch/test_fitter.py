# SPDX-License-Identifier: GPL-3.0-or-later
"""The fitter on keypoints projected from known motion, with the weights that ship."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from bridge import camera, contact, handlers, remarks
from bridge.body.files import load_body
from bridge.body.smpl import BodyModel
from bridge.errors import LgdError
from bridge.keypoints.formats import LAYOUTS, to_internal
from bridge.keypoints.repair import relabelled
from bridge.keypoints.tracks import Keypoints, rate_beside_pauses
from bridge.lgd import checkpoint, fitter, solve_video
from bridge.lgd.checkpoint import available_weights, load_network
from bridge.lgd.fitter import FitOptions, fit
from bridge.lgd.resample import is_slow, to_rate, without_pauses
from bridge.motion import Motion
from bridge.rotations import exp_so3
from bridge.server import Task
from bridge.train.metrics import pa_mpjpe

SIZE, FOCAL = (1280, 720), 1100.0
LIMBS = [1, 2, 4, 5, 7, 8, 16, 17, 18, 19, 20, 21]


def waving(frames: int = 60, fps: float = 30.0, layout: str = "coco17", depth: float = 4.0, across: float = 0.1):
    """A body that waves and squats a little on its feet, half turned from a level camera, `across` m to the right of its axis:
    Keypoints and joints (F, 24, 3) m."""
    model = BodyModel(load_body())
    t = torch.arange(frames) / fps
    bend = 0.4 + 0.3 * torch.sin(2 * t)
    pose = torch.zeros(frames, 24, 3)
    pose[:, 16, 2], pose[:, 17, 2] = -1.1, 1.1
    pose[:, 18, 1] = -0.8 - 0.5 * torch.sin(3 * t)
    pose[:, 1, 0] = pose[:, 2, 0] = pose[:, 7, 0] = pose[:, 8, 0] = -bend
    pose[:, 4, 0] = pose[:, 5, 0] = 2 * bend
    rotations = exp_so3(pose)
    rotations[:, 0] = exp_so3(torch.tensor([torch.pi, 0, 0])) @ exp_so3(torch.tensor([0, 0.6, 0]))  # camera axes: y down
    rotations[:, 0] = exp_so3(torch.tensor([0, np.arctan2(across, depth), 0]).float()) @ rotations[:, 0]
    shaped = model.shaped(torch.zeros(10), layout)
    ankles = shaped.posed(rotations).joints[:, [7, 8]].mean(1)
    posed = shaped.posed(rotations, torch.tensor([across, 0.85, depth]) - ankles)
    pixels = camera.project(posed.points.numpy(), camera.camera_matrix(FOCAL, *SIZE))
    internal = LAYOUTS[layout].internal
    points = pixels[:, np.maximum(internal, 0)]
    confidence = np.where(internal >= 0, 0.9, 0.0)[None].repeat(frames, 0)
    return Keypoints(points[None], confidence[None], layout, SIZE, fps=fps), posed.joints


def pa(motion: Motion, joints: torch.Tensor) -> float:
    return float(pa_mpjpe(torch.as_tensor(motion.joints).float()[:, LIMBS], joints[:, LIMBS]).mean())


@pytest.mark.parametrize("mode", ["video", "paper"])
def test_recovers_a_known_motion(mode):
    keypoints, joints = waving()
    motion, _ = fit(keypoints, FitOptions(mode=mode, focal=FOCAL))
    assert pa(motion, joints) < (30 if mode == "video" else 40)
    assert np.nanmedian(motion.reprojection_px) < 20
    assert motion.focal_source == "given" and motion.mode == mode
    depth = motion.joints[:, 0, 2]
    assert abs(np.median(depth) - 4.0) < 0.6


@pytest.mark.parametrize("mode", ["video", "paper"])
def test_a_person_beside_the_middle_of_the_image_is_not_turned_by_the_ray(mode):
    error = []
    for across in (0.0, -1.8):
        keypoints, joints = waving(30, across=across)
        motion, trace = fit(keypoints, FitOptions(mode=mode, focal=FOCAL, trace=mode == "paper"))
        off = torch.as_tensor(motion.joints).float() - joints
        error.append(float((off - off[:, :1]).norm(dim=-1).mean()))
        if trace:
            assert np.allclose(trace["poses"][-1], motion.poses, atol=1e-4)
    assert error[1] < error[0] + 0.03, error  # 24 degrees about the pelvis are 0.2 m at a hand


def test_steps_lower_the_reprojection_error_and_the_trace_keeps_each():
    keypoints, _ = waving()
    told = []
    motion, trace = fit(keypoints, FitOptions(mode="paper", focal=FOCAL, trace=True), lambda *progress: told.append(progress))
    assert ("fit", 60, 60) in told, "short takes stood at 0 of 60"
    errors = trace["reprojection"].mean(1)
    assert trace["poses"].shape == (4, 60, 72) and trace["trans"].shape == (4, 60, 3)
    assert errors[3] < errors[0]
    assert np.allclose(trace["poses"][-1], motion.poses, atol=1e-4)
    assert motion.betas_per_frame.shape == (60, 10)


def test_same_input_gives_equal_arrays():
    keypoints, _ = waving(20)
    a, _ = fit(keypoints, FitOptions())
    b, _ = fit(keypoints, FitOptions())
    for name in ("poses", "trans", "betas", "joints", "contacts"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name


def test_motion_survives_its_file(tmp_path):
    keypoints, _ = waving(12)
    motion, _ = fit(keypoints, FitOptions(focal=FOCAL))
    motion.save(tmp_path / "motion.npz")
    again = Motion.load(tmp_path / "motion.npz")
    assert np.allclose(again.poses, motion.poses, atol=1e-6) and again.layout == motion.layout
    assert again.keypoints_3d.shape == (12, 17, 3)
    model = BodyModel(load_body())
    pelvis = model.rest_joints(torch.as_tensor(again.betas))[0] + torch.as_tensor(again.trans)
    posed = model.shaped(torch.as_tensor(again.betas), "smpl").posed(
        exp_so3(torch.as_tensor(again.poses).reshape(-1, 24, 3)), pelvis
    )
    assert np.abs(posed.joints.numpy() - again.joints).max() < 1e-4


def test_world_has_the_feet_on_the_ground_and_up_up():
    keypoints, _ = waving(90)
    motion, _ = fit(keypoints, FitOptions(focal=FOCAL))
    turn, shift = motion.T_world_cam[:3, :3], motion.T_world_cam[:3, 3]
    joints = motion.joints @ turn.T + shift
    assert joints[:, 15, 2].mean() - joints[:, 7, 2].mean() > 1.0
    assert abs(joints[:, [7, 8], 2].min() - 0.07) < 0.12
    assert np.allclose(joints[0, 0, :2], 0, atol=1e-4)
    assert abs(turn[0, 2]) < 1e-6 and turn[1, 2] > 0


def test_given_shape_and_given_camera_are_kept():
    keypoints, _ = waving(15)
    world = np.eye(4)
    world[:3, :3] = contact.world_from_up(np.array([0.0, -1, 0]))
    world[:3, 3] = (1, 2, 1.5)
    betas = np.linspace(-1, 1, 10).astype(np.float32)
    motion, _ = fit(keypoints, FitOptions(focal=FOCAL, T_world_cam=world, betas=betas))
    assert np.array_equal(motion.T_world_cam, world) and np.allclose(motion.betas, betas)
    assert motion.world_confidence == 1.0


def test_slow_footage_claims_no_contacts_and_keeps_every_frame():
    keypoints, _ = waving(20, fps=5.0)
    motion, _ = fit(keypoints, FitOptions(focal=FOCAL))
    assert motion.frames == 20 and not motion.contacts.any()


def test_sixty_frames_a_second_give_every_frame_a_pose():
    keypoints, joints = waving(120, fps=60.0)
    motion, _ = fit(keypoints, FitOptions(focal=FOCAL))
    assert motion.frames == 120
    assert pa(motion, joints) < 30


@pytest.mark.parametrize("frames", [99, 100])
def test_the_last_frame_at_sixty_a_second_moves_as_the_others(frames):
    """It lay beyond the frames at which motion is solved, and repeated the one before."""
    keypoints, _ = waving(frames, fps=60.0)
    moved = np.linalg.norm(np.diff(fit(keypoints, FitOptions(focal=FOCAL))[0].poses, axis=0), axis=-1)
    assert moved[-1] > 0.3 * np.median(moved[-6:-1])


def test_footage_with_a_pause_is_not_slow():
    keypoints, _ = waving(40)
    times = np.arange(40) / 30 + np.where(np.arange(40) > 20, 3600.0, 0.0)
    assert fit(dataclasses.replace(keypoints, frame_times=times), FitOptions(focal=FOCAL))[0].contacts.max() > 0.5
    bursts = np.arange(60) + 3600 * (np.arange(60) // 10)  # of a camera that motion starts
    assert not is_slow(bursts / 30) and is_slow(bursts / 12) and rate_beside_pauses(bursts / 12) == pytest.approx(12)
    assert is_slow(np.arange(30) / 12) and not is_slow(np.arange(30) * 1.001 / 15) and not is_slow(np.zeros(1))


def test_exchanged_labels_are_fitted_written_and_measured_as_put_right():
    keypoints, joints = waving(60)
    swapped = dataclasses.replace(keypoints, keypoints=keypoints.keypoints.copy())
    swapped.keypoints[:, 25:33] = keypoints.keypoints[:, 25:33][:, :, LAYOUTS["coco17"].mirror]
    motion = fit(swapped, FitOptions(focal=FOCAL))[0]
    assert np.array_equal(motion.keypoints, keypoints.keypoints[0].astype(motion.keypoints.dtype))
    assert motion.reprojection_px[25:33].max() < 3 * motion.reprojection_px[:20].max()


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_labels_are_exchanged_in_the_layout_as_among_the_internal_points(layout):
    own = LAYOUTS[layout]
    points = np.random.default_rng(0).uniform(0, 99, (1, 3, own.count, 2))
    keypoints = Keypoints(points, np.ones((1, 3, own.count)), layout, SIZE, fps=30.0)
    found = relabelled(keypoints, np.array([0, 7, 4])).keypoints[0]
    assert np.array_equal(found[0], points[0, 0].astype(found.dtype)) and np.array_equal(found[1], points[0, 1, own.mirror].astype(found.dtype))
    legs = np.array([any(part in name for part in ("knee", "ankle", "toe", "heel")) and "foot" not in name for name in own.names])
    assert np.array_equal(found[2][legs], points[0, 2, own.mirror][legs].astype(found.dtype))
    assert np.array_equal(found[2][~legs], points[0, 2][~legs].astype(found.dtype))


def test_who_does_not_stand_on_the_first_ones_ground_is_told():
    keypoints, _ = waving()
    motion = fit(keypoints, FitOptions(focal=FOCAL, device="cpu"))[0]
    assert remarks.off_the_ground(motion) is None
    motion.T_world_cam = motion.T_world_cam.copy()
    motion.T_world_cam[2, 3] -= 0.8
    assert "stands 0.8 m below the first person's ground" in remarks.off_the_ground(motion)


def test_a_body_off_the_person_is_told():
    motion = fit(waving(20)[0], FitOptions(focal=FOCAL))[0]
    assert remarks.off_the_person(motion) is None
    motion.reprojection_px = motion.reprojection_px + 100
    assert "lies off the person by" in remarks.off_the_person(motion)
    motion.confidence = 0 * motion.confidence
    assert remarks.off_the_person(motion) is None


def test_a_solve_from_points_in_another_order_than_they_are_read_in_is_told(tmp_path):
    """BODY_25B's, whose folder does not say so."""
    points = waving(20, layout="body25b")[0]
    rows = np.concatenate([points.keypoints[0], points.confidence[0, ..., None]], -1).astype(float)
    for name, told in (("plain", True), ("body_25b", False)):
        (tmp_path / name).mkdir()
        for t, row in enumerate(rows):
            file = tmp_path / name / f"{t:06d}_keypoints.json"
            file.write_text(json.dumps({"people": [{"pose_keypoints_2d": row.ravel().tolist()}]}))
        sent = []
        request = {"id": 1, "keypoints": str(tmp_path / name), "image_size": [1280, 720], "fps": 30.0, "out": str(tmp_path / name)}
        handlers.fit(request, Task(request, sent.append))
        warnings = [event["text"] for event in sent if event["type"] == "warning"]
        about = [text for text in warnings if "lies off the person" in text]
        assert bool(about) == told, warnings
        assert not told or "read as body25, fit no body" in about[0] and "layout may be another" in about[0] and "BODY_25B" in about[0]


def test_nothing_seen_is_refused_with_a_sentence():
    keypoints, _ = waving(5)
    keypoints.confidence[:] = 0
    with pytest.raises(LgdError) as caught:
        fit(keypoints, FitOptions())
    assert caught.value.code == "no_person"


@pytest.mark.parametrize("mode", ["video", "paper"])
def test_a_few_points_are_no_person_and_one_frame_with_more_is(mode):
    keypoints, _ = waving(7)
    keypoints.confidence[..., 3:] = 0
    with pytest.raises(LgdError) as caught:
        fit(keypoints, FitOptions(mode=mode, focal=FOCAL))
    assert caught.value.code == "no_person" and "3 of the points" in caught.value.text
    keypoints.confidence[0, 4, 5:9] = 0.9
    motion, _ = fit(keypoints, FitOptions(mode=mode, focal=FOCAL))
    for name in ("poses", "trans", "T_world_cam"):
        assert np.isfinite(getattr(motion, name)).all(), name


def test_frames_without_a_person_stay_finite_with_zero_confidence():
    keypoints, _ = waving(60)
    keypoints.confidence[0, 20:35] = 0
    for mode in ("video", "paper"):
        motion, _ = fit(keypoints, FitOptions(mode=mode, focal=FOCAL))
        assert np.isfinite(motion.poses).all() and np.isfinite(motion.trans).all()
        assert not motion.joint_confidence[22:33].any() and np.isnan(motion.reprojection_px[25])


def test_nobody_before_and_after_tells_nothing_of_the_lens_and_the_shape():
    keypoints, _ = waving(40)
    lone = fit(keypoints)[0]
    points, confidence = (np.concatenate((0 * x, x, 0 * x, 0 * x), 1) for x in (keypoints.keypoints, keypoints.confidence))
    within = fit(Keypoints(points, confidence, keypoints.layout, SIZE, fps=30))[0]
    assert within.cam_K[0, 0] == pytest.approx(lone.cam_K[0, 0]) and np.allclose(within.betas, lone.betas, atol=1e-4)
    assert np.allclose(within.joints[41:79], lone.joints[1:-1], atol=0.02) and np.allclose(within.poses[:40], within.poses[41])


def test_an_unseen_stretch_is_crossed_evenly():
    keypoints, joints = waving(90)
    keypoints.confidence[0, 30:45] = 0
    motion, _ = fit(keypoints, FitOptions(focal=FOCAL))
    moved = np.linalg.norm(np.diff(motion.joints, axis=0), axis=-1).max(1)
    true = np.linalg.norm(np.diff(joints.numpy(), axis=0), axis=-1).max(1)
    assert (moved[29:45] - true[29:45]).max() < 0.06


def test_frames_beside_a_long_gap_are_crossed_with_it():
    good = torch.ones(20, dtype=torch.bool)
    good[5:9] = False  # four frames: short
    good[12:17] = False
    sure = solve_video.away_from_gaps(good)
    assert [i for i in range(20) if good[i] and not sure[i]] == [11, 17]
    alone = torch.zeros(9, dtype=torch.bool)
    alone[4] = True
    assert torch.equal(solve_video.away_from_gaps(alone), alone)  # nothing else is left to hold on to
    assert solve_video.away_from_gaps(good[:3]).all()


def test_time_passes_slower_at_the_ends_of_a_gap_and_only_there():
    good = torch.ones(30, dtype=torch.bool)
    good[[0, 1, 28, 29]] = False
    good[5:8] = good[10:22] = False
    times = torch.arange(30.0)
    eased = solve_video._eased(times, good)
    changed = (eased - times).abs() > 1e-4
    assert changed[10:15].all() and changed[17:22].all() and not changed[2:10].any() and not changed[22:28].any()
    steps = eased[9:23].diff()
    assert (steps > 0).all() and steps[0] < 0.7 and steps[6] > 1.15 and torch.allclose(steps, steps.flip(0), atol=1e-5)
    assert eased[0] <= 2 and eased[-1] >= 27  # beyond the ends nothing is known: held there


def test_to_rate_keeps_gaps_and_values():
    times = np.arange(20) / 10
    rays = np.zeros((20, 30, 2))
    rays[:, :, 0] = times[:, None]
    confidence = np.full((20, 30), 0.8)
    confidence[8:14] = 0
    grid, out, seen = to_rate(rays, confidence, times)
    good = seen[:, 0] > 0
    assert np.abs(out[good, 0, 0] - grid[good]).max() < 1e-6
    assert not seen[(grid > 0.85) & (grid < 1.25)].any()
    assert good[grid < 0.65].all()


def test_a_pause_of_an_hour_takes_no_longer_than_one_of_a_second(monkeypatch):
    keypoints, joints = waving(40)
    times = keypoints.times()
    asked = []
    whole = fitter.to_rate
    monkeypatch.setattr(fitter, "to_rate", lambda *a: asked.append(whole(*a)) or asked[-1])
    fits = []
    for pause in (1.0, 3600.0):
        late = Keypoints(
            keypoints.keypoints, keypoints.confidence, "coco17", SIZE, frame_times=np.where(np.arange(40) < 20, times, times + pause)
        )  # fmt: skip
        fits.append(fit(late, FitOptions(focal=FOCAL))[0])
        assert len(asked[-1][0]) < 80 and fits[-1].frames == 40 and fits[-1].frame_times[-1] > pause
    assert np.abs(fits[0].joints - fits[1].joints).max() < 0.03 and pa(fits[1], joints) < 30
    assert without_pauses(times) is times
    assert np.allclose(without_pauses(np.array([3.0, 4, 14, 14.5])), [3, 4, 5, 5.5])


def test_feet_are_held_as_still_where_the_footage_pauses(monkeypatch):
    """How far a foot at rest may slip in a frame hangs on how long a frame lasts, whatever lies between two takes."""
    slips, anchor = [], contact.anchor_root
    monkeypatch.setattr(contact, "anchor_root", lambda *args, **more: slips.append(args[4]) or anchor(*args, **more))
    keypoints, _ = waving(60)
    times = keypoints.times()
    for pause in (0.0, 60.0):
        fit(dataclasses.replace(keypoints, fps=None, frame_times=times + pause * (np.arange(60) >= 30)), FitOptions(focal=FOCAL))
    assert slips == pytest.approx([0.004, 0.004])


def test_one_frame_keeps_the_footages_rate():
    keypoints, _ = waving(1, fps=24.0)
    assert fit(keypoints, FitOptions(focal=FOCAL))[0].mocap_framerate == 24


def test_damaged_weights_are_a_sentence(tmp_path, monkeypatch):
    for content in (b"", b"text", b"PK\x03\x04 half a zip"):
        (tmp_path / "video.pt").write_bytes(content)
        with pytest.raises(LgdError, match="holds no weights of video mode") as caught:
            load_network("video", path=tmp_path / "video.pt")
        assert caught.value.exit_code == 2, "the user's own file"
        with monkeypatch.context() as shipped:
            shipped.setattr(checkpoint, "FOLDER", tmp_path)
            with pytest.raises(LgdError, match="damaged") as caught:
                load_network("video")
        assert caught.value.exit_code == 4


def test_only_the_own_start_and_hypotheses_on_the_path_take_more_than_one_step(monkeypatch):
    keypoints, _ = waving(30)
    followed, asked = [], []
    net = load_network("video", "cpu")
    own = type(net).advance

    def advance(self, x, state, *rest):
        followed.append(len(state.tau))
        return own(self, x, state, *rest)

    def path(joints, *rest):
        asked.append(len(joints))
        return torch.tensor([1] * 10 + [3] * 20 if len(joints) == 4 else [1] * 10 + [2] * 20)

    monkeypatch.setattr(type(net), "advance", advance)
    monkeypatch.setattr(solve_video, "choose", path)
    rays = camera.to_rays(keypoints.keypoints[0], camera.camera_matrix(FOCAL, *SIZE))
    points, confidence = to_internal(rays, keypoints.confidence[0], keypoints.layout)
    solver = solve_video.VideoSolver(net, BodyModel(load_body()), keypoints.layout)
    given = torch.as_tensor(points).float(), torch.as_tensor(confidence).float()
    solved = solver.solve(*given, focal_known=True, static=True)
    assert followed == [4, *[3] * (net.config.steps - 1)] and asked == [4, 3]
    assert solved.path.tolist() == [1] * 10 + [3] * 20  # as they were numbered at first
    solver.solve(*given, focal_known=True, static=True, steps=2)
    assert followed[net.config.steps :] == [4, 3]


def test_weights_carry_their_configuration():
    for mode, entry in available_weights().items():
        assert load_network(mode) is not None and len(entry["hash"]) == 12


@pytest.mark.parametrize("options, words", [
    ({"steps": 9}, "9 steps"), ({"steps": -1}, "-1 steps"), ({"device": "abacus"}, "abacus is not known"), ({"device": "cpu:1"}, "offers no cpu:1"), ({"focal": 0.0}, "above 0 px"),
])  # fmt: skip
def test_what_cannot_be_fitted_is_told(options, words):
    keypoints, _ = waving(6)
    with pytest.raises(LgdError, match=words):
        fit(keypoints, FitOptions(**options))
    with pytest.raises(LgdError, match="cancelled"):
        fit(keypoints, FitOptions(mode="paper"), should_stop=lambda: True)
