# SPDX-License-Identifier: GPL-3.0-or-later
"""What video mode does over time: the choice among hypotheses, averages, and long clips in pieces."""

import itertools

import numpy as np
import pytest
import torch
from test_fitter import FOCAL, pa, waving

from bridge.body.joints import PARENTS
from bridge.lgd import solve_video
from bridge.lgd.fitter import FitOptions, fit
from bridge.lgd.hypotheses import (
    BIAS,
    BIAS_WHOLE,
    EXCHANGED,
    FLIPPED,
    LASTING,
    ODDS,
    OWN,
    TURNED,
    choose,
    depth_flipped,
    pick,
    turned,
)
from bridge.lgd.observation import smooth_weighted
from bridge.lgd.solve_video import CHUNK, OVERLAP, chunks, worth_solving
from bridge.lgd.video import State
from bridge.rotations import exp_so3


def cost_of(path, joints, doubt, misfit, kinds, whole) -> float:
    """What a path costs, as `choose` has it, frame by frame."""
    frames = len(path)
    each = doubt.sum(-1) + misfit
    total = 0.0
    bias = BIAS_WHOLE if whole else BIAS
    mean = [float(row.mean()) for row in each]
    against = [min(max(0.0, mean[0] - m), bias[kind]) + ODDS * (kind != OWN) for m, kind in zip(mean, kinds, strict=True)]
    best = min((h for h, kind in enumerate(kinds) if kind != EXCHANGED), key=lambda h: mean[h] + against[h])
    for h, kind in enumerate(kinds):
        if kind == EXCHANGED:
            against[h] = against[best] + min(max(0.0, mean[best] - mean[h]), bias[kind]) + ODDS
        each[h] += against[h]
    for t, here in enumerate(path):
        total += float(each[here, t]) / min(LASTING, frames)
        if t and (before := path[t - 1]) != here:
            leap, stay, stayed = (
                (joints[a, t] - joints[b, t - 1]).norm(dim=-1) for a, b in ((here, before), (here, here), (before, before))
            )
            spread = torch.maximum(doubt[here, t], doubt[before, t - 1]).exp()
            total += float(((leap - torch.maximum(stay, stayed)).clamp_min(0) / spread).sum())
    return total


@pytest.mark.parametrize("seed", range(5))
def test_the_path_chosen_is_the_cheapest_of_all(seed):
    gen = torch.Generator().manual_seed(seed)
    joints = torch.randn(3, 6, 12, 3, generator=gen) * 0.05
    doubt = torch.randn(3, 6, 12, generator=gen) * 0.3 - 1
    misfit = torch.rand(3, 6, generator=gen) * 30
    case = joints, doubt, misfit, [OWN, EXCHANGED, FLIPPED], seed % 2 == 0
    best = min(itertools.product(range(3), repeat=6), key=lambda path: cost_of(path, *case))
    assert choose(*case).tolist() == list(best)


def costs(better: float, frames: slice, jumps: bool, count: int = 100):
    """joints, doubt and misfit of two hypotheses, of which the second is better by so many nats in some frames. The body of the
    first leaps by a metre where those frames begin and end (`jumps`), else the second's does: it is a metre off throughout."""
    joints = torch.zeros(2, count, 12, 3)
    if jumps:
        joints[0, frames, :, 0] = 1.0
    else:
        joints[1, ..., 0] = 1.0
    misfit = torch.full((2, count), 20.0)
    misfit[1] += 5.0
    misfit[1, frames] -= 5.0 + better
    return joints, torch.full((2, count, 12), -2.0), misfit


@pytest.mark.parametrize(
    "kind, better, frames, jumps, whole, taken",
    [
        (EXCHANGED, 19, slice(0, 100), False, False, 0),  # seen to the waist: so it was in every seventh clip of signers
        (EXCHANGED, 9, slice(30, 90), False, False, 0),  # and so in a webcam's for two seconds
        (EXCHANGED, 1, slice(0, 100), False, True, 0),
        (EXCHANGED, 4, slice(0, 100), False, True, 100),  # a detector that exchanges them all
        (EXCHANGED, 19, slice(45, 55), True, False, 10),  # ten frames whose labels a detector exchanged
        (FLIPPED, 8, slice(0, 100), False, False, 0),
        (FLIPPED, 30, slice(0, 100), False, True, 100),  # a start that is wrong throughout
        (FLIPPED, 30, slice(40, 70), True, True, 30),  # and for a second
        (TURNED, 30, slice(0, 100), False, False, 100),
    ],
)
def test_another_start_is_taken_only_where_it_speaks_for_itself(kind, better, frames, jumps, whole, taken):
    path = choose(*costs(better, frames, jumps), [OWN, kind], whole)
    assert int(path.sum()) == taken
    assert taken == 0 or bool(path[frames].all())


def test_a_start_that_is_wrong_is_not_put_right_by_exchanged_labels_that_are_as_good():
    joints, doubt, misfit = costs(30, slice(0, 100), False)
    three = [torch.cat((t, t[1:])) for t in (joints, doubt, misfit)]
    three[2][1] -= 1.0  # a mirrored person who faces the other way is explained as well
    assert choose(*three, [OWN, EXCHANGED, TURNED], True).unique().tolist() == [2]


def some_state(frames: int = 5, count: int = 1) -> State:
    gen = torch.Generator().manual_seed(1)
    shapes = (count, frames, 3), (count, 10), (count, 1), (count, frames, 6), (count, frames, 3), (count, frames, 24)
    return State(exp_so3(torch.randn(count, frames, 24, 3, generator=gen)), *(torch.randn(shape, generator=gen) for shape in shapes))


def bones_of(state: State) -> torch.Tensor:
    """Where bones that lie in the frontal plane at rest point, (1, T, 23, 3)."""
    rest, world = torch.randn(24, 3, generator=torch.Generator().manual_seed(2)), [state.rotations[:, :, 0]]
    rest[:, 2] = 0
    for joint in range(1, 24):
        world.append(world[PARENTS[joint]] @ state.rotations[:, :, joint])
    return torch.stack([world[PARENTS[joint]] @ rest[joint] for joint in range(1, 24)], 2)


def test_a_flipped_start_looks_the_same_and_a_turned_one_faces_the_other_way():
    state = some_state()
    own = bones_of(state)
    assert torch.allclose(bones_of(depth_flipped(state)), own * torch.tensor([1.0, 1, -1]), atol=1e-5)
    assert torch.allclose(bones_of(turned(state)), own * torch.tensor([-1.0, 1, -1]), atol=1e-5)
    assert torch.allclose(torch.linalg.det(depth_flipped(state).rotations), torch.ones(1, 5, 24), atol=1e-5)
    assert all(getattr(flipped(state), name) is getattr(state, name) for flipped in (depth_flipped, turned) for name in ("tau", "betas", "focal", "doubt"))


def test_what_is_picked_has_each_frames_own_start_and_the_shape_of_most():
    states, path = some_state(count=3), torch.tensor([0, 2, 2, 1, 2])
    found = pick(states, path)
    for name in ("rotations", "tau", "contact", "up", "doubt"):
        assert torch.equal(getattr(found, name)[0], torch.stack([getattr(states, name)[row, frame] for frame, row in enumerate(path)])), name
    assert torch.equal(found.betas, states.betas[2:]) and torch.equal(found.focal, states.focal[2:])


def test_labels_of_a_single_picture_are_taken_as_told():
    assert choose(*costs(60, slice(0, 1), False, 1), [OWN, EXCHANGED], False).tolist() == [0]
    assert choose(*costs(60, slice(0, 1), False, 1), [OWN, TURNED], False).tolist() == [1]


@pytest.mark.parametrize("frames", [2, 7, 64, 65, 150])
def test_averages_over_time_are_gaussian_and_weighted(frames):
    gen = torch.Generator().manual_seed(0)
    values, weights = torch.randn(2, frames, 3, generator=gen), torch.rand(2, frames, generator=gen) + 0.1
    away = torch.arange(frames)[:, None] - torch.arange(frames)
    band = torch.exp(-0.5 * (away / 3.0) ** 2) * (away.abs() <= 9) * weights[:, None]
    expected = (band @ values) / band.sum(-1, keepdim=True)
    assert torch.allclose(smooth_weighted(values, weights, 3.0), expected, atol=2e-3)


@pytest.mark.parametrize("steps", [0, 1])
def test_a_told_shape_is_kept_whatever_the_steps(steps):
    told = np.linspace(-1, 1, 10).astype(np.float32)
    assert np.allclose(fit(waving(10)[0], FitOptions(focal=FOCAL, betas=told, steps=steps))[0].betas, told)


@pytest.mark.parametrize("good, solved", [
    ([0] * 5 + [1] * 3 + [0] * 4, range(5, 8)), ([1] * 3, range(3)), ([0] * 4, range(4)),
    ([1] + [0] * 60 + [1], range(62)), ([1] + [0] * 100 + [1, 1], [*range(31), *range(71, 103)]),
])  # fmt: skip
def test_frames_in_which_somebody_is_seen_are_solved(good, solved):
    assert worth_solving(torch.tensor(good, dtype=torch.bool)).tolist() == list(solved)


@pytest.mark.parametrize("frames", [1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 17])
def test_pieces_cover_long_clips_with_overlap(frames):
    pieces = chunks(frames)
    assert pieces[0][0] == 0 and pieces[-1][1] == frames and len(pieces) == 1 + (frames > CHUNK) + (frames > 2 * CHUNK - OVERLAP) + (frames > 3 * CHUNK - 2 * OVERLAP)
    assert max(b - a for a, b in pieces) <= CHUNK
    assert all(b - a >= OVERLAP for (_, b), (a, _) in zip(pieces, pieces[1:]))


def test_a_long_clip_is_solved_in_pieces_without_seams_and_with_one_shape(monkeypatch):
    keypoints, joints = waving(150)
    whole = fit(keypoints, FitOptions(focal=FOCAL))[0]
    monkeypatch.setattr(solve_video, "CHUNK", 64)
    monkeypatch.setattr(solve_video, "OVERLAP", 16)
    told = []
    parts = fit(keypoints, FitOptions(focal=FOCAL), lambda stage, *far: told.append(far) if stage == "fit" else None)[0]
    assert told == [(done, 6) for done in range(1, 7)]  # three pieces, each solved for the shape and then for the poses
    assert np.abs(parts.joints - whole.joints).max() < 0.05 and np.abs(parts.betas - whole.betas).max() < 0.1
    assert pa(parts, joints) < pa(whole, joints) + 2
    assert np.allclose(fit(keypoints, FitOptions(focal=FOCAL, betas=np.ones(10)))[0].betas, 1)  # a told one is kept
    assert np.abs(np.diff(parts.joints, axis=0)).max() < 1.2 * np.abs(np.diff(whole.joints, axis=0)).max()
