# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion capture of the user's own to train on: AMASS .npz (SMPL, SMPL+H, SMPL-X), .smpl and BVH files.

`read_folder` takes all of them below a folder and gives clips like those of the shared file: SMPL's 24 joint rotations
at 30 fps in a Y-up world, hip midpoints for the body at hand, every clip set on the floor with that body's soles.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from ..body import joints as J
from ..body.smpl import BodyModel
from ..errors import LgdError
from ..rotations import exp_so3, resample_rotations, resample_values
from .data import LEG_OF_FILE, Mocap, continuous_quaternions, leg_length

RATE = 30.0
SUFFIXES = (".npz", ".smpl", ".bvh")
Z_UP = Rotation.from_euler("x", -90, degrees=True).as_matrix()  # a Z-up world seen in a Y-up one
FASTEST = 30.0  # m/s in the median: beyond it a file is in other units
HELD_OUT = 20  # every so-many-th file is kept from training and validates


@dataclass
class Take:
    """One file's motion. rotations (F, 24, 3, 3) local, world Y up; root (F, 3) m, hip midpoint of a person whose leg
    (hip to knee to ankle) is `leg` m; fps."""

    rotations: np.ndarray
    root: np.ndarray
    leg: float
    fps: float


def read_take(path: Path, body: BodyModel) -> Take:
    """The motion in one file. Raises LgdError with a sentence where there is none that can be read."""
    readers = {".npz": _amass, ".smpl": _smpl, ".bvh": _bvh}
    if path.suffix.lower() not in readers:
        raise _unreadable(path, "it is none of " + ", ".join(SUFFIXES))
    take = readers[path.suffix.lower()](path, body)
    if not (np.isfinite(take.rotations).all() and np.isfinite(take.root).all()):
        raise _unreadable(path, "it holds values that are not numbers")
    if not 1 <= take.fps <= 1000:
        raise _unreadable(path, f"its frame rate is {take.fps:g}")
    if len(take.root) > 1:
        pace = float(np.median(np.linalg.norm(np.diff(take.root, axis=0), axis=-1))) * take.fps * LEG_OF_FILE / take.leg
        if pace > FASTEST:
            raise _unreadable(path, f"the person moves at {pace:.3g} m/s: are its places in metres?")
    return take


def _unreadable(path: Path, why: str) -> LgdError:
    return LgdError("bad_input", f"{path} cannot be trained on: {why}.", "Mend the file or take it out of the folder.")


def _in_radians(path: Path, poses: np.ndarray) -> None:
    """poses: (F, 3 K). Raises LgdError where these are turns by more than once round, as angles in degrees would be."""
    turns = np.linalg.norm(poses.reshape(len(poses), -1, 3)[:, 1:22], axis=-1)
    if len(turns) and np.nanmedian(turns.max(1)) > 3 * np.pi:
        raise _unreadable(path, "its poses are no axis-angle vectors in radians")


def _from_smpl_vectors(poses: np.ndarray, trans: np.ndarray, fps: float, body: BodyModel, turn: np.ndarray) -> Take:
    """poses: (F, >= 66) axis-angle rad, 22 or 24 joints used; trans: (F, 3) m; turn: (3, 3) the file's world to Y up."""
    count = 24 if poses.shape[1] == 72 else 22  # SMPL+H and SMPL-X go on with fingers and face
    vectors = np.zeros((len(poses), 24, 3))
    vectors[:, :count] = poses[:, : 3 * count].reshape(len(poses), count, 3)
    rotations = exp_so3(torch.as_tensor(vectors)).numpy(force=True)
    rotations[:, 0] = turn @ rotations[:, 0]
    rest = body.joint_template.double().numpy(force=True)
    # trans moves the pelvis joint; where that rests in the file's model is a constant, which flooring takes out.
    root = trans @ turn.T + rotations[:, 0] @ ((rest[1] + rest[2]) / 2 - rest[0])
    return Take(rotations, root, LEG_OF_FILE, fps)


def _amass(path: Path, body: BodyModel) -> Take:
    try:
        with np.load(path, allow_pickle=False) as file:  # names of objects are in some files, and never looked at
            poses, trans = np.asarray(file["poses"], float), np.asarray(file["trans"], float)
            rate = next((float(file[k]) for k in ("mocap_framerate", "mocap_frame_rate") if k in file), None)
            camera = np.asarray(file["T_world_cam"], float) if "T_world_cam" in file else None
    except Exception as fault:  # noqa: BLE001 (the readers of zips and arrays raise whatever a broken file leads to)
        raise _unreadable(path, "it is no AMASS file with poses and trans") from fault
    if poses.ndim != 2 or poses.shape[1] not in (72, 156, 165) or trans.shape != (len(poses), 3) or not len(poses):
        raise _unreadable(path, f"its poses have the shape {poses.shape}, not (frames, 72, 156 or 165)")
    if rate is None:
        raise _unreadable(path, "it names no mocap_framerate, which AMASS's files do")
    _in_radians(path, poses)
    if camera is not None:  # our own motion.npz, in the camera's frame
        if camera.shape not in ((4, 4), (len(poses), 4, 4)):
            raise _unreadable(path, f"its T_world_cam has the shape {camera.shape}")
        turns, rest = camera[..., :3, :3], body.joint_template[0].double().numpy(force=True)
        root = Rotation.from_matrix(turns) * Rotation.from_rotvec(poses[:, :3])
        trans = ((turns @ (trans + rest)[..., None])[..., 0] + camera[..., :3, 3]) - rest
        poses = np.concatenate((root.as_rotvec(), poses[:, 3:]), 1)
    return _turned_upright(_from_smpl_vectors(poses, trans, rate, body, np.eye(3)), Z_UP)


def _smpl(path: Path, body: BodyModel) -> Take:
    from smplcodec import SMPLCodec

    try:
        read = SMPLCodec.from_file(path)
        poses = np.asarray(read.body_pose, float)
        trans = np.zeros((len(poses), 3)) if read.body_translation is None else np.asarray(read.body_translation, float)
    except Exception as fault:  # noqa: BLE001 (as above)
        raise _unreadable(path, "it is no .smpl file with a motion") from fault
    if poses.ndim != 3 or poses.shape[1] not in (22, 24) or not len(poses):
        raise _unreadable(path, "it holds no body pose of SMPL's joints")
    _in_radians(path, poses.reshape(len(poses), -1))
    return _turned_upright(_from_smpl_vectors(poses.reshape(len(poses), -1), trans, read.frame_rate or RATE, body, np.eye(3)), None)


def _turned_upright(take: Take, usual: np.ndarray | None) -> Take:
    """A take of a world whose up is not told in the Y-up one: by the trunk, where that stands along one axis nearly throughout, with the
    hips at a standing person's height. Else by `usual` (3, 3), the turn of the file's kind; None: by the trunk's median at any rate."""
    trunk = take.rotations[:, 0] @ np.array([0.0, 1.0, 0.0])
    median = np.median(trunk, axis=0)
    axis = int(np.abs(median).argmax())
    side = np.sign(median[axis])
    height = take.root[:, axis] * side
    upright = bool((trunk[:, axis] * side > 0.7).mean() > 0.9 and 0.4 < np.median(height) < 1.5 and height.std() < 0.25)
    turn = _to_y_up(median) if upright or usual is None else usual
    take.rotations[:, 0], take.root = turn @ take.rotations[:, 0], take.root @ turn.T
    return take


def _to_y_up(up: np.ndarray) -> np.ndarray:
    """(3, 3) quarter or half turn that makes the world axis nearest to `up` (3) the Y axis; files do not say which is theirs."""
    axis = int(np.abs(up).argmax())
    side = np.sign(up[axis])
    if axis == 1:
        return np.eye(3) if side > 0 else np.diag([1.0, -1.0, -1.0])
    return Rotation.from_euler("x", -90 * side, degrees=True).as_matrix() if axis == 2 else Rotation.from_euler("z", 90 * side, degrees=True).as_matrix()


# Names of BVH joints, lower case, without prefixes, side and anything but letters, against the joint of the left side.
_NAMES = {
    "upleg": 1, "thigh": 1, "upperleg": 1, "hip": 1, "femur": 1, "leg": 4, "knee": 4, "lowerleg": 4, "calf": 4, "shin": 4,
    "lowleg": 4, "tibia": 4, "foot": 7, "ankle": 7, "toebase": 10, "toe": 10, "ball": 10, "toes": 10,
    "collar": 13, "clavicle": 13, "arm": 16, "uparm": 16, "upperarm": 16, "humerus": 16, "forearm": 18, "elbow": 18,
    "lowerarm": 18, "lowarm": 18, "radius": 18, "hand": 20, "wrist": 20,
}  # fmt: skip
_SIDES = (("left", 0), ("right", 1))


def _parts(name: str) -> tuple[str, int | None]:
    """A BVH joint's name without prefix and side, and its side: 0 left, 1 right, None."""
    plain = name.rsplit(":", 1)[-1].lower().replace("mixamorig", "")
    for word, side in _SIDES:
        if word in plain:
            return "".join(c for c in plain.replace(word, "") if c.isalpha()), side
        for mark in (f"_{word[0]}", f".{word[0]}", f"-{word[0]}"):
            if plain.endswith(mark):
                return "".join(c for c in plain[: -len(mark)] if c.isalpha()), side
        if plain.startswith((f"{word[0]}_", f"{word[0]}.")):
            return "".join(c for c in plain[2:] if c.isalpha()), side
        if plain[:1] == word[0] and (plain[1:] in _NAMES or plain[1:] == "shoulder"):  # lThigh, rfemur
            return plain[1:], side
    return "".join(c for c in plain if c.isalpha()), None


def _line(joint: int, parents: list[int]) -> list[int]:
    """The joints above one, the root first."""
    line: list[int] = []
    while (joint := parents[joint]) >= 0 and joint not in line:
        line.insert(0, joint)
    return line


def map_joints(names: list[str], parents: list[int]) -> dict[int, int]:
    """SMPL joint -> BVH joint for the joints that the names tell apart; empty where legs or arms are not found."""
    found: dict[int, int] = {}
    sided = [_parts(n) for n in names]
    with_collar = any(part in ("collar", "clavicle") for part, side in sided if side is not None)
    for i, (part, side) in enumerate(sided):
        if side is None:
            continue
        joint = _NAMES.get(part)
        if part == "shoulder":  # the collar bone in some rigs, the upper arm in those that name a collar
            joint = 16 if with_collar else 13
        if joint is not None:
            found.setdefault(joint + side, i)
    if any(j not in found for j in (1, 2, 4, 5, 7, 8, 16, 17, 18, 19)):
        return {}
    above = [_line(found[limb], parents) for limb in (1, 2, 16)]
    found[0] = max(set(above[0]).intersection(*above[1:]), key=above[0].index, default=0)  # the file's root may stand still, above the hips
    head = next((i for i, (part, side) in enumerate(sided) if side is None and part == "head"), None)
    neck = next((i for i, (part, side) in enumerate(sided) if side is None and part.startswith("neck")), None)
    if head is not None:
        found[15] = head
    if neck is not None:
        found[12] = neck
    # The spine: what lies between the hips and the collars.
    chain, at = [], parents[found.get(13, found[16])]
    while at not in (-1, found[0]) and at != parents[at]:
        chain.insert(0, at)
        at = parents[at]
    if chain:
        found[3], found[9] = chain[0], chain[-1]
        if len(chain) > 2:
            found[6] = chain[len(chain) // 2]
        if len(chain) == 1:
            del found[9]
    return found


_AHEAD = {1: 4, 2: 5, 4: 7, 5: 8, 7: 10, 8: 11, 13: 16, 14: 17, 16: 18, 17: 19, 18: 20, 19: 21}


def _between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(3, 3) least rotation from direction a to direction b."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    axis = np.cross(a, b)
    angle = np.arctan2(np.linalg.norm(axis), a @ b)
    length = np.linalg.norm(axis)
    return np.eye(3) if length < 1e-8 else Rotation.from_rotvec(axis / length * angle).as_matrix()


def _basis(up: np.ndarray, left: np.ndarray) -> np.ndarray:
    up = up / np.linalg.norm(up)
    forward = np.cross(left, up)
    forward /= np.linalg.norm(forward)
    return np.stack((np.cross(up, forward), up, forward), -1)


def _bvh(path: Path, body: BodyModel) -> Take:
    from pymotion.io.bvh import BVH

    reader = BVH()
    try:
        with tempfile.TemporaryDirectory() as folder:  # the reader knows no empty lines
            plain = Path(folder) / "plain.bvh"
            plain.write_text("\n".join(line for line in path.read_text(errors="replace").splitlines() if line.strip()) + "\n")
            reader.load(str(plain))
        data = reader.data
        parents = [-1, *(int(p) for p in data["parents"][1:])]
        orders = ["".join(row).upper() for row in data["rot_order"]]
        fps = 1 / float(data["frame_time"])
        angles, places = np.asarray(data["rotations"], float), np.asarray(data["positions"], float)
    except Exception as fault:  # noqa: BLE001 (the reader raises whatever a broken file leads to)
        raise _unreadable(path, "it is no BVH file with rotations for every joint") from fault
    if not len(angles):
        raise _unreadable(path, "it has no frames")
    rows = _motion_rows(path)
    if rows < len(angles):  # the reader fills up with zeros
        raise _unreadable(path, f"it ends after {rows} of its {len(angles)} frames")
    names = [str(n) for n in data["names"]]
    mapped = map_joints(names, parents)
    if not mapped:
        raise _unreadable(path, "its joints' names do not tell where legs and arms are")
    local = np.stack([Rotation.from_euler(o, angles[:, j], degrees=True).as_matrix() for j, o in enumerate(orders)], 1)
    world, at = _forward(local, places, parents)
    _, rest = _forward(np.broadcast_to(np.eye(3), (1, len(names), 3, 3)), np.asarray(data["offsets"], float)[None], parents)
    rotations = retarget(world, rest[0], mapped, body.joint_template.double().numpy(force=True))
    place = lambda joint, where: where[..., mapped[joint], :]  # noqa: E731
    turn = _to_y_up((place(16, rest) + place(17, rest) - place(1, rest) - place(2, rest))[0])
    rotations[:, 0] = turn @ rotations[:, 0]
    leg = sum(np.linalg.norm(place(a, rest[0]) - place(b, rest[0])) for a, b in ((1, 4), (4, 7)))
    root = (place(1, at) + place(2, at)) / 2 @ turn.T
    unit = leg_length(body) / max(leg, 1e-9)
    return Take(rotations, root * unit, leg_length(body), fps)


def _motion_rows(path: Path) -> int:
    """How many frames a BVH file truly holds."""
    lines = path.read_text(errors="replace").splitlines()
    head = next((i for i, line in enumerate(lines) if line.strip().lower().startswith("frame time")), -1)
    return sum(1 for line in lines[head + 1 :] if line.strip())


def _forward(local: np.ndarray, places: np.ndarray, parents: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """World rotations (F, N, 3, 3) and places (F, N, 3) of local ones."""
    world, at = np.array(local), np.array(places)
    for j, p in enumerate(parents):
        if p >= 0:
            world[:, j] = world[:, p] @ local[:, j]
            at[:, j] = at[:, p] + (world[:, p] @ places[:, j, :, None])[..., 0]
    return world, at


def retarget(world: np.ndarray, rest: np.ndarray, mapped: dict[int, int], template: np.ndarray) -> np.ndarray:
    """SMPL's local rotations (F, 24, 3, 3) for another skeleton's world rotations (F, N, 3, 3).

    rest: (N, 3) the other skeleton's joints with no rotation; mapped: SMPL joint -> other joint; template: (24, 3) SMPL's
    rest joints. Bones point where the other skeleton's bones point, whatever its rest pose; twists carry over.
    """
    at = {joint: rest[i] for joint, i in mapped.items()}
    shoulders, hips = (at[16] + at[17]) / 2, (at[1] + at[2]) / 2
    whole = _basis(shoulders - hips, at[1] - at[2]) @ _basis(
        (template[16] + template[17] - template[1] - template[2]) / 2, template[1] - template[2]
    ).T
    out = np.empty((len(world), 24, 3, 3))
    done = np.empty_like(out)
    for joint, parent in enumerate(J.PARENTS):
        if joint not in mapped:
            done[:, joint] = done[:, parent]
        else:
            align, ahead = whole, _AHEAD.get(joint)
            if ahead in mapped and np.linalg.norm(at[ahead] - at[joint]) > 1e-6:
                align = _between(whole @ (template[ahead] - template[joint]), at[ahead] - at[joint]) @ whole
            done[:, joint] = world[:, mapped[joint]] @ align
        out[:, joint] = done[:, joint] if parent < 0 else done[:, parent].transpose(0, 2, 1) @ done[:, joint]
    return out


def _files_below(folder: Path) -> list[Path]:
    """All files below a folder, those of linked folders too, each place once: links may lead back."""
    found, been = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        real = os.path.realpath(place)
        if real in been:
            folders.clear()
            continue
        been.add(real)
        found += [Path(place) / name for name in names]
    return found


def read_folder(folder: Path, body: BodyModel, say=print) -> Mocap:
    """All takes below a folder as a Mocap of the body at hand; files that cannot be read are named and left out.

    Every twentieth file validates ("val"). Raises LgdError where no file can be read.
    """
    paths = sorted(p for p in _files_below(folder) if p.suffix.lower() in SUFFIXES)
    clips: list[tuple[Tensor, Tensor, bool]] = []
    names: list[str] = []
    for path in paths:
        try:
            clips.append(_clip(read_take(path, body), body))
            # Never one of the shared subjects, by whose names it is chosen what validates.
            names.append(f"{folder.name}/{path.relative_to(folder).parts[0]}")
        except LgdError as fault:
            say(str(fault))
    if not clips:
        raise LgdError(
            "bad_input", f"No motion capture was found in {folder}.", "Name a folder with " + ", ".join(SUFFIXES) + " files."
        )  # fmt: skip
    length = torch.tensor([len(q) for q, _, _ in clips])
    total = int(length.sum())
    return Mocap(
        torch.cat([q for q, _, _ in clips]), torch.cat([t for _, t, _ in clips]), torch.ones(total, dtype=torch.bool),
        torch.cumsum(length, 0) - length, length, torch.tensor([g for _, _, g in clips]), names, names,
        ["val" if i % HELD_OUT == HELD_OUT - 1 else "train" for i in range(len(clips))],
    )  # fmt: skip


def _clip(take: Take, body: BodyModel) -> tuple[Tensor, Tensor, bool]:
    """Quaternions (F, 24, 4) and hip midpoints (F, 3) at 30 fps on the floor, and whether feet stand on one level."""
    times = torch.arange(len(take.rotations), dtype=torch.float64) / take.fps
    grid = torch.arange(int(float(times[-1]) * RATE + 1e-2) + 1, dtype=torch.float64) / RATE
    rotations = resample_rotations(torch.as_tensor(take.rotations), times, grid).float()
    root = resample_values(torch.as_tensor(take.root), times, grid).float() * (leg_length(body) / take.leg)
    root = root - root[:1] * torch.tensor([1.0, 0.0, 1.0])
    soles = _soles(rotations, root, body)
    lowest, which = soles[..., 1].min(-1)
    root = root - torch.tensor([0.0, 1.0, 0.0]) * torch.quantile(lowest, 0.05)
    grounded = False
    if len(grid) > 10:
        point = soles[torch.arange(len(grid)), which]
        still = (point[1:, [0, 2]] - point[:-1, [0, 2]]).norm(dim=-1) * RATE < 0.15
        if still.float().mean() > 0.2:
            low, high = torch.quantile(lowest[1:][still], torch.tensor([0.05, 0.9]))
            grounded = bool(high - low < 0.06)
    return continuous_quaternions(rotations), root, grounded


def _soles(rotations: Tensor, root: Tensor, body: BodyModel) -> Tensor:
    """Sole points (F, 4, 3) m of the mean body with its hip midpoint at `root`."""
    offsets, _, parents = body.soles
    posed = body.shaped(torch.zeros(10), "smpl").posed(rotations)
    shift = root - (posed.joints[:, 1] + posed.joints[:, 2]) / 2
    local = torch.as_tensor(offsets, dtype=torch.float32)
    at = torch.as_tensor(parents)
    return posed.joints[:, at] + (posed.world[:, at] @ local[:, :, None]).squeeze(-1) + shift[:, None]


