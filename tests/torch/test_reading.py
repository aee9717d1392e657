# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read off a finished estimate: contacts, and how wrong each joint may be."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bridge.body.files import load_body
from bridge.body.joints import LIMBS
from bridge.body.smpl import BodyModel
from bridge.errors import LgdError
from bridge.keypoints.formats import POINT_INDEX
from bridge.lgd.checkpoint import FOLDER, load_network
from bridge.lgd.fitter import FitOptions, error_of, fit
from bridge.lgd.video import VideoConfig
from bridge.train import config, loop
from bridge.train.data import Sampler, generator
from bridge.train.recipe import fixed_recipe
from bridge.train.synthesize import LandmarkSets, synthesize
from tests.torch.test_fitter import FOCAL, waving


@pytest.fixture(scope="module")
def body():
    return BodyModel(load_body())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    own = tmp_path_factory.mktemp("amass") / "Somebody"
    own.mkdir()
    for i in range(20):
        t = np.arange(60)[:, None] / 30
        poses = 0.3 * np.sin(t * (1 + i / 10) + np.arange(72) + i)
        np.savez(own / f"{i:02}.npz", poses=poses, trans=np.zeros((60, 3)), mocap_framerate=30.0)
    return own.parent


@pytest.mark.parametrize("part", ("touch", "doubt"))
def test_what_reads_is_trained_alone(part, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("LGD_DATA", str(tmp_path / "none"))
    monkeypatch.setattr(loop.Mocap, "validating", lambda self, subjects: self.of_split("val"))
    phase = config.Phase(2, 4, 12, 2, 1e-3, 1e-3, singles=2 * (part == "doubt"), check_every=2, **{part: True})
    plan = replace(config.PLANS["tiny"], video=VideoConfig(32, (1, 2), (1,), steps=2), phases=(phase,))
    run = loop.Run(plan, tmp_path / "run", False, None, [folder])
    run.sampler.mocap.grounded[:] = True
    before = {name: value.clone() for name, value in run.net.state_dict().items()}
    run.go()
    moved = {name.split(".")[0] for name, value in run.net.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"touch" if part == "touch" else "doubts"}


def test_doubt_is_the_states_own_until_it_is_learned(tmp_path):
    """Weights of before it was learned are read as well."""
    saved = torch.load(FOLDER / "video.pt", weights_only=True)
    for name in ("doubts.weight", "doubts.bias"):
        saved["weights"].pop(name, None)
    torch.save(saved, tmp_path / "old.pt")
    assert not load_network("video", path=tmp_path / "old.pt").doubts.weight.any()
    keypoints, _ = waving(40)
    assert len(fit(keypoints, FitOptions(focal=FOCAL, device="cpu", weights=tmp_path / "old.pt"))[0].joint_confidence) == 40


def test_weights_that_are_not_numbers_are_refused(tmp_path):
    saved = torch.load(FOLDER / "video.pt", weights_only=True)
    saved["weights"]["head.bias"][3] = torch.nan
    torch.save(saved, tmp_path / "bad.pt")
    with pytest.raises(LgdError, match="holds no weights of video mode"):
        load_network("video", path=tmp_path / "bad.pt")


def test_limbs_are_lost_and_invented_throughout_clips(folder, body):
    mocap = loop.read_folder(folder, body, lambda text: None)
    sampler, sets = Sampler(mocap, body), LandmarkSets(body, ["blazepose33"])

    def seen(**changes):
        return synthesize(windows, sets, fixed_recipe(layouts={"blazepose33": 1.0}, **changes), generator(5))

    windows = sampler.draw(300, 6, generator(4))
    plain, gone, invented = seen(), seen(limbs_gone=0.4), seen(limbs_invented=0.4)
    wrist, knee = POINT_INDEX["left_wrist"], POINT_INDEX["right_knee"]
    trunk = [POINT_INDEX[n] for n in ("left_shoulder", "right_shoulder", "left_hip", "right_hip", "nose")]
    for point in (wrist, knee):
        lost = (gone.confidence[:, :, point] == 0).all(1)
        assert 0.1 < float(lost.float().mean()) < 0.5
        assert torch.equal((gone.confidence[:, :, point] == 0).any(1), lost), "throughout"
        moved = (invented.rays[:, :, point] - plain.rays[:, :, point]).norm(dim=-1) > 0
        assert 0.02 < float(moved.float().mean()) < 0.4
        assert (invented.confidence[:, :, point][moved] > 0.05).all() and invented.confidence[:, :, point][moved].mean() < 0.7
    for other in (gone, invented):
        assert torch.equal(other.rays[:, :, trunk], plain.rays[:, :, trunk])
        assert torch.equal(other.confidence[:, :, trunk], plain.confidence[:, :, trunk])


def test_a_limb_that_is_never_seen_is_doubted_as_much_as_it_deserves():
    """The wrist of an arm of which the shoulder alone is ever seen, beside the same arm seen."""
    keypoints, joints = waving(60, layout="blazepose33")
    seen = fit(keypoints, FitOptions(focal=FOCAL, device="cpu"))[0]
    keypoints.confidence[..., [13, 15, 17, 19, 21]] = 0  # left elbow, wrist, pinky, index, thumb
    hidden = fit(keypoints, FitOptions(focal=FOCAL, device="cpu"))[0]
    doubt = lambda motion: error_of(motion.joint_confidence)  # noqa: E731
    assert np.median(doubt(seen)[:, 20]) < 0.08
    assert np.median(doubt(hidden)[:, 20]) > 0.25
    others = [j for j in LIMBS if j not in (18, 20)]
    assert np.median(doubt(hidden)[:, others]) < 0.08
