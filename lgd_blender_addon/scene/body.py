# SPDX-License-Identifier: GPL-3.0-or-later
"""A body model as Blender needs it: template, shape and pose offsets, rest joints, weights, UVs (numpy only)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .._bridge import arrays

JOINTS = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand",
)  # fmt: skip
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)


@dataclass(frozen=True)
class Body:
    """An SMPL-form body. All metres, in SMPL's Y-up frame.

    v_template (V, 3); shapedirs (V, 3, 10); posedirs (V, 3, 207) or None where the model has none; weights (V, 24);
    faces (F, 3) int; uv (F, 3, 2) per face corner or None; J_template (24, 3); J_shapedirs (24, 3, 10);
    gender: neutral, female, male; id: "lgd-default-<hash>" or "smpl-<gender>-<hash>".
    """

    v_template: np.ndarray
    shapedirs: np.ndarray
    posedirs: np.ndarray | None
    weights: np.ndarray
    faces: np.ndarray
    uv: np.ndarray | None
    J_template: np.ndarray
    J_shapedirs: np.ndarray
    gender: str
    id: str

    @property
    def official(self) -> bool:
        """Whether this is an SMPL file of the user's, whose names other add-ons know."""
        return self.id.startswith("smpl-")

    def joints(self, betas) -> np.ndarray:
        """Rest joints (24, 3) m for betas (10,)."""
        return self.J_template + self.J_shapedirs @ np.asarray(betas, dtype=np.float64)

    def vertices(self, betas) -> np.ndarray:
        """Rest vertices (V, 3) m for betas (10,)."""
        return self.v_template + self.shapedirs @ np.asarray(betas, dtype=np.float64)


def make_body(data: dict) -> Body:
    """A Body from the keys of a body file (see Body; joints come from J_regressor where they are not given).

    Raises ValueError where the arrays do not form an SMPL body of 24 joints.
    """
    v_template = np.asarray(data["v_template"], dtype=np.float64)
    count = len(v_template)
    shapedirs = np.asarray(data["shapedirs"], dtype=np.float64)[..., :10]
    weights = np.asarray(data["weights"], dtype=np.float64)
    faces = np.asarray(data["faces"] if "faces" in data else data["f"]).astype(np.int32)
    if v_template.shape != (count, 3) or shapedirs.shape != (count, 3, 10) or weights.shape != (count, 24):
        raise ValueError("The body's file does not hold an SMPL body of 24 joints and 10 shape parameters.")
    if "J_template" in data:
        J_template = np.asarray(data["J_template"], dtype=np.float64)
        J_shapedirs = np.asarray(data["J_shapedirs"], dtype=np.float64)[..., :10]
    else:
        regressor = np.asarray(data["J_regressor"], dtype=np.float64)
        J_template = regressor @ v_template
        J_shapedirs = np.einsum("jv,vkb->jkb", regressor, shapedirs)
    posedirs = data.get("posedirs")
    if posedirs is not None:
        posedirs = np.asarray(posedirs)
        posedirs = (
            posedirs.astype(np.float32) if posedirs.shape == (count, 3, 207) and posedirs.any() else None
        )
    uv = data.get("uv_faces", data.get("uv"))
    uv = None if uv is None or np.shape(uv) != (len(faces), 3, 2) else np.asarray(uv, dtype=np.float32)
    return Body(
        v_template, shapedirs, posedirs, weights, faces, uv, J_template, J_shapedirs,
        _gender(str(data.get("gender", "neutral"))), _word(data.get("id", "")),
    )  # fmt: skip


def read_body(path: str | Path) -> Body:
    """The Body in an .npz file as the worker's describe_body writes it. Raises ValueError or KeyError."""
    return make_body({name: _plain(value) for name, value in arrays.load_arrays(Path(path)).items()})


def _gender(text: str) -> str:
    return next((word for word in ("female", "male") if word in text), "neutral")


def _word(value) -> str:
    return str(np.ravel(np.asarray(value))[0])


def _plain(value: np.ndarray):
    return value.item() if value.ndim == 0 else value


def corrective_features(quats) -> np.ndarray:
    """SMPL's pose features (F, 207) of the bones' quaternions (F, 24, 4): R - I of joints 1 to 23, row by row."""
    from .axes import matrices

    quats = np.asarray(quats, dtype=np.float64)
    quats = quats / np.linalg.norm(quats, axis=-1, keepdims=True)
    return (matrices(quats[:, 1:]) - np.eye(3)).reshape(len(quats), 207)
