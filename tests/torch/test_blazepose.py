# SPDX-License-Identifier: GPL-3.0-or-later
"""Two looks at one picture, as it is and mirrored: what they say together, of one person and of two."""

import numpy as np
import pytest

pytest.importorskip("cv2", reason="opencv-python is not installed")

from bridge.keypoints import blazepose
from bridge.keypoints.blazepose import AGREE, BlazePose
from bridge.keypoints.formats import get_layout

WIDTH, HEIGHT = 320, 240
LAYOUT = get_layout("blazepose33")
LEFT_WRIST, RIGHT_WRIST = LAYOUT.names.index("left_wrist"), LAYOUT.names.index("right_wrist")


def person(at: float = 0.0) -> np.ndarray:
    """Points (33, 2) px of somebody so far to the right."""
    return np.random.default_rng(4).uniform((40, 40), (120, 200), (33, 2)) + (at, 0)


SIZE = float(np.linalg.norm(np.ptp(person(), 0)))


class Looks:
    """Graphs that say what they are told to, in the picture's pixels; the second one sees it mirrored."""

    def __init__(self, monkeypatch, *told):
        self.told, self.shown, looks = list(told), [], self

        class Graph:
            count = 0

            def __init__(self, network):
                self.started, self.number = True, Graph.count
                Graph.count += 1

            def see(self, image, anew):
                looks.shown.append((self.number, image.copy(), anew))
                look = looks.told[0][self.number]
                if look is None:
                    return None
                points, conf = (np.array(v, float) for v in look)
                if self.number:  # of the mirror image: its left is the picture's right
                    mirror = LAYOUT.mirror
                    points, conf = np.stack((WIDTH - 1 - points[:, 0], points[:, 1]), -1)[mirror], conf[mirror]
                return points, conf

            def close(self):
                pass

        monkeypatch.setattr(blazepose, "_Graph", Graph)
        self.finder = BlazePose()

    def find(self, boxes=()):
        found = self.finder.find(np.full((HEIGHT, WIDTH, 3), 200, np.uint8), boxes)
        self.told.pop(0)
        return found


def test_what_two_looks_agree_on_is_believed(monkeypatch):
    one, sure = person(), np.full(33, 0.9)
    other = one.copy()
    other[LEFT_WRIST] += (0.6 * AGREE * SIZE, 0.8 * AGREE * SIZE)
    looks = Looks(monkeypatch, ((one, sure), (other, sure)))
    points, conf = looks.find()
    assert np.allclose(points[0], (one + other) / 2)
    assert conf[0, LEFT_WRIST] == pytest.approx(0.45, rel=0.02) and np.allclose(np.delete(conf[0], LEFT_WRIST), 0.9)
    looks.finder.close()


def test_sides_told_otherwise_are_no_disagreement(monkeypatch):
    one, sure = person(), np.linspace(0.5, 0.9, 33)
    looks = Looks(monkeypatch, ((one, sure), (one[LAYOUT.mirror], sure[LAYOUT.mirror])))
    points, conf = looks.find()
    assert np.allclose(points[0], one) and np.allclose(conf[0], sure)
    looks.finder.close()


def test_one_look_that_sees_nobody_does_not_hide_the_person(monkeypatch):
    sure = np.full(33, 0.8)
    looks = Looks(monkeypatch, (None, (person(), sure)), ((person(), sure), None), (None, None))
    for _ in range(2):
        points, conf = looks.find()
        assert np.allclose(points[0], person()) and np.allclose(conf[0], 0.8)
    assert len(looks.find()[0]) == 0
    looks.finder.close()


@pytest.mark.parametrize("stray", [0, 1])
def test_a_look_that_goes_to_somebody_else_is_brought_back(monkeypatch, stray):
    sure, away = np.full(33, 0.8), (person(150), np.full(33, 0.99))
    here = person(), sure
    parted = (away, here) if stray == 0 else (here, away)
    looks = Looks(monkeypatch, (here, here), parted, (here, here), (here, here))
    found = [looks.find() for _ in range(4)]
    assert all(np.allclose(points[0], person()) and np.allclose(conf[0], 0.8) for points, conf in found)
    for frame in range(4):
        for number, image, anew in looks.shown[2 * frame : 2 * frame + 2]:
            brought = frame == 2 and number == stray
            assert anew == brought
            seen = image if number == 0 else image[:, ::-1]
            assert (seen[120, 80] == 200).all() and (seen[120, 300] == (0 if brought else 200)).all()
    looks.finder.close()


def test_at_the_beginning_the_surer_of_two_people_is_taken(monkeypatch):
    one, other = (person(), np.full(33, 0.6)), (person(150), np.full(33, 0.9))
    looks = Looks(monkeypatch, (one, other))
    points, conf = looks.find()
    assert np.allclose(points[0], person(150)) and np.allclose(conf[0], 0.9)
    looks.finder.turn()
    looks.told = [((person(), np.full(33, 0.9)), (person(150), np.full(33, 0.6)))]
    assert np.allclose(looks.find()[0][0], person())
    looks.finder.close()


def test_a_box_holds_for_both_looks(monkeypatch):
    sure = np.full(33, 0.8)
    looks = Looks(monkeypatch, ((person(), sure), (person(), sure)))
    looks.find([(0, 0, 160, HEIGHT)])
    for number, image, anew in looks.shown:
        seen = image if number == 0 else image[:, ::-1]
        assert anew and (seen[:, :160] == 200).all() and not seen[:, 161:].any()
    looks.finder.close()


def test_a_limb_lost_for_a_moment_stays_in_the_window_round_a_boxed_person(monkeypatch):
    points, sure = person(), np.full(33, 0.8)
    legs = [k for k, name in enumerate(LAYOUT.names) if name.endswith(("knee", "ankle", "heel", "toe"))]
    points[:, 1] = np.where(np.isin(np.arange(33), legs), 200, points[:, 1] / 2)
    unsure = sure.copy()
    unsure[legs] = 0.01
    looks = Looks(monkeypatch, *[((points, s), (points, s)) for s in (sure, unsure, unsure, sure)])
    looks.find([(0, 0, WIDTH - 1, HEIGHT - 1)])
    for _ in range(3):
        conf = looks.find()[1]
    assert conf[0] == pytest.approx(0.8), "the legs were still shown when they were found again"
    assert (looks.shown[-2][1][200, points[legs, 0].astype(int)] == 200).all()
    looks.finder.close()


@pytest.mark.parametrize(("fast", "there", "networks"), [(False, True, [2, 2]), (False, False, [1, 1]), (True, True, [1]), (True, False, [1])])
def test_the_large_network_looks_where_it_is_there_and_time_is_given(monkeypatch, fast, there, networks):
    made = []

    class Graph:
        started = True

        def __init__(self, network):
            made.append(network)

        def see(self, image, anew):
            return person(), np.full(33, 0.8)

        def close(self):
            pass

    monkeypatch.setattr(blazepose, "_Graph", Graph)
    monkeypatch.setattr(blazepose.models, "there", lambda package: there)
    finder = BlazePose(fast)
    assert made == networks and len(finder.find(np.zeros((HEIGHT, WIDTH, 3), np.uint8), ())[0]) == 1
    finder.close()
