# SPDX-License-Identifier: GPL-3.0-or-later
"""`bridge evaluate`: its cases, rows and sections on a small part of the data; needs the shared data (LGD_DATA)."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bridge.body.files import load_body
from bridge.body.smpl import BodyModel
from bridge.errors import LgdError
from bridge.keypoints.formats import POINT_INDEX
from bridge.keypoints.repair import label_states, relabelled
from bridge.rotations import exp_so3
from bridge.train.baselines import PosePrior
from bridge.train.data import load_mocap
from bridge.train.evaluate import main, multiview, tables
from bridge.train.evaluate import stress as stress_tests
from bridge.train.evaluate.cases import CONDITIONS, FOCAL, Soles, make_cases
from bridge.train.evaluate.figures import true_contacts
from bridge.train.evaluate.handheld import evaluate_handheld
from bridge.train.evaluate.made_up import ARMS, LEGS, RISING, evaluate_made_up
from bridge.train.evaluate.noise import noise_alone
from bridge.train.evaluate.rendered import rendered
from bridge.train.evaluate.report import text
from bridge.train.evaluate.rows import LAST, Networks, our_rows, predict, run_row
from bridge.train.evaluate.stress import start_turned, swapped
from bridge.train.evaluate.targets import verdicts
from bridge.train.legs import SEATS


@pytest.fixture(scope="module")
def val(lgd_data):
    return load_mocap(BodyModel(load_body()), lgd_data).of_split("val")


@pytest.fixture(scope="module")
def soles():
    return Soles(BodyModel(load_body()))


def test_cameras_are_the_same_under_all_conditions_and_seeded(val, soles):
    cases = {c: make_cases(val, soles, ("walk",), c, 2, 40, 1) for c in CONDITIONS}
    first = cases["clean"]
    assert len(first) == 2 and not torch.equal(first[0].joints, first[1].joints)
    for found in cases.values():
        for a, b in zip(first, found, strict=True):
            assert torch.equal(a.joints, b.joints) and a.layout == b.layout
    again = make_cases(val, soles, ("walk",), "noise 20%", 2, 40, 1)
    assert torch.equal(again[0].rays, cases["noise 20%"][0].rays)


def test_conditions_are_what_they_say(val, soles):
    def missing(condition: str) -> float:
        cases = make_cases(val, soles, ("walk",), condition, 4, None, 3)
        clean = make_cases(val, soles, ("walk",), "clean", 4, None, 3)
        gone = [
            (c.confidence == 0)[:, (k.confidence > 0).any(0)].float().mean() for c, k in zip(cases, clean)
        ]
        return float(torch.stack(gone).mean())

    assert missing("clean") == 0 and 0.18 < missing("missing") < 0.22
    assert 0.04 < missing("noise 5%") < 0.06 and 0.18 < missing("noise 20%") < 0.22
    assert missing("spans") > 0.08


def test_clean_points_project_the_truth(val, soles):
    case = make_cases(val, soles, ("walk",), "clean", 1, 20, 1)[0]
    posed = soles.body.shaped(case.betas, case.layout).posed(case.rotations, case.joints[:, 0])
    seen = case.confidence > 0
    seen[:, POINT_INDEX["neck"]] = (
        False  # the one point whose parent joint a mixed batch does not set by layout
    )
    rays = posed.points[..., :2] / posed.points[..., 2:]
    assert torch.allclose(rays[seen], case.rays[seen], atol=1e-4)
    keypoints = case.keypoints()
    assert keypoints.layout == case.layout and keypoints.frames == 20 and FOCAL > 0


def test_contacts_tell_feet_at_rest_from_moving_ones(val, soles):
    networks, row = Networks(None, None, None, None), next(row for row in our_rows() if row.key == LAST)
    found, true = [], []
    for case in make_cases(val, soles, ("walk",), "noise 20%", 1, 200, 3):
        assert case.grounded
        found.append(run_row(row, networks, case.keypoints()).contacts > 0.5)
        true.append(true_contacts(case).numpy())
    found, true = np.concatenate(found), np.concatenate(true)
    assert 0.3 < true.mean() < 0.7
    assert true[found].mean() > 0.8 and found[true].mean() > 0.7  # precision, recall


def test_rows_go_through_the_fitter_and_blindness_ends_with_its_row(val, soles):
    networks = Networks(None, None, None, None)
    case = make_cases(val, soles, ("walk",), "noise 5%", 1, 24, 1)[0]
    rows = {r.key: r for r in our_rows()}
    found = {
        k: predict(rows[k], networks, case, soles) for k in ("paper3", "paper_blind", LAST, "video_blind")
    }
    for prediction in found.values():
        assert prediction.joints.shape == (24, 24, 3) and torch.isfinite(prediction.joints).all()
        assert prediction.soles.shape == (24, 4, 3)
    for last, blind in (("paper3", "paper_blind"), (LAST, "video_blind")):
        assert not torch.equal(found[last].joints, found[blind].joints)
        assert torch.equal(predict(rows[last], networks, case, soles).joints, found[last].joints)


def test_a_start_turned_away_comes_back(val, soles):
    networks = Networks(None, None, None, None)
    case = make_cases(val, soles, ("walk",), "clean", 1, 48, 1)[0]
    row = next(r for r in our_rows() if r.key == LAST)
    found = start_turned([case], soles, networks, [predict(row, networks, case, soles)])
    assert 0 < found["start_turned_pa"] < found["usual_pa"] + 10


def test_a_body_that_stays_turned_is_missed_though_its_pose_is_right(val, soles, monkeypatch):
    case = make_cases(val, soles, ("walk",), "clean", 1, 48, 1)[0]
    truth = predict(next(r for r in our_rows() if r.key == LAST), Networks(None, None, None, None), case, soles)
    truth.joints = case.joints
    turn = exp_so3(torch.tensor([0.0, 1.0, 0.0]))
    monkeypatch.setattr(stress_tests, "_from_start", lambda case, *rest: case.joints @ turn.T)
    found = {v.asked: v.met for v in verdicts({"stress": start_turned([case], soles, None, [truth])})}
    assert next(met for asked, met in found.items() if asked.startswith("start turned by 60 degrees: PA"))
    assert next(met for asked, met in found.items() if asked.startswith("start turned by 60 degrees: MPJPE")) is False


def test_swapped_labels_are_tried_under_noise_too(val, soles, monkeypatch):
    noisy = make_cases(val, soles, ("walk",), "noise 20%", 1, 60, 1)
    found = swapped("swap_noisy_", noisy, soles, Networks(None, None, None, None))
    assert found["swap_noisy_clips"] == 1
    wrong = [v for v in verdicts({"stress": {**found, "swap_wrong_frames_worst": 0, "swap_noisy_wrong_frames_worst": 9}}) if "swapped frames," in v.asked]
    assert [v.met for v in wrong] == [True, False]


@pytest.mark.parametrize("quick, cameras", [(True, 1), (False, 4)])
def test_what_is_worst_is_looked_for_before_every_camera_and_under_noise(val, soles, monkeypatch, quick, cameras):
    tried = {}
    monkeypatch.setattr(stress_tests, "run_row", lambda *rest: None)
    monkeypatch.setattr(stress_tests, "prediction_of", lambda *rest: None)
    for name in ("start_turned", "wrong_focal", "distances", "ranking", "never_seen", "speed"):
        monkeypatch.setattr(stress_tests, name, lambda *rest: {})
    monkeypatch.setattr(stress_tests, "swapped", lambda name, cases, *rest: tried.update({name: cases}) or {})
    monkeypatch.setattr(stress_tests, "unseen", lambda cases, *rest: tried.update(unseen=cases) or {})
    stress_tests.stress(val.of_subjects(("55", "cmu131")), soles, None, quick, [])
    assert list(tried) == ["swap_", "swap_noisy_", "unseen"] and tried["unseen"] == tried["swap_noisy_"]
    for cases in tried.values():
        assert {case.number for case in cases} == set(range(cameras))
    assert {case.group for case in tried["unseen"]} == {"plain", "hard"}
    assert any((case.confidence == 0).float().mean() > 0.2 for case in tried["swap_noisy_"])


def test_the_command_prints_tables_and_writes_json(lgd_data, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LGD_DATA", str(lgd_data))
    from bridge.train.evaluate import command
    from bridge.train.evaluate.tables import Scope

    small = Scope(cameras=1, longest=20, most_clips=1, subset=2, single=0, conditions=("clean",))
    monkeypatch.setattr(command, "QUICK", small)
    target = tmp_path / "figures.json"
    threads = torch.get_num_threads()
    try:
        code = main([
            "--quick", "--sections", "table,baselines", "--rows", f"paper0,paper3,{LAST},adam_3", "--threads", "1",
            "--json", str(target),
        ])  # fmt: skip
    finally:
        torch.set_num_threads(threads)
    assert code == 0
    out = capsys.readouterr().out
    assert "val-plain: PA-MPJPE mm" in out and "Floors:" in out and "same energy, Adam, 3 steps" in out
    result = json.loads(target.read_text())
    assert result["table"][LAST]["clean"]["plain"]["pa"] > 0
    assert result["baselines"]["adam_3"]["pa"]["clean"]["all"] > 0
    assert [f for f in result["floors"] if f["met"] is None]


def test_optimisers_take_as_many_steps_as_either_mode():
    taken = []
    solver = SimpleNamespace(generic=lambda method, steps: taken.append((method, steps)), smplify=lambda: None)
    for _, solve in tables.BASELINES.values():
        solve(solver)
    ours = {row.steps for row in our_rows() if row.key in ("paper3", LAST)}
    assert {(method, steps) for method in ("lbfgs", "adam") for steps in (*ours, None)} == set(taken)


@pytest.mark.parametrize("batch, timed", [(2, True), (256, False)])
def test_a_baselines_time_in_batches_is_that_of_full_ones(val, soles, monkeypatch, batch, timed):
    case = make_cases(val, soles, ("plain",), "noise 20%", 1, 20, 1)[0]
    prior = PosePrior(torch.zeros(1, 69), torch.eye(69)[None], torch.zeros(1))
    kept = {"noise 20%": tables._keep(soles, [case], [(0, 0), (0, 5), (0, 9)])}
    monkeypatch.setattr(tables, "BATCH", batch)
    scope = tables.Scope(single=0, conditions=("noise 20%",))
    entry = tables.baseline_table(soles, prior, kept, [], ["adam_3"], scope)["adam_3"]
    assert ("ms_batch" in entry) == timed and entry["pa"]["noise 20%"]["all"] > 0


def test_swapped_frames_of_real_footage_are_those_that_the_detector_swaps(lgd_data, monkeypatch):
    networks = Networks(None, None, None, None)
    monkeypatch.setattr(multiview, "SOURCES", {"blazepose": multiview.SOURCES["blazepose"]})
    seen = multiview.evaluate_multiview(lgd_data, networks, ("video",), (1,))["blazepose"]["video"]["given"]["camera 2"]
    assert seen["swapped_frames"] == 32, "as the data's README counts them"
    monkeypatch.setattr(multiview, "_stored", lambda *rest, stored=multiview._stored: relabelled(k := stored(*rest), label_states(k)))
    views = multiview.evaluate_multiview(lgd_data, networks, ("video",), (1,))
    assert "swapped_frames" not in views["blazepose"]["video"]["given"]["camera 2"]
    floor = next(v for v in verdicts({"multiview": views}) if v.asked.startswith("camera 2, BlazePose"))
    assert floor.met is None, "a detector that swaps nothing tells nothing of how swaps come out"


def test_noise_alone_is_less_the_longer_it_is_averaged(val, soles):
    found = noise_alone(val, soles, 96, 2)
    for figures in found.values():
        assert 25 < figures["points"] < 45, "WHAM's tables at gain 1"
        assert 15 < figures["lasting"] < figures["second"] < figures["points"]


def test_rendered_people_are_fitted_from_what_blazepose_says_of_them(val, soles):
    row = next(r for r in our_rows() if r.key == LAST)
    found = rendered(val, soles, Networks(None, None, None, None), [row], 2)
    assert found[LAST].keys() == {"plain", "hard"}
    assert 10 < found[LAST]["plain"]["pa"] < 100 and found[LAST]["plain"]["acc"] > 0


def test_people_who_sit_and_reach_are_fitted_and_told_of(val, soles):
    row = next(r for r in our_rows() if r.key == LAST)
    networks = Networks(None, None, None, None)
    arms = {kind: ARMS[kind] for kind in ("up", "folded")}
    seats, arms = (evaluate_made_up(val, soles, networks, [row], kinds, True) for kinds in (LEGS, arms))
    assert seats[LAST].keys() == {"as captured", *SEATS, RISING} and arms[LAST].keys() == {"as captured", "up", "folded"}
    assert seats[LAST]["as captured"] == arms[LAST]["as captured"]
    figures = [v[condition] for found in (seats, arms) for v in found[LAST].values() for condition in ("clean", "noise 20%")]
    assert 10 < min(figures) and max(figures) < 90
    result = {"quick": True, "commit": "abc", "machine": "m", "weights": {}, "detector": "BlazePose", "blind_trained": {}, "batch": 256, "titles": {LAST: "video"}}
    told = text(result | {"seats": seats, "arms": arms})
    assert "video: people who sit and kneel" in told and "cross-legged" in told and "video: hands in places" in told and "folded" in told


def test_unknown_rows_are_refused():
    with pytest.raises(LgdError) as fault:
        main(["--rows", "nothing"])
    assert fault.value.code == "bad_input"


def test_a_folder_for_the_figures_is_refused_before_anything_is_measured(tmp_path):
    with pytest.raises(LgdError, match="is a folder"):
        main(["--json", str(tmp_path)])
    assert not list(tmp_path.parent.glob("*.part"))


def test_a_camera_in_the_hand_is_followed(lgd_data):
    pytest.importorskip("mediapipe", reason="mediapipe is not installed")
    found = evaluate_handheld(lgd_data, Networks(None, None, None, None), (2,))
    assert found["still"]["untold"] == found["still"]["followed"] < 100 and found["still"]["turns"] == 0
    for way in ("in the hand", "panned", "zoomed"):
        assert found[way]["followed"] < 0.8 * found[way]["untold"] and found[way]["followed"] < found["still"]["followed"] + 30, way
        assert found[way]["turns"] < 0.4 and found[way]["travels"] == 0, way
    result = {"quick": True, "commit": "abc", "machine": "m", "weights": {}, "detector": "BlazePose", "blind_trained": {}, "batch": 256, "titles": {}, "handheld": found}
    assert "one camera turned" in text(result)
    assert found["panned"]["lens"] < 3 < found["panned"]["lens_person"] and found["panned"]["up"] < 3.2


def test_a_camera_that_is_carried_along_is_followed(lgd_data, monkeypatch):
    pytest.importorskip("mediapipe", reason="mediapipe is not installed")
    pytest.importorskip("pycolmap", reason="pycolmap is not installed")
    from bridge.train.evaluate import carried

    monkeypatch.setattr(carried, "WAYS", ("behind",))
    body = BodyModel(load_body())
    found = carried.evaluate_carried(lgd_data, load_mocap(body).of_split("val"), body, Networks(None, None, None, None), 1)["behind"]
    assert found["seen"] == 1 and found["found"] < 0.2 * found["untold"] and found["found"] < found["true"] + 25
    assert abs(found["way"] / found["true_way"] - 1) < 0.15 and abs(found["focal"] - 1) < 0.05 and found["turns"] < 1
    result = {"quick": True, "commit": "abc", "machine": "m", "weights": {}, "detector": "BlazePose", "blind_trained": {}, "batch": 256, "titles": {}, "carried": {"behind": found}}
    assert "carried through a room" in text(result)


def test_floors_judge_what_was_measured():
    figures = {"pa": 27.0, "mpjpe": 50.0, "acc": 5.0}
    table = {
        row: {c: {"plain": {**figures, "pa": pa}, "hard": figures} for c in CONDITIONS}
        for row, pa in (("paper0", 70.0), ("paper3", 56.0), ("paper_blind", 60.0), (LAST, 27.0))
    }
    found = {v.asked: v for v in verdicts({"table": table, "stress": {"peak_memory_mb": 3000.0}})}
    gain = next(v for k, v in found.items() if "step 3 below step 0" in k)
    assert gain.met and abs(gain.value - 20) < 1e-6
    assert next(v for k, v in found.items() if k.startswith("memory")).met is False
    ablation = "paper trained without gradient input, val-plain clean"
    assert next(v for k, v in found.items() if k.startswith(ablation)).met is None, "zeroed is not trained without"
    trained = verdicts({"table": table, "blind_trained": {"paper": True}})
    assert next(v for v in trained if v.asked.startswith(ablation)).value == 4
    assert next(v for k, v in found.items() if k.startswith("beam")).met is None
    result = {
        "quick": True, "commit": "abc", "machine": "m", "weights": {}, "detector": "BlazePose", "blind_trained": {}, "batch": 256, "titles": {},
    }  # fmt: skip
    assert "not measured in this run" in text(result)
