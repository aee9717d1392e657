# SPDX-License-Identifier: GPL-3.0-or-later
"""What training draws: poses, contacts, cameras, a detector's faults."""

import torch

from bridge.body.files import load_body
from bridge.body.smpl import BodyModel
from bridge.keypoints.formats import POINT_INDEX
from bridge.lgd.paper import POINTS18, normalise
from bridge.rotations import exp_so3, log_so3
from bridge.train import arms, legs, loop, paper_data
from bridge.train.data import LEFT_LEG, RIGHT_LEG, Sampler, Windows, sparseness
from bridge.train.paper_data import footage_batch
from bridge.train.recipe import LAYOUT_SHARE, TRAIN, fixed_recipe
from bridge.train.synthesize import LandmarkSets, synthesize


def test_footage_shows_the_papers_networks_a_body_turned_to_its_ray(folder, monkeypatch):
    body = BodyModel(load_body())
    windows = Sampler(loop.all_mocap(body, [folder]), body).draw(400, 1, torch.Generator().manual_seed(1))
    exact = fixed_recipe(layouts={"body25b": 1.0}, frame_person=1.0)  # as exact as ours is, and people beside the axis
    monkeypatch.setattr(paper_data, "FOOTAGE", exact)
    batch = footage_batch(windows, body, LandmarkSets(body, ["body25b"]), torch.Generator().manual_seed(2))
    seen = batch.confidence > 0
    whole = seen.all(-1)
    assert 50 < int(whole.sum()) < 400, "some are cut by the picture's edge"
    off = (normalise(batch.keypoints, seen) - normalise(batch.points, seen)).abs()[whole].mean((-1, -2))
    assert float(off.median()) < 0.012, "what another camera sees of them, and the layout's landmarks"
    monkeypatch.setattr(paper_data, "look_at", lambda ray: torch.eye(3).expand(len(ray), 3, 3))
    unturned = footage_batch(windows, body, LandmarkSets(body, ["body25b"]), torch.Generator().manual_seed(2))
    worse = (normalise(unturned.keypoints, seen) - normalise(unturned.points, seen)).abs()[whole].mean((-1, -2))
    assert float(worse.median()) > 1.3 * float(off.median())


def test_footage_has_a_detectors_noise_gaps_and_layouts(folder):
    body = BodyModel(load_body())
    windows = Sampler(loop.all_mocap(body, [folder]), body).draw(600, 1, torch.Generator().manual_seed(1))
    batch = footage_batch(windows, body, LandmarkSets(body, list(LAYOUT_SHARE)), torch.Generator().manual_seed(2))
    neck = [name for name, _ in POINTS18].index("neck")
    others = [i for i in range(18) if i != neck]
    assert 0.5 < float((batch.confidence[:, neck] == 0).float().mean()) < 0.8, "COCO's and BlazePose's have none"
    assert 0.15 < float((batch.confidence[:, others] == 0).float().mean()) < 0.4
    assert torch.isfinite(batch.keypoints).all() and torch.isfinite(batch.theta).all()


def test_poses_unlike_others_are_sparse_whatever_their_heading(folder):
    body = BodyModel(load_body())
    gen = torch.Generator().manual_seed(1)
    common = exp_so3(torch.randn(300, 24, 3, generator=gen) * 0.03)
    odd = exp_so3(torch.randn(4, 24, 3, generator=gen) * 0.6)
    turn = torch.zeros(304, 3)
    turn[:, 1] = torch.rand(304, generator=gen) * 6
    rotations = torch.cat((common, odd))
    rotations[:, 0] = exp_so3(turn) @ rotations[:, 0]
    joints = body.shaped(torch.zeros(10), "smpl").posed(rotations).joints
    found = sparseness(joints, torch.ones(304, dtype=torch.bool))
    assert found[300:].min() > 3 * found[:300].max()
    assert sparseness(joints[:1], torch.ones(1, dtype=torch.bool)).shape == (1,)


def test_no_contacts_are_claimed_where_a_leg_comes_from_another_window(folder):
    body = BodyModel(load_body())
    mocap = loop.all_mocap(body, [folder])
    quats, _, _ = Sampler(mocap, body)._read(400, 5, torch.Generator().manual_seed(3))
    mixed, kept = Sampler(mocap, body)._recombine(quats, torch.Generator().manual_seed(4))
    legs = torch.tensor((*LEFT_LEG, *RIGHT_LEG))
    same = (mixed[:, :, legs] == quats[:, :, legs]).flatten(1).all(1)
    assert torch.equal(mixed[:, :, 0], quats[:, :, 0])
    assert same[kept].all() and 40 < int((~same).sum()) < 140


def test_drawn_windows_say_so_where_a_leg_was_exchanged(folder, monkeypatch):
    body = BodyModel(load_body())
    mocap = loop.all_mocap(body, [folder])
    mocap.grounded[:] = True
    sampler = Sampler(mocap, body)
    own, kept = sampler._recombine, []
    monkeypatch.setattr(sampler, "_perturb", lambda rotations, frames, gen: (rotations, torch.zeros(400, dtype=torch.bool)))
    monkeypatch.setattr(sampler, "_recombine", lambda *a: [kept.append(out := own(*a)), out][1])
    windows = sampler.draw(400, 5, torch.Generator().manual_seed(3))
    assert torch.equal(windows.lower_true, kept[0][1]) and not windows.lower_true.all()


def test_people_face_the_level_camera_where_the_recipe_says_so(folder):
    body = BodyModel(load_body())
    mocap = loop.all_mocap(body, [folder])
    mocap.quats[:, 0] = torch.nn.functional.normalize(torch.tensor([1.0, 0.0, 0.7, 0.0]), dim=0)  # upright, all of one heading
    windows = Sampler(mocap, body, widen=False).draw(300, 1, torch.Generator().manual_seed(3))
    sets = LandmarkSets(body, list(LAYOUT_SHARE))

    def seen(**changes):
        batch = synthesize(windows, sets, fixed_recipe(**changes), torch.Generator().manual_seed(5))
        towards = -batch.rotations[:, 0, 0, 2, 2]  # how far the person's front points at the camera
        return towards, -batch.up[:, 0, 1]  # 1: the camera is level

    towards, level = seen(facing=1.0, level=1.0)
    assert towards.median() > 0.9 and level.median() > 0.97
    towards, level = seen()
    assert abs(float(towards.mean())) < 0.15 and level.median() < 0.96


def test_people_sit_and_kneel_under_the_trunks_that_were_captured(folder):
    body = BodyModel(load_body())
    gen = torch.Generator().manual_seed(4)
    windows = Sampler(loop.all_mocap(body, [folder]), body, widen=False).draw(80, 5, gen)
    lean = torch.zeros(80, 1, 3)
    lean[:20, 0, 0] = 1.2  # lie nearly flat
    windows.rotations[:, :, 0] = exp_so3(torch.randn(80, 1, 3, generator=gen) * torch.tensor([0.0, 2.0, 0.0])) @ exp_so3(lean)
    windows.lower_true[:] = True
    chosen = torch.arange(80) % 2 == 0
    sit = chosen & (torch.arange(80) >= 20)

    def angles(kind):
        """Degrees that thighs are off straight down, and knees are bent, (sitting, T, 2); metres that knees are before the hips."""
        changed = legs.seated(windows, chosen, gen, kind)
        assert torch.equal(changed.rotations[~sit], windows.rotations[~sit]) and torch.equal(changed.trans[~sit], windows.trans[~sit])
        assert torch.equal(changed.lower_true, ~sit), "no contacts are claimed of legs that are made up"
        arms = list(range(12, 24))
        assert torch.equal(changed.rotations[:, :, arms], windows.rotations[:, :, arms])
        assert (changed.trans[sit] == changed.trans[sit][:, :1]).all(), "they stay where they are"
        posed = body.shaped(torch.zeros(10), "smpl").posed(changed.rotations[sit])
        joints, front = posed.joints, windows.rotations[sit][:, :, 0, :, 2]
        thighs, shins = joints[:, :, 4:6] - joints[:, :, 1:3], joints[:, :, 7:9] - joints[:, :, 4:6]
        down = torch.nn.functional.normalize(thighs, dim=-1)[..., 1].neg().acos().rad2deg()
        bent = torch.cosine_similarity(thighs, shins, -1).acos().rad2deg()
        assert bent.max() < legs.MOST_BENT + 8
        return down, bent, (thighs * front[:, :, None]).sum(-1)

    down, bent, before = angles("on a chair")
    assert 75 < down.median() < 95 and 75 < bent.median() < 95 and before.min() > 0.15
    down, bent, before = angles("legs stretched")
    assert 75 < down.median() < 100 and bent.median() < 25 and before.min() > 0.15
    down, bent, _ = angles("on both knees")
    assert down.median() < 20 and 75 < bent.median() < 105
    down, _, _ = angles("on one knee")
    lifted = down.mean(1) > 45
    assert (lifted.sum(1) == 1).float().mean() > 0.8 and 5 < int(lifted[:, 0].sum()) < 25, "the one or the other"
    assert angles(None)[0].std() > 20


def test_people_sit_down_and_rise_over_their_feet(folder):
    body = BodyModel(load_body())
    gen = torch.Generator().manual_seed(4)
    windows = Sampler(loop.all_mocap(body, [folder]), body, widen=False).draw(60, 96, gen)
    windows.rotations[:, :, 0] = torch.eye(3)
    windows.rotations[:, :, [1, 2, 4, 5]] = torch.eye(3)  # they stand, and go straight on
    windows = Windows(windows.rotations, torch.arange(96.0)[:, None].mul(torch.tensor([0.0, 0.0, 0.01])).expand(60, -1, -1), windows.lower_true)
    changed = legs.seated(windows, torch.ones(60, dtype=torch.bool), gen, "on a chair", rising=1.0)
    shaped = body.shaped(torch.zeros(10), "smpl")
    down = (windows.rotations @ changed.rotations)[:, :, 1, 1, 1]  # of the left thigh
    falls, rises = ((down[:, a] > 0.99) & (down[:, b] < 0.6) for a, b in ((0, -1), (-1, 0)))
    assert falls.sum() > 10 and rises.sum() > 10, "some sit down, some rise; others are on their way at an end of the clip"
    lowered = changed.trans[falls, 0, 1] - changed.trans[falls, -1, 1]
    assert lowered.min() > 0 and 0.25 < lowered.median() < 0.5, "hips sink by about a thigh"
    ankles = shaped.posed(changed.rotations, changed.trans).joints[:, :, [7, 8]].mean(2)
    step = torch.diff(ankles, dim=1)
    assert step[..., 1].abs().max() < 0.025, "feet stay on the floor"
    seated = changed.trans[:, 1:][down[:, 1:] < 0.3].sub(changed.trans[:, :-1][down[:, 1:] < 0.3])
    standing = torch.diff(changed.trans, dim=1)[(down[:, 1:] > 0.9999) & (down[:, :-1] > 0.9999)]
    assert seated.norm(dim=-1).median() < 0.003 and (standing[:, 2] - 0.01).abs().median() < 0.002, "and walk where they stand alone"
    torch.testing.assert_close(changed.rotations @ changed.rotations.transpose(-1, -2), torch.eye(3).expand_as(changed.rotations), atol=1e-4, rtol=0)


def test_hands_are_where_they_are_told_and_arms_bend_as_arms_do(folder):
    body = BodyModel(load_body())
    gen = torch.Generator().manual_seed(4)
    windows = Sampler(loop.all_mocap(body, [folder]), body, widen=False).draw(80, 48, gen)
    windows.rotations[:, :, [0, 3, 6, 9]] = torch.eye(3)  # the chest's frame is the world's
    chosen = torch.arange(80) % 2 == 0
    shaped = body.shaped(torch.zeros(10), "smpl")

    def wrists(changed):
        """The wrists (chosen, T, 2, 3) as arms.HANDS tells them, the right one's in the mirror; in metres over an arm."""
        joints = shaped.posed(changed.rotations[chosen]).joints
        hands = joints[:, :, [20, 21]] - joints[:, :, [16, 17]]
        return hands * torch.tensor([[1.0, 1, 1], [-1, 1, 1]]) / 0.5

    untouched = [j for j in range(24) if j not in (13, 14, 16, 17, 18, 19)]
    for kind, (_, place, _) in arms.HANDS.items():
        changed = arms.reaching(windows, chosen, gen, kind)
        assert torch.equal(changed.rotations[~chosen], windows.rotations[~chosen]) and torch.equal(changed.trans, windows.trans)
        assert torch.equal(changed.rotations[:, :, untouched], windows.rotations[:, :, untouched])
        off = (wrists(changed).mean((0, 1)) - torch.tensor(place)).norm(dim=-1)
        assert off.max() < 0.2, kind
        elbows = log_so3(changed.rotations[chosen][:, :, [18, 19]]) * torch.tensor([[-1.0], [1.0]])
        assert elbows[..., 1].min() > -0.01 and elbows[..., 1].max() < 2.6 and elbows[..., 2].abs().median() < 0.3, "elbows bend forward about their hinge"
    raised = arms.reaching(windows, chosen, gen, "up").rotations[chosen][:, 0, 13]
    hanging = arms.reaching(windows, chosen, gen, "hanging").rotations[chosen][:, 0, 13]
    assert log_so3(raised)[:, 2].mean() > 0.1 > log_so3(hanging)[:, 2].abs().max(), "shoulders rise with raised arms"

    drawn = arms.reaching(windows, chosen, gen)
    moved = (drawn.rotations != windows.rotations).flatten(3).any(-1)[chosen].any(1)
    alone = moved[:, 16] != moved[:, 17]
    assert 4 < int(alone.sum()) < 20 and moved[:, [16, 17]].any(1).all(), "some have one arm as captured"
    assert torch.diff(wrists(drawn), dim=1)[moved[:, 16]][:, :, 0].norm(dim=-1).max() < 0.45, "and nothing jumps"
    turns = drawn.rotations[chosen]
    torch.testing.assert_close(turns @ turns.transpose(-1, -2), torch.eye(3).expand_as(turns), atol=1e-4, rtol=0)
    assert torch.equal(drawn.lower_true, windows.lower_true), "the legs are as captured"


def test_people_seen_to_the_waist_stand(folder):
    body = BodyModel(load_body())
    gen = torch.Generator().manual_seed(4)
    mocap = loop.all_mocap(body, [folder])
    windows = Sampler(mocap, body, widen=False).draw(60, 3, gen)
    lean = torch.zeros(60, 1, 3)
    lean[:, 0, 0], lean[:20, 0, 0] = 0.4, 1.2  # bowing; twenty lie nearly flat
    windows.rotations[:, :, 0] = exp_so3(torch.randn(60, 1, 3, generator=gen) * torch.tensor([0.0, 2.0, 0.0])) @ exp_so3(lean)
    windows.rotations[:, :, [1, 2, 4, 5]] = exp_so3(torch.randn(60, 1, 4, 3, generator=gen) * 0.7)
    windows.rotations[:8, :, [1, 2, 4, 5]] = torch.eye(3)
    windows.rotations[:8, :, 0] = torch.eye(3)  # eight stand

    changed, chosen = legs.standing(windows, torch.arange(60) % 2 == 0, gen)
    assert chosen.tolist() == [i % 2 == 0 and not 8 <= i < 20 for i in range(60)], "whoever is upright, of those asked for"
    assert torch.equal(changed.rotations[~chosen], windows.rotations[~chosen])
    upper = [j for j in range(24) if j not in (*LEFT_LEG, *RIGHT_LEG)]
    assert torch.equal(changed.rotations[:, :, upper], windows.rotations[:, :, upper]) and torch.equal(changed.trans, windows.trans)
    thighs = changed.rotations[:, :, 0, None] @ changed.rotations[:, :, [1, 2]]
    shins = thighs @ changed.rotations[:, :, [4, 5]]
    assert torch.cat((thighs, shins), 2)[chosen][..., 1, 1].min() > 0.96, "upright legs, though the pelvis leans"
    assert not changed.lower_true[chosen].any()

    sets = LandmarkSets(body, list(LAYOUT_SHARE))
    knees = [POINT_INDEX["left_knee"], POINT_INDEX["right_ankle"]]
    seen = synthesize(windows, sets, fixed_recipe(waist=1.0), torch.Generator().manual_seed(5)).confidence > 0
    hidden = ~seen[:, :, knees].any((1, 2))
    assert hidden.tolist() == [not 8 <= i < 20 for i in range(60)]
    hips = seen[hidden][:, :, POINT_INDEX["left_hip"]].any(1)
    assert 10 < int(hips.sum()) < 40, "of half of them the hips are seen"
    assert (synthesize(windows, sets, fixed_recipe(), torch.Generator().manual_seed(5)).confidence > 0)[:, :, knees].all()


def test_part_of_a_recipe_is_less_odd_and_all_of_it_is_itself():
    assert TRAIN.part(1.0) == TRAIN
    some, none = TRAIN.part(0.25), TRAIN.part(0.0)
    assert 0 < some.any_root < TRAIN.any_root and some.focal_exact > TRAIN.focal_exact
    assert (none.frame_person, none.person_offset, none.crop_lower, none.seated, none.waist, none.focal_exact) == (0, 0, 0, 0, 0, 1)
    assert none.noise == TRAIN.noise and none.missing == TRAIN.missing
