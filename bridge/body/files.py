# SPDX-License-Identifier: GPL-3.0-or-later
"""Body models on disk: the default body, official SMPL files, and the one form both become.

`load_body` gives the dict that `smplx.SMPL('', data_struct=Struct(**body))` takes unchanged. An official file is read
once by a restricted unpickler (`official.py`) and written as our own .npz by `convert_official`.
"""

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np

from bridge.arrays import Unreadable, load_arrays
from bridge.body.joints import NAMES, PARENTS
from bridge.errors import LgdError
from bridge.moving import replace

DEFAULT_BODY = Path(__file__).with_name("default_body.npz")
OFFICIAL_VERTICES = 6890
SHAPES = 10
ROOT_PARENT = 4294967295
HINT = "Choose an SMPL model file (.pkl or .npz, 24 joints), or name none to use the default body."


def load_body(path: Path | None = None) -> dict:
    """A body model as a dict with smplx's keys and ours.

    path: None for the default body, a file written by `convert_official`, or an official SMPL .pkl or .npz.
    v_template (V, 3) m, shapedirs (V, 3, 10) m per unit, posedirs (V, 3, 207) m, J_regressor (24, V), weights (V, 24),
    kintree_table (2, 24), f (F, 3); uv_faces (F, 3, 2) in [0, 1] or None, gender, id, landmark_names (L) and
    landmark_vertices (L), both empty for official bodies. Raises LgdError "model_file".
    """
    if path is None:
        if not DEFAULT_BODY.is_file():
            raise LgdError("setup_incomplete", "The default body is missing.", "Install the add-on again.")
        try:
            return load_body(DEFAULT_BODY)
        except LgdError as fault:
            raise LgdError("setup_incomplete", "The default body is damaged.", "Install the add-on again.") from fault
    path = Path(path)
    content = _read(path)
    try:
        arrays = load_arrays(path)
    except Unreadable:
        arrays = {}
    if "format" not in arrays:
        return _expand(_compact_official(path, content))
    try:
        if int(arrays["format"].reshape(-1)[0]) != 1:
            raise LgdError(
                "model_file",
                f"The body file {path.name} is of a newer version of this add-on.",
                "Update the add-on, or convert the SMPL model file again.",
            )
        body = _expand(arrays)
    except (KeyError, ValueError, IndexError, TypeError) as fault:
        raise LgdError(
            "model_file",
            f"The body file {path.name} is damaged ({fault}).",
            "Convert the SMPL model file again, or reinstall the add-on.",
        ) from fault
    if not body["id"]:
        body["id"] = f"lgd-default-{hashlib.sha256(content).hexdigest()[:12]}"
    return body


def convert_official(source: Path, folder: Path) -> Path:
    """Read an official SMPL .pkl or .npz and write it once into `folder` as our .npz; returns that file.

    Raises LgdError "model_file" with one sentence where the file is not an SMPL model or not safe to read.
    """
    source, folder = Path(source), Path(folder)
    content = _read(source)
    digest = hashlib.sha256(content).hexdigest()[:12]
    target = folder / f"smpl_{_gender(source)}_{digest}.npz"
    if target.is_file():
        with contextlib.suppress(LgdError):  # damaged since, it is written again
            load_body(target)
            return target
    arrays = _compact_official(source, content)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(suffix=".npz", dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez_compressed(file, **arrays)
            replace(Path(beside), target)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise
    except OSError as fault:
        raise LgdError(
            "model_file",
            f"The converted body cannot be written to {folder} ({fault.strerror}).",
            "Free some space or choose another folder.",
        ) from fault
    return target


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as fault:
        raise LgdError(
            "model_file",
            f"The body file {path} cannot be read ({fault.strerror}).",
            HINT,
        ) from fault


def _gender(path: Path) -> str:
    words = path.stem.lower().replace("-", "_").split("_")
    if "female" in words or "f" in words:
        return "female"
    if "male" in words or "m" in words:
        return "male"
    return "neutral"


def _expand(arrays: dict) -> dict:
    """The dict of `load_body` from the arrays of our .npz."""
    template = arrays["v_template"].astype(np.float64)
    count = len(template)
    if "weights" in arrays:
        weights = arrays["weights"].astype(np.float64)
    else:
        weights = np.zeros((count, 24))
        values = arrays["weight_values"].astype(np.float64) / 65535
        np.add.at(
            weights,
            (np.arange(count)[:, None], arrays["weight_joints"].astype(np.int64)),
            values,
        )
    regressor = np.zeros((24, count))
    regressor[arrays["regressor_rows"], arrays["regressor_columns"]] = arrays[
        "regressor_values"
    ]
    parents = arrays["parents"].astype(np.int64)
    parents[0] = ROOT_PARENT
    uvs = arrays.get("uv_faces")
    if "posedirs" in arrays:
        posedirs = arrays["posedirs"].astype(np.float64)
    else:
        posedirs = np.zeros((count, 3, 207), np.float32)
    return {
        "v_template": template,
        "shapedirs": arrays["shapedirs"].astype(np.float64),
        "posedirs": posedirs,
        "J_regressor": regressor,
        "weights": weights,
        "kintree_table": np.stack([parents, np.arange(24)]),
        "f": arrays["faces"].astype(np.int64),
        "uv_faces": None if uvs is None else uvs.astype(np.float32) / np.float32(65535),
        "gender": str(arrays["gender"].reshape(-1)[0]),
        "id": str(arrays["id"]) if "id" in arrays else "",
        "landmark_names": [str(name) for name in arrays.get("landmark_names", ())],
        "landmark_vertices": np.asarray(arrays.get("landmark_vertices", ()), np.int64),
    }


def _compact_official(path: Path, content: bytes) -> dict:
    """The arrays of our .npz from the bytes of an official file."""
    from bridge.body import official

    data = official.read(path.name, content, HINT)
    _check(path.name, data)
    regressor = data["J_regressor"]
    rows, columns = np.nonzero(regressor)
    gender = _gender(path)
    return {
        "format": np.array(1),
        "gender": np.array(gender),
        "id": np.array(f"smpl-{gender}-{hashlib.sha256(content).hexdigest()[:12]}"),
        "v_template": data["v_template"].astype(np.float64),
        "shapedirs": data["shapedirs"][..., :SHAPES].astype(np.float32),
        "posedirs": data["posedirs"].astype(np.float32),
        "weights": data["weights"].astype(np.float32),
        "faces": data["f"].astype(np.uint16),
        "regressor_rows": rows.astype(np.uint8),
        "regressor_columns": columns.astype(np.uint16),
        "regressor_values": regressor[rows, columns].astype(np.float64),
        "parents": np.array(PARENTS, np.int8),
    }


def _check(name: str, data: dict) -> None:
    """Raise LgdError with one sentence unless the arrays are those of an SMPL model."""

    def refuse(reason: str) -> LgdError:
        return LgdError("model_file", f"{name} is not an SMPL model: {reason}.", HINT)

    for key, array in data.items():
        if not array.ndim:
            raise refuse(f"its {key} is one number")
        if not np.isfinite(array).all():
            raise refuse(f"its {key} holds values that are not numbers")
    template, joints = data["v_template"], data["kintree_table"].shape[-1]
    other = {52: "SMPL+H", 55: "SMPL-X", 16: "MANO", 5: "FLAME"}.get(joints)
    if other:
        raise LgdError(
            "model_file",
            f"{name} is an {other} model; only SMPL models with 24 joints can be used.",
            HINT,
        )
    if joints != len(NAMES):
        raise refuse(f"it has {joints} joints instead of 24")
    if template.shape != (OFFICIAL_VERTICES, 3):
        raise refuse(f"it has {len(template)} vertices instead of {OFFICIAL_VERTICES}")
    count = OFFICIAL_VERTICES
    expected = {
        "posedirs": (count, 3, 207),
        "weights": (count, 24),
        "J_regressor": (24, count),
    }
    for key, shape in expected.items():
        if data[key].shape != shape:
            raise refuse(
                f"its {key} has the shape {data[key].shape} instead of {shape}"
            )
    shapes, faces = data["shapedirs"], data["f"]
    if shapes.ndim != 3 or shapes.shape[:2] != (count, 3) or shapes.shape[2] < SHAPES:
        raise refuse(
            f"its shapedirs has the shape {shapes.shape}, not ({count}, 3, {SHAPES} or more)"
        )
    if (
        faces.ndim != 2
        or faces.shape[1] != 3
        or not len(faces)
        or faces.min() < 0
        or faces.max() >= count
    ):
        raise refuse("its faces do not fit its vertices")
    parents = data["kintree_table"]
    if parents.shape != (2, 24) or [int(p) for p in parents[0][1:]] != list(
        PARENTS[1:]
    ):
        raise refuse("its joint tree is another one")
    tall = float(np.ptp(template, axis=0).max())
    if tall > 20:
        raise refuse(f"it measures {tall:.4g}, so it is not in metres")
    for key, axis in (("weights", 1), ("J_regressor", 1)):
        if np.abs(data[key].sum(axis) - 1).max() > 0.02:
            raise refuse(f"its {key} does not add up to one")
