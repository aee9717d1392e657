# SPDX-License-Identifier: GPL-3.0-or-later
"""Identity over time: crossing people, gaps, duplicates, short false tracks, jumps of a one-person detector."""

import numpy as np

from bridge.keypoints import track
from bridge.keypoints.detect import _ONE_PERSON
from bridge.keypoints.track import make_tracks

SHAPE = np.random.default_rng(0).uniform(-0.5, 0.5, (17, 2)) * [60, 170]


def person(x, y=300.0, size=1.0):
    return SHAPE * size + [x, y]


def frame(*people, conf=0.9):
    return np.array(people).reshape(-1, 17, 2), np.full((len(people), 17), conf)


def test_two_people_cross_and_one_is_hidden():
    times = np.arange(60) / 30
    frames = []
    for t in range(60):
        here = [person(200 + 8 * t, 300)]
        if not 25 <= t < 35:
            here.append(person(640 - 8 * t, 330, 1.1))
        frames.append(frame(*(here if t % 2 else here[::-1])))
    points, conf, ids = make_tracks(frames, times, "coco17")
    assert len(points) == 2 and len(set(ids)) == 2
    seen = conf.mean(-1) > 0
    assert sorted(seen.sum(1)) == [50, 60]
    full = points[seen.sum(1).argmax()]
    assert np.allclose(full.mean(1)[:, 0], 200 + 8 * np.arange(60) + SHAPE[:, 0].mean(), atol=1)


def test_duplicates_and_short_tracks_go():
    times = np.arange(40) / 30
    frames = []
    for t in range(40):
        here = [person(300 + t), person(302 + t, 302)]
        if t in (10, 11, 12):
            here.append(person(900, 200))
        frames.append(frame(*here))
    points, conf, _ = make_tracks(frames, times, "coco17")
    assert len(points) == 1 and (conf.mean(-1) > 0).all()


def test_fragments_are_joined_over_a_gap():
    times = np.arange(90) / 30
    frames = [frame(person(100 + 6 * t)) if not 30 <= t < 75 else frame() for t in range(90)]
    points, conf, _ = make_tracks(frames, times, "coco17")
    assert len(points) == 1 and (conf[0].mean(-1) > 0).sum() == 45


def test_jump_to_another_person_starts_a_track():
    times = np.arange(60) / 30
    frames = [frame(person(100 + t) if t < 30 else person(900 - t, 500, 1.6)) for t in range(60)]
    points, _, _ = make_tracks(frames, times, "coco17")
    assert len(points) == 2


def test_low_frame_rate_and_single_image():
    times = np.arange(12) / 5
    frames = [frame(person(100 + 45 * t)) for t in range(12)]
    assert len(make_tracks(frames, times, "coco17")[0]) == 1
    assert len(make_tracks([frame(person(100), person(500))], np.zeros(1), "coco17")[0]) == 2
    assert len(make_tracks([frame(), frame()], np.arange(2) / 30, "coco17")[0]) == 0


def test_who_is_filmed_every_few_seconds_stays_one():
    frames = [frame(person(100 + 2 * t)) if t != 5 else frame() for t in range(12)]
    for seconds in (2, 4, 60):
        points, conf, _ = make_tracks(frames, seconds * np.arange(12), "coco17")
        assert len(points) == 1 and (conf[0].mean(-1) > 0).sum() == 11


def test_no_track_goes_on_into_another_take():
    times = np.arange(60) / 30
    frames = [frame(person(100 + t)) if not 20 <= t < 24 else frame() for t in range(60)]
    assert len(make_tracks(frames, times, "coco17")[0]) == 1
    for cut in (22, 30):  # where nobody is seen, to be joined over it, and from one frame to the next
        _, conf, _ = make_tracks(frames, times, "coco17", cuts=[cut])
        seen = conf.mean(-1) > 0
        assert len(seen) == 2 and not seen[0, cut:].any() and not seen[1, :cut].any() and seen.any(0).sum() == 56


def test_one_person_who_is_hardly_believed_for_a_moment_stays_one():
    """Two looks that do not agree leave a point or two believed; a box round those would jump."""
    times = np.arange(60) / 30
    frames = [frame(person(100 + t)) for t in range(60)]
    for t in range(30, 50, 3):
        frames[t][1][:] = 0.05
        if t % 2:  # else none
            frames[t][1][0, 3 + t // 15 : 6 + t // 15] = 0.3
    _, conf, _ = make_tracks(frames, times, "coco17", _ONE_PERSON)
    assert len(conf) == 1 and (conf[0].max(-1) > 0).all()


def test_people_seen_for_a_moment_do_not_take_the_time_of_all_pairs_again_and_again(monkeypatch):
    """A detector of crowds sees somebody in most pictures who is not there: a fragment each, of which few can be joined."""
    looked, cost = [], track._join_cost
    monkeypatch.setattr(track, "_join_cost", lambda *args: looked.append(1) or cost(*args))
    random = np.random.default_rng(0)
    frames = [frame(*[person(100 + t)] * (t % 50 < 40), person(*random.uniform(0, 2000, 2), random.uniform(0.3, 2))) for t in range(300)]
    points, conf, _ = make_tracks(frames, np.arange(300) / 30, "coco17")
    assert (conf.mean(-1) > 0).sum(1).max() >= 240 and len(looked) < 300 * 3 * 30 * 2  # all that follow one within 3 s, and some again


def test_a_crowd_is_not_compared_each_with_each(monkeypatch):
    compared = []
    monkeypatch.setattr(track, "oks", lambda *of, oks=track.oks: compared.append(1) or oks(*of))
    frames = [frame(*(person(400 * n + 3 * t) for n in range(40))) for t in range(10)]
    assert len(make_tracks(frames, np.arange(10) / 30, "coco17")[0]) == 40
    assert len(compared) < 10 * 40 * 10
