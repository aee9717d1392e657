# SPDX-License-Identifier: GPL-3.0-or-later
"""Named points of the skin: their vertices in MakeHuman's base mesh and the ids that SMPL tools expect.

The second table is an interface fact: programs for SMPL-format bodies read nose, eyes, ears, feet and finger tips at
these vertex numbers, so the default body puts the same points there.
"""

import numpy as np

# name -> (left or middle, right) base-mesh vertex
BASE = {
    "nose": (5054,),
    "eye": (14607, 14679),
    "ear": (12131, 5532),
    "heel": (12442, 5845),
    "big_toe": (11551, 4933),
    "small_toe": (13182, 6586),
    "thumb_tip": (9348, 2680),
    "index_tip": (8595, 1927),
    "middle_tip": (8787, 2119),
    "ring_tip": (8982, 2314),
    "pinky_tip": (9171, 2503),
    "eye_inner": (7873, 1181),
    "eye_outer": (11499, 4881),
    "mouth": (7122, 361),
    "index_mcp": (9803, 3135),
    "pinky_mcp": (9792, 3124),
    "thumb_ip": (9336, 2668),
}
WANTED_IDS = {
    "nose": (332,),
    "eye": (2800, 6260),
    "ear": (583, 4071),
    "heel": (3387, 6787),
    "big_toe": (3216, 6617),
    "small_toe": (3226, 6624),
    "thumb_tip": (2746, 6191),
    "index_tip": (2319, 5782),
    "middle_tip": (2445, 5905),
    "ring_tip": (2556, 6016),
    "pinky_tip": (2673, 6133),
}


def names_and_vertices() -> tuple[list[str], list[int]]:
    """All landmark names (nose, left_eye, right_eye ...) and their base-mesh vertices."""
    names, vertices = [], []
    for name, ids in BASE.items():
        for side, vertex in zip(("left_", "right_") if len(ids) == 2 else ("",), ids, strict=True):
            names.append(side + name)
            vertices.append(vertex)
    return names, vertices


def order(survivors: np.ndarray) -> np.ndarray:
    """Base-mesh ids (V) in the order of the finished body: landmarks at their wanted ids, the rest rising."""
    wanted = {i: v for name, ids in WANTED_IDS.items() for i, v in zip(ids, BASE[name], strict=True)}
    taken = set(wanted.values())
    rest = iter([v for v in survivors.tolist() if v not in taken])
    return np.array([wanted[i] if i in wanted else next(rest) for i in range(len(survivors))])
