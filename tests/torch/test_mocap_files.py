# SPDX-License-Identifier: GPL-3.0-or-later
"""Users' own motion capture, as AMASS, .smpl and BVH files write it, comes back as the motion it was."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

pytest.importorskip("smplcodec", reason="smplcodec is not installed")
pytest.importorskip("pymotion", reason="upc-pymotion is not installed")

from bridge.body import joints as J
from bridge.body.files import load_body
from bridge.body.smpl import BodyModel
from bridge.errors import LgdError
from bridge.rotations import exp_so3, log_so3, quaternion_to_matrix
from bridge.train.mocap_files import map_joints, read_folder, read_take

Z_UP = Rotation.from_euler("x", 90, degrees=True).as_matrix()  # Y up to Z up
MIXAMO = (
    "Hips", "LeftUpLeg", "RightUpLeg", "Spine", "LeftLeg", "RightLeg", "Spine1", "LeftFoot", "RightFoot", "Spine2",
    "LeftToeBase", "RightToeBase", "Neck", "LeftShoulder", "RightShoulder", "Head", "LeftArm", "RightArm", "LeftForeArm",
    "RightForeArm", "LeftHand", "RightHand",
)  # fmt: skip


@pytest.fixture(scope="module")
def body():
    return BodyModel(load_body())


def motion(frames: int, fps: float) -> tuple[torch.Tensor, np.ndarray]:
    """A smooth motion with collars to wrists in use: rotations (F, 24, 3, 3) Y up, and a path (F, 3) m."""
    gen = torch.Generator().manual_seed(5)
    keys = torch.randn(3, 24, 3, generator=gen, dtype=torch.float64) * 0.4
    keys[:, 22:] = 0
    t = torch.arange(frames, dtype=torch.float64)[:, None, None] / fps
    vectors = keys[0] + keys[1] * torch.sin(2 * t) + keys[2] * torch.cos(3 * t)
    times = np.arange(frames)[:, None] / fps
    return exp_so3(vectors), np.concatenate((times * 0.5, 0.9 + 0 * times, -times), 1)


def same_motion(mocap, rotations: torch.Tensor, every: int) -> None:
    found = quaternion_to_matrix(mocap.quats)
    expected = rotations[::every].float()
    assert len(found) == len(expected)
    assert log_so3(found[:, :22].transpose(-1, -2) @ expected[:, :22]).norm(dim=-1).max() < 2e-3


@pytest.mark.parametrize("width", [72, 156, 165])
def test_amass(tmp_path, body, width):
    rotations, path = motion(121, 120)
    vectors = rotations.clone()
    vectors[:, 0] = torch.as_tensor(Z_UP) @ vectors[:, 0]
    poses = np.zeros((121, width))
    poses[:, :72] = log_so3(vectors).flatten(1).numpy()
    rate = {"mocap_frame_rate" if width == 165 else "mocap_framerate": 120.0}
    gender = np.array("neutral", dtype=object)  # an object among the arrays must neither be unpickled nor stop us
    np.savez(tmp_path / "walk_poses.npz", poses=poses, trans=path @ Z_UP.T, betas=np.zeros(16), gender=gender, **rate)
    mocap = read_folder(tmp_path, body)
    same_motion(mocap, rotations, 4)
    step = mocap.trans[-1] - mocap.trans[0]
    hips = (body.joint_template[1] + body.joint_template[2]) / 2 - body.joint_template[0]
    turned = (rotations[[0, -1], 0].float() @ hips)[1] - (rotations[[0, -1], 0].float() @ hips)[0]
    scale = step[0] / (path[-1, 0] + turned[0])
    assert 0.9 < scale < 1.15  # the file's leg to ours
    assert step[2] == pytest.approx(float((path[-1, 2] + turned[2]) * scale), abs=1e-3)


def test_every_clip_stands_on_the_floor(tmp_path, body):
    from bridge.train.mocap_files import _soles

    rotations, path = motion(60, 30)
    poses = log_so3(rotations).flatten(1).numpy()
    np.savez(tmp_path / "a.npz", poses=poses, trans=path + [0, 0, 7], mocap_framerate=30.0)
    mocap = read_folder(tmp_path, body)
    lowest = _soles(quaternion_to_matrix(mocap.quats), mocap.trans, body)[..., 1].amin(1)
    assert abs(float(torch.quantile(lowest, 0.05))) < 1e-3


def test_a_motion_of_our_own_is_turned_out_of_its_camera(tmp_path, body):
    """motion.npz has the camera's axes, y down, and where the camera stands."""
    rotations, path = motion(60, 30)
    rotations[:, 0] = torch.eye(3, dtype=torch.float64)
    camera = np.eye(4)
    camera[:3, :3] = Rotation.from_euler("zx", [20, -80], degrees=True).as_matrix()  # of a Z-up world
    camera[:3, 3] = 1.0, -4.0, 1.5
    vectors = rotations.clone()
    vectors[:, 0] = torch.as_tensor(camera[:3, :3].T @ Z_UP) @ vectors[:, 0]
    rest = body.joint_template[0].double().numpy()
    seen = (rest + path) @ Z_UP.T - camera[:3, 3]  # pelvis joints
    np.savez(
        tmp_path / "motion.npz", poses=log_so3(vectors).flatten(1).numpy(), trans=seen @ camera[:3, :3] - rest, mocap_framerate=30.0,
        T_world_cam=camera,
    )  # fmt: skip
    mocap = read_folder(tmp_path, body)
    same_motion(mocap, rotations, 1)
    step = (mocap.trans[-1] - mocap.trans[0]).numpy()
    assert step / np.linalg.norm(step) == pytest.approx((path[-1] - path[0]) / np.linalg.norm(path[-1] - path[0]), abs=1e-3)


@pytest.mark.parametrize("turn", ("y", "-y", "-z"))
def test_a_person_who_stands_along_another_axis_is_turned_upright(tmp_path, body, turn):
    rotations, path = motion(60, 30)
    rotations[:, 0] = torch.eye(3, dtype=torch.float64)
    given = {"y": np.eye(3), "-y": np.diag([1.0, -1.0, -1.0]), "-z": Rotation.from_euler("x", -90, degrees=True).as_matrix()}[turn]
    stored = rotations.clone()
    stored[:, 0] = torch.as_tensor(given) @ stored[:, 0]
    np.savez(tmp_path / "a.npz", poses=log_so3(stored).flatten(1).numpy(), trans=path @ given.T, mocap_framerate=30.0)
    same_motion(read_folder(tmp_path, body), rotations, 1)


def test_who_lies_in_an_amass_file_stays_lying(tmp_path, body):
    rotations, path = motion(60, 30)
    rotations[:, 0] = torch.as_tensor(Rotation.from_euler("x", -90, degrees=True).as_matrix())  # on the back, along the world's Y
    stored = rotations.clone()
    stored[:, 0] = torch.as_tensor(Z_UP) @ stored[:, 0]
    np.savez(tmp_path / "a.npz", poses=log_so3(stored).flatten(1).numpy(), trans=path @ Z_UP.T * [1, 1, 0.1], mocap_framerate=30.0)
    same_motion(read_folder(tmp_path, body), rotations, 1)


def test_other_units_are_told_and_links_followed(tmp_path, body):
    rotations, path = motion(60, 30)
    poses = log_so3(rotations).flatten(1).numpy()
    real, own = tmp_path / "real", tmp_path / "own"
    real.mkdir()
    own.mkdir()
    np.savez(real / "good.npz", poses=poses, trans=path, mocap_framerate=30.0)
    np.savez(own / "degrees.npz", poses=np.degrees(poses), trans=path, mocap_framerate=30.0)
    np.savez(own / "centimetres.npz", poses=poses, trans=path * 100, mocap_framerate=30.0)
    (own / "linked").symlink_to(real)
    (real / "back").symlink_to(own)
    said: list[str] = []
    assert len(read_folder(own, body, said.append).quats) == 60
    assert len(said) == 2 and any("radians" in line for line in said) and any("in metres" in line for line in said)


@pytest.mark.parametrize("z_up", [False, True])
def test_smpl_files(tmp_path, body, z_up):
    from smplcodec import SMPLCodec, SMPLVersion

    rotations, path = motion(61, 60)
    rotations[:, 0] = torch.eye(3, dtype=torch.float64)  # upright, so that the world's up axis shows
    stored = rotations.clone()
    if z_up:
        stored[:, 0] = torch.as_tensor(Z_UP) @ stored[:, 0]
        path = path @ Z_UP.T
    pose = log_so3(stored)[:, :22].numpy().astype(np.float32)
    SMPLCodec(
        smpl_version=SMPLVersion.SMPLX, frame_count=61, frame_rate=60.0, body_pose=pose, shape_parameters=np.zeros(10, np.float32),
        body_translation=path.astype(np.float32),
    ).write(tmp_path / "take.smpl")  # fmt: skip
    same_motion(read_folder(tmp_path, body), rotations, 2)


def write_bvh(path, rest: np.ndarray, local: np.ndarray, root: np.ndarray, fps: float, names=MIXAMO) -> None:
    """rest: (22, 3) cm; local: (F, 22, 3, 3) rotations of that rest skeleton; root: (F, 3) cm."""
    lines, order = ["HIERARCHY"], []

    def joint(j: int, depth: int) -> None:
        pad = "\t" * depth
        offset = rest[j] - (rest[J.PARENTS[j]] if j else 0)
        order.append(j)
        kind = "JOINT" if j else "ROOT"
        position = "Xposition Yposition Zposition " if j == 0 else ""
        lines.extend([f"{pad}{kind} {names[j]}", pad + "{", f"{pad}\tOFFSET " + " ".join(f"{v:.6f}" for v in offset)])
        lines.append(f"{pad}\tCHANNELS {6 if j == 0 else 3} {position}Zrotation Xrotation Yrotation")
        children = [c for c in range(22) if J.PARENTS[c] == j]
        for c in children:
            joint(c, depth + 1)
        if not children:
            lines.extend([f"{pad}\tEnd Site", f"{pad}\t{{", f"{pad}\t\tOFFSET 0 5 0", f"{pad}\t}}"])
        lines.append(pad + "}")

    joint(0, 0)
    lines += ["MOTION", f"Frames: {len(local)}", f"Frame Time: {1 / fps:.8f}"]
    euler = np.stack([Rotation.from_matrix(local[:, j]).as_euler("ZXY", degrees=True) for j in range(22)], 1)
    for frame in range(len(local)):
        values = [*root[frame], *(v for j in order for v in euler[frame, j])]
        lines.append(" ".join(f"{v:.6f}" for v in values))
    path.write_text("\n".join(lines) + "\n")


def test_bvh_of_the_same_skeleton(tmp_path, body):
    rotations, path = motion(61, 60)
    rest = body.joint_template.double().numpy()[:22] * 100
    write_bvh(tmp_path / "t.bvh", rest, rotations[:, :22].numpy(), path * 100, 60)
    # A rest pose that differs by rounding alone: bones already point where they should.
    same_motion(read_folder(tmp_path, body), rotations, 2)
    text = (tmp_path / "t.bvh").read_text().replace("MOTION", "\nMOTION")
    (tmp_path / "t.bvh").write_text(text + "\n \n")  # empty lines are no frames
    same_motion(read_folder(tmp_path, body), rotations, 2)


def test_bvh_whose_hips_hang_on_a_root_that_stands_still(tmp_path, body):
    rotations, path = motion(60, 30)
    write_bvh(tmp_path / "t.bvh", body.joint_template.double().numpy()[:22] * 100, rotations[:, :22].numpy(), path * 100, 30)
    tree, moves = (tmp_path / "t.bvh").read_text().replace("ROOT", "JOINT").removeprefix("HIERARCHY").split("MOTION\n")
    lines = moves.splitlines()
    root = "ROOT Reference\n{\nOFFSET 0 0 0\nCHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation"
    rows = "\n".join([*lines[:2], *(f"0 0 0 0 0 0 {line}" for line in lines[2:])])
    (tmp_path / "t.bvh").write_text(f"HIERARCHY\n{root}{tree}}}\nMOTION\n{rows}\n")
    same_motion(read_folder(tmp_path, body), rotations, 1)


def test_bvh_of_a_skeleton_with_lowered_arms_and_another_facing(tmp_path, body):
    """Every limb points where the file's limb points, though the file's rest pose is another."""
    rotations, path = motion(40, 30)
    down = torch.zeros(24, 3, dtype=torch.float64)
    down[16, 2], down[17, 2], down[0, 1], down[4, 0] = -0.9, 0.9, 0.7, 0.1
    model = body.shaped(torch.zeros(10), "smpl")
    posed = model.posed(exp_so3(down).float())
    rest = posed.joints.double().numpy()[:22] * 100
    rest_world = posed.world.double()
    world = model.posed(rotations.float()).world.double()
    given = world[:, :22] @ rest_world[:22].transpose(-1, -2)
    local = given.clone()
    for j in range(1, 22):
        local[:, j] = given[:, J.PARENTS[j]].transpose(-1, -2) @ given[:, j]
    write_bvh(tmp_path / "t.bvh", rest, local.numpy(), path * 100, 30, [f"mixamorig:{n}" for n in MIXAMO])
    take = read_take(tmp_path / "t.bvh", body)
    found = model.posed(torch.as_tensor(take.rotations).float()).joints
    truth = model.posed(rotations.float()).joints
    for a, b in ((1, 4), (4, 7), (2, 5), (5, 8), (16, 18), (18, 20), (17, 19), (19, 21), (7, 10)):
        one, two = (torch.nn.functional.normalize(x[:, b] - x[:, a], dim=-1) for x in (found, truth))
        assert (one * two).sum(-1).min() > 0.995, (a, b)


def test_names_of_common_rigs():
    cmu = "hip lfemur ltibia lfoot rfemur rtibia rfoot lowerback upperback thorax lclavicle lhumerus lradius lwrist rclavicle rhumerus rradius rwrist neck head".split()
    tree = {"lfemur": "hip", "ltibia": "lfemur", "lfoot": "ltibia", "rfemur": "hip", "rtibia": "rfemur", "rfoot": "rtibia", "lowerback": "hip", "upperback": "lowerback", "thorax": "upperback", "lclavicle": "thorax", "lhumerus": "lclavicle", "lradius": "lhumerus", "lwrist": "lradius", "rclavicle": "thorax", "rhumerus": "rclavicle", "rradius": "rhumerus", "rwrist": "rradius", "neck": "thorax", "head": "neck"}  # fmt: skip
    parents = [-1 if n == "hip" else cmu.index(tree[n]) for n in cmu]
    spelled = {n: {"l": "Left", "r": "Right"}[n[0]] + n[1:].title() if n[1:] in SIDED else n.title() for n in cmu}
    for names in (cmu, [spelled[n] for n in cmu], [f"{n[1:].title()}_{n[0].upper()}" if n[1:] in SIDED else n for n in cmu]):
        found = map_joints(names, parents)
        assert {J.NAMES[j]: cmu[i] for j, i in found.items() if j in (4, 17, 18, 21, 13)} == {
            "left_knee": "ltibia", "right_shoulder": "rhumerus", "left_elbow": "lradius", "right_wrist": "rwrist",
            "left_collar": "lclavicle",
        }  # fmt: skip
        assert (cmu[found[3]], cmu[found[6]], cmu[found[9]]) == ("lowerback", "upperback", "thorax")
    assert map_joints(["a", "b"], [-1, 0]) == {}


SIDED = ("femur", "tibia", "foot", "clavicle", "humerus", "radius", "wrist")


def test_what_cannot_be_read_is_named_and_left_out(tmp_path, body):
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 torn")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.savez(tmp_path / "odd.npz", poses=np.zeros((4, 60)), trans=np.zeros((4, 3)), mocap_framerate=30.0)
    np.savez(tmp_path / "nan.npz", poses=np.full((4, 72), np.nan), trans=np.zeros((4, 3)), mocap_framerate=30.0)
    (tmp_path / "nothing.npz").write_bytes(b"")
    np.savez_compressed(tmp_path / "flipped.npz", poses=np.random.rand(400, 72), trans=np.zeros((400, 3)), mocap_framerate=30.0)
    flipped = bytearray((tmp_path / "flipped.npz").read_bytes())
    flipped[len(flipped) // 2 : len(flipped) // 2 + 40] = b"\xff" * 40
    (tmp_path / "flipped.npz").write_bytes(flipped)
    np.savez(tmp_path / "rates.npz", poses=np.zeros((4, 72)), trans=np.zeros((4, 3)), mocap_framerate=[30.0, 60.0])
    (tmp_path / "empty.bvh").write_text("HIERARCHY\n")
    rest = body.joint_template.double().numpy()[:22] * 100
    write_bvh(tmp_path / "cut.bvh", rest, np.tile(np.eye(3), (9, 22, 1, 1)), np.zeros((9, 3)), 30)
    lines = (tmp_path / "cut.bvh").read_text().rstrip("\n").split("\n")
    (tmp_path / "cut.bvh").write_text("\n".join(lines[:-3]) + "\n")
    (tmp_path / "text.smpl").write_text("no")
    said: list[str] = []
    with pytest.raises(LgdError, match="No motion capture"):
        read_folder(tmp_path, body, said.append)
    assert len(said) == 10 and all("cannot be trained on" in line for line in said)
    assert any("cut.bvh" in line and "after 6 of its 9 frames" in line for line in said)
    np.savez(tmp_path / "good.npz", poses=np.zeros((4, 72)), trans=np.zeros((4, 3)), mocap_framerate=30.0)
    (tmp_path / "03").mkdir()  # as a subject of the shared data, by whose names it is chosen what validates
    np.savez(tmp_path / "03" / "good.npz", poses=np.zeros((4, 72)), trans=np.zeros((4, 3)), mocap_framerate=30.0)
    mocap = read_folder(tmp_path, body, said.append)
    assert len(mocap.quats) == 8 and "03" not in mocap.subject
