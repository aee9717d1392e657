# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendered people and what a detector said of them: that recordings are true, and are drawn as what they stand for."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from bridge.arrays import save_arrays
from bridge.body.files import load_body
from bridge.body.smpl import BodyModel
from bridge.errors import LgdError
from bridge.keypoints.formats import POINT_INDEX
from bridge.rotations import matrix_to_quaternion
from bridge.train import config, detected, loop, tasks
from bridge.train.data import Sampler, generator
from bridge.train.detected import Detections, _repaired, read, record
from bridge.train.recipe import LAYOUT_SHARE, fixed_recipe
from bridge.train.render import Studio, Wardrobe
from bridge.train.synthesize import LandmarkSets, synthesize
from bridge.train.synthetic_detector import MIRROR


@pytest.fixture(scope="module")
def body():
    return BodyModel(load_body())


@pytest.fixture(scope="module")
def mocap(tmp_path_factory, body):
    own = tmp_path_factory.mktemp("amass") / "Somebody"
    own.mkdir()
    for i in range(20):
        t = np.arange(60)[:, None] / 30
        poses = 0.15 * np.sin(t * (1 + i / 10) + np.arange(72) + i)
        np.savez(own / f"{i:02}.npz", poses=poses, trans=np.zeros((60, 3)), mocap_framerate=30.0)
    return loop.read_folder(own.parent, body, lambda text: None)


@pytest.fixture(scope="module")
def sampler(mocap, body):
    return Sampler(mocap.of_split("train"), body)


@pytest.fixture
def exact(sampler, body, monkeypatch):
    """A recording by a detector that never errs, and its Detections."""
    monkeypatch.setattr(detected, "GAPS", fixed_recipe())
    monkeypatch.setattr(detected, "_repaired", dict)
    gen = generator(3)
    batch = synthesize(sampler.draw(10, 8, gen), LandmarkSets(body, ["blazepose33"]), detected.CAMERAS, gen)
    stored = {
        "rays": batch.rays, "confidence": batch.confidence, "quats": matrix_to_quaternion(batch.rotations),
        "pelvis": batch.pelvis, "betas": batch.betas, "up": batch.up, "contact_ok": batch.contact_ok,
    }  # fmt: skip
    recording = {name: value.numpy() for name, value in stored.items()}
    return recording, Detections(recording, LandmarkSets(body, list(LAYOUT_SHARE)))


def seen(batch):
    """Misses of the points that are seen, in rays."""
    return (batch.rays - batch.points[..., :2] / batch.points[..., 2:]).norm(dim=-1)[batch.confidence > 0]


def test_the_nearer_of_two_faces_is_seen_and_those_turned_away_are_not():
    studio = Studio(120, 120, np.random.default_rng(0))
    studio.image[:], studio.ambient, studio.blur, studio.grain = 0, 1.0, 0.01, 0.0
    square = np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)])
    vertices = np.concatenate([np.column_stack((square, np.full(4, z))) for z in (4.0, 2.0)])
    pixels = 60 + 40 * np.concatenate((square, square * 0.5))
    toward = np.array([(0, 2, 1), (0, 3, 2), (4, 6, 5), (4, 7, 6)])
    toward = toward if np.cross(*np.diff(vertices[toward[0]], axis=0))[2] < 0 else toward[:, ::-1]
    colours = np.array([(200, 0, 0)] * 2 + [(0, 200, 0)] * 2, float)
    image = studio.picture(vertices, pixels, toward, colours)
    assert image[60, 50].tolist() == [0, 200, 0] and image[60, 30].tolist() == [200, 0, 0] and not image[5, 5].any()
    assert not studio.picture(vertices, pixels, toward[:, ::-1], colours).any()


def test_clothes_stand_off_the_skin_and_move_no_joint(body):
    wardrobe = Wardrobe(body)
    colours, dressed = wardrobe.dress(np.random.default_rng(1))
    off = np.asarray(dressed.data["v_template"]) - wardrobe.template
    out = (off * wardrobe.normals).sum(1)
    assert colours.shape == (len(wardrobe.faces), 3) and 0 <= colours.min() and colours.max() <= 255
    assert 0.003 <= out.max() <= 0.03 and out.min() > -1e-9 and (out < 1e-9).mean() > 0.02
    assert torch.equal(dressed.rest_joints(torch.ones(10)), body.rest_joints(torch.ones(10)))


def test_the_detector_finds_rendered_people_where_they_are(tmp_path, sampler, body):
    recording = record(sampler, 4, seed=2, frames=5)
    save_arrays(tmp_path / "recording.npz", recording)
    whole = Detections(read([tmp_path / "recording.npz"]), LandmarkSets(body, list(LAYOUT_SHARE))).whole(generator(0))
    assert len(whole.rays) >= 4 and whole.rays.shape[1:] == (5, 30, 2)
    metres = (whole.rays - whole.points[..., :2] / whole.points[..., 2:]).norm(dim=-1) * whole.pelvis[..., 2:]
    assert float(metres[whole.confidence > 0.6].median()) < 0.06
    assert np.array_equal(recording["quats"], record(sampler, 4, seed=2, frames=5)["quats"])


def test_exact_recordings_stay_exact_when_mirrored(exact):
    batch = exact[1].draw(64, 8, generator(1))
    assert float(seen(batch).max()) < 2e-4 and len(batch.pelvis.unique(dim=0)) > 12
    flipped = exact[1]._batch(
        torch.arange(10), torch.arange(8).expand(10, -1), torch.ones(10, dtype=torch.bool), fixed_recipe(), generator(0)
    )
    plain = exact[1].whole(generator(0))
    mirror = torch.tensor([-1.0, 1.0])
    assert torch.allclose(flipped.rays[..., :2], (plain.rays * mirror)[:, :, MIRROR], atol=1e-5)
    assert float(seen(flipped).max()) < 2e-4


def test_recordings_in_which_the_detector_is_lost_are_left_out(exact, body):
    own = {name: value.copy() for name, value in exact[0].items()}
    own["rays"][3] += 0.2
    sets = LandmarkSets(body, ["blazepose33"])
    assert len(Detections(own, sets).rays) == 10
    with pytest.raises(LgdError, match="no recorded clip"):
        Detections(own, sets, 0.0)
    kept = Detections(own, sets, 0.03)
    assert len(kept.rays) == 9 and not torch.isin(kept.betas[:, 0], torch.as_tensor(own["betas"][3, 0])).any()


def test_recordings_are_repaired_as_keypoints_are_before_a_fit(sampler):
    recording = record(sampler, 4, seed=2, frames=9)
    swapped = {name: value.copy() for name, value in recording.items()}
    swapped["rays"][:, 4], swapped["confidence"][:, 4] = recording["rays"][:, 4][:, MIRROR], recording["confidence"][:, 4][:, MIRROR]
    one, other = _repaired(recording), _repaired(swapped)
    assert (np.abs(one["rays"] - other["rays"]).max((1, 2, 3)) < 1e-5).mean() >= 0.5  # where much is hidden, labels are a guess
    # The nose has no other side: where it is astray, labels stay.
    swapped["rays"][:, 4] += 0.3 * np.eye(30)[POINT_INDEX["nose"]][:, None]
    nose = [r["confidence"][:, 4, POINT_INDEX["nose"]] for r in (other, _repaired(swapped))]
    assert (nose[1] <= nose[0]).all() and (nose[1] < 0.5 * nose[0]).any()


def test_every_so_many_th_recording_validates(exact):
    train, kept = exact[1].parted(4)
    assert len(train.rays) == 8 and torch.equal(kept.betas, exact[1].betas[[3, 7]]) and len(exact[1].rays) == 10
    assert not (train.betas[:, None] == kept.betas).all(-1).any()


def test_a_lasting_offset_of_a_landmark_is_taken_out_and_an_error_is_not(exact, body, monkeypatch):
    monkeypatch.setattr(detected, "TRUSTED", -1.0)
    own = dict(exact[0])
    sets = LandmarkSets(body, ["blazepose33"])
    moved = LandmarkSets(body, ["blazepose33"])
    hips = [POINT_INDEX["left_hip"], POINT_INDEX["right_hip"]]
    moved.offsets[0, hips[0]] += torch.tensor([0.02, 0.03, -0.01])
    moved.offsets[0, hips[1]] += torch.tensor([-0.02, 0.03, -0.01])
    batch = Detections(own, sets).whole(generator(0))
    posed = moved.shaped(batch.betas, batch.layout).posed(batch.rotations, batch.pelvis)
    own["rays"] = (posed.points[..., :2] / posed.points[..., 2:]).numpy()
    own["rays"][0, 0, POINT_INDEX["left_knee"], 0] += 0.1
    whole = Detections(own, sets).whole(generator(0))
    miss = (whole.rays - whole.points[..., :2] / whole.points[..., 2:]).norm(dim=-1)
    assert float(miss[:, :, hips].max()) < 1e-3
    assert float(miss[0, 0, POINT_INDEX["left_knee"]]) > 0.09


def test_training_draws_recordings_beside_what_is_made_up(exact, mocap, sampler, body, tmp_path, monkeypatch):
    save_arrays(tmp_path / "exact.npz", exact[0])
    phase = config.Phase(2, 2, 8, 1, 1e-3, 1e-3, singles=2, firsts=2, detected=3)
    plan = config.Plan("seen", "video", (phase,))
    few = loop.VideoTask(plan, body, mocap, [tmp_path / "exact.npz"])
    net = few.network(sampler)
    assert "detected_s0" not in few.validate(net, phase) and len(few.detections.rays) == 10
    monkeypatch.setattr(tasks, "KEPT", 5)
    task = loop.VideoTask(plan, body, mocap, [tmp_path / "exact.npz"])
    drawn = task.draw(net, sampler, phase, generator(0))
    assert [batch.rays.shape[:2] for batch, _ in drawn.batches] == [(2, 8), (2, 1), (2, 1), (3, 8)]
    assert {"detected_s0", "detected_s1", "score"} <= task.validate(net, phase).keys()
    with_them = task.loss(net, phase, drawn)[0].detach()
    drawn.batches[-1][0].joints[:] += 1.0  # another truth
    drawn.batches[-1][0].rotations[:] = torch.eye(3)
    assert float((task.loss(net, phase, drawn)[0].detach() - with_them).abs()) > 0.01
    other = loop.VideoTask(plan, body, mocap).draw(net, sampler, phase, generator(0))
    assert len(other.batches) == 3  # and the recordings change nothing about these
    for field in fields(other.batches[0][0]):
        assert torch.equal(getattr(other.batches[0][0], field.name), getattr(drawn.batches[0][0], field.name))


def test_a_file_that_is_no_recording_is_told(tmp_path, exact):
    (tmp_path / "no.npz").write_bytes(b"no")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 and no more")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    for name in ("no.npz", "empty.npz", "broken.npz", "other.npz", "missing.npz"):
        with pytest.raises(LgdError, match="is no recording"):
            read([tmp_path / name])
    shorter = {name: value[:, :5] if name in ("rays", "confidence", "quats", "pelvis", "up") else value for name, value in exact[0].items()}
    save_arrays(tmp_path / "a.npz", exact[0])
    save_arrays(tmp_path / "b.npz", shorter)
    assert len(read([tmp_path / "a.npz", tmp_path / "a.npz"])["rays"]) == 20
    with pytest.raises(LgdError, match="not as long"):
        read([tmp_path / "a.npz", tmp_path / "b.npz"])
