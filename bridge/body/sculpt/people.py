# SPDX-License-Identifier: GPL-3.0-or-later
"""A seeded population of adults in MakeHuman's parameters, and their meshes."""

from dataclasses import dataclass
from itertools import product

import numpy as np

from .assets import Assets, Mesh

RACES = ("african", "asian", "caucasian")
GENDERS = ("female", "male")
AGES = ("young", "old")
MUSCLE = ("minmuscle", "averagemuscle", "maxmuscle")
WEIGHT = ("minweight", "averageweight", "maxweight")
HEIGHT = ("minheight", "", "maxheight")
PROPORTIONS = ("uncommonproportions", "", "idealproportions")
CUP = ("mincup", "averagecup", "maxcup")
FIRMNESS = ("minfirmness", "averagefirmness", "maxfirmness")

# Local changes: (targets without -incr/-decr, standard deviation, mean, mean added with the gender 0..1).
# MakeHuman's forearms are short and its knees high against anthropometry: the two means correct that.
LOCAL = (
    (("arms/measure-upperarm-length",), 0.22, 0.0, 0.0),
    (("arms/measure-lowerarm-length",), 0.22, 0.06, 0.22),
    (("legs/l-upperleg-scale-vert", "legs/r-upperleg-scale-vert"), 0.25, 0.25, 0.0),
    (("legs/l-lowerleg-scale-vert", "legs/r-lowerleg-scale-vert"), 0.25, 0.0, 0.0),
    (("torso/torso-scale-vert",), 0.2, 0.0, 0.0),
    (("torso/torso-scale-horiz",), 0.2, 0.0, 0.0),
    (("torso/torso-scale-depth",), 0.2, 0.0, 0.0),
    (("torso/torso-vshape",), 0.2, 0.0, 0.0),
    (("torso/measure-shoulder-dist",), 0.25, 0.0, 0.0),
    (("torso/measure-waist-circ",), 0.2, 0.0, 0.0),
    (("torso/measure-hips-circ",), 0.2, 0.0, 0.0),
    (("hip/hip-scale-horiz",), 0.2, 0.0, 0.0),
    (("hip/hip-scale-depth",), 0.2, 0.0, 0.0),
    (("stomach/stomach-tone",), 0.25, 0.0, 0.0),
    (("buttocks/buttocks-volume",), 0.25, 0.0, 0.0),
    (("neck/measure-neck-circ",), 0.2, 0.0, 0.0),
    (("neck/neck-scale-vert",), 0.25, 0.0, 0.0),
    (("head/head-scale-horiz",), 0.2, 0.0, 0.0),
    (("head/head-scale-vert",), 0.2, 0.0, 0.0),
    (("head/head-scale-depth",), 0.2, 0.0, 0.0),
    (("arms/l-upperarm-fat", "arms/r-upperarm-fat"), 0.25, 0.0, 0.0),
    (("arms/l-lowerarm-fat", "arms/r-lowerarm-fat"), 0.25, 0.0, 0.0),
    (("arms/l-upperarm-muscle", "arms/r-upperarm-muscle"), 0.25, 0.0, 0.0),
    (("legs/l-upperleg-fat", "legs/r-upperleg-fat"), 0.25, 0.0, 0.0),
    (("legs/l-lowerleg-fat", "legs/r-lowerleg-fat"), 0.25, 0.0, 0.0),
    (("legs/l-lowerleg-muscle", "legs/r-lowerleg-muscle"), 0.25, 0.0, 0.0),
    (("hands/l-hand-scale", "hands/r-hand-scale"), 0.25, 0.0, 0.0),
    (("feet/l-foot-scale", "feet/r-foot-scale"), 0.25, 0.0, 0.0),
)


@dataclass(frozen=True)
class Macros:
    """MakeHuman's macro parameters of N people, each (N), and the mixture of the three head types (N, 3)."""

    gender: np.ndarray
    age: np.ndarray
    muscle: np.ndarray
    weight: np.ndarray
    proportions: np.ndarray
    cup: np.ndarray
    firmness: np.ndarray
    race: np.ndarray
    stature: np.ndarray
    local: np.ndarray


def draw(count: int, seed: int) -> Macros:
    """Draw `count` adults: half women, half men, statures normal about 1.63 and 1.76 m."""
    rng = np.random.default_rng(seed)
    male = rng.permutation(np.arange(count) % 2).astype(np.float64)
    pole = rng.beta(1.2, 7.0, count)
    gender = np.where(male > 0, 1 - pole, pole)
    local = np.stack(
        [mean + by_gender * gender + sd * rng.standard_normal(count) for _, sd, mean, by_gender in LOCAL],
        1,
    )
    return Macros(
        gender=gender,
        age=0.95 * rng.beta(1.0, 2.2, count),
        muscle=np.clip(0.55 - 0.12 * gender + 0.17 * rng.standard_normal(count), 0, 1),
        weight=0.1 + 1.15 * rng.beta(2.2, 2.0, count),
        proportions=np.clip(0.5 + 0.22 * rng.standard_normal(count), 0, 1),
        cup=np.clip(0.5 + 0.2 * rng.standard_normal(count), 0, 1),
        firmness=np.clip(0.5 + 0.2 * rng.standard_normal(count), 0, 1),
        race=rng.dirichlet(np.ones(3), count),
        stature=1.762 - 0.132 * (1 - gender) + (0.069 - 0.005 * (1 - gender)) * rng.standard_normal(count),
        local=local,
    )


def _ends(value: np.ndarray) -> np.ndarray:
    """Weights (N, 3) of the low, middle and high pole for a parameter in [0, 1], piecewise linear."""
    low, high = np.maximum(0, 1 - 2 * value), np.maximum(0, 2 * value - 1)
    return np.stack([low, 1 - low - high, high], 1)


def _masks(macros: Macros, height: np.ndarray) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    return {
        "race": (RACES, macros.race),
        "gender": (GENDERS, np.stack([1 - macros.gender, macros.gender], 1)),
        "age": (AGES, np.stack([1 - macros.age, macros.age], 1)),
        "muscle": (MUSCLE, _ends(macros.muscle)),
        "weight": (WEIGHT, _ends(macros.weight)),
        "height": (HEIGHT, _ends(height)),
        "proportions": (PROPORTIONS, _ends(macros.proportions)),
        "cup": (CUP, _ends(macros.cup)),
        "firmness": (FIRMNESS, _ends(macros.firmness)),
    }


FAMILIES = (
    ("macrodetails/{}", ("race", "gender", "age")),
    ("macrodetails/universal-{}", ("gender", "age", "muscle", "weight")),
    ("macrodetails/height/{}", ("gender", "age", "muscle", "weight", "height")),
    (
        "macrodetails/proportions/{}",
        ("gender", "age", "muscle", "weight", "proportions"),
    ),
    ("breast/{}", ("gender", "age", "muscle", "weight", "cup", "firmness")),
)


class Population:
    """Meshes of drawn people in MakeHuman's own pose."""

    def __init__(
        self,
        assets: Assets,
        mesh: Mesh,
        macros: Macros,
        vertices: np.ndarray,
        skin: int,
    ):
        """vertices: (n) ids of the base-mesh vertices to build; the first `skin` of them define the stature."""
        self._skin = skin
        self._macros = macros
        self._base = mesh.vertices[vertices].reshape(-1)
        self._slot = np.full(len(mesh.vertices), -1)
        self._slot[vertices] = np.arange(len(vertices))
        self._assets = assets
        self._names: list[tuple[str, tuple[int, ...], tuple[str, ...]]] = []
        rows = []
        masks = _masks(macros, np.full(len(macros.gender), 0.5))
        for pattern, parameters in FAMILIES:
            for picks in product(*(range(len(masks[p][0])) for p in parameters)):
                words = [masks[p][0][i] for p, i in zip(parameters, picks, strict=True)]
                name = pattern.format("-".join(words))
                if "" not in words and assets.has_target(name):
                    self._names.append((name, picks, parameters))
                    rows.append(self._dense([name]))
        self.macro_count = len(rows)
        local_rows = []
        for names, *_ in LOCAL:
            local_rows.append(self._dense([n + "-incr" for n in names]))
            local_rows.append(self._dense([n + "-decr" for n in names]))
        self._targets = np.array(rows + local_rows)
        self._local = np.stack([np.maximum(macros.local, 0), np.maximum(-macros.local, 0)], 2).reshape(
            len(macros.gender), -1
        )
        self._height = self._solve_height()

    def _dense(self, names: list[str]) -> np.ndarray:
        row = np.zeros(len(self._base))
        for name in names:
            ids, offsets = self._assets.target(name)
            slots = self._slot[ids]
            inside = slots >= 0
            np.add.at(row.reshape(-1, 3), slots[inside], offsets[inside])
        return row

    def _coefficients(self, height: np.ndarray) -> np.ndarray:
        masks = _masks(self._macros, height)
        columns = []
        for _, picks, parameters in self._names:
            column = np.ones(len(height))
            for parameter, pick in zip(parameters, picks, strict=True):
                column = column * masks[parameter][1][:, pick]
            columns.append(column)
        return np.concatenate([np.stack(columns, 1), self._local], 1)

    def _stature(self, height: np.ndarray) -> np.ndarray:
        """Sole to crown (N) m in MakeHuman's pose."""
        coefficients = self._coefficients(height)
        stature = np.empty(len(height))
        targets = np.ascontiguousarray(self._targets[:, 1 : 3 * self._skin : 3])
        for start in range(0, len(height), 250):
            y = coefficients[start : start + 250] @ targets + self._base[1 : 3 * self._skin : 3]
            stature[start : start + 250] = y.max(1) - y.min(1)
        return stature

    def _solve_height(self) -> np.ndarray:
        """The height parameter (N) that gives each person the drawn stature (stature is linear in it)."""
        middle = self._stature(np.full(len(self._macros.gender), 0.5))
        pole = np.where(self._macros.stature < middle, 0.0, 1.0)
        end = self._stature(pole)
        return 0.5 + (pole - 0.5) * (self._macros.stature - middle) / (end - middle)

    def meshes(self, start: int, stop: int) -> np.ndarray:
        """People start..stop: (stop - start, n, 3) m."""
        flat = self._coefficients(self._height)[start:stop] @ self._targets + self._base
        return flat.reshape(stop - start, -1, 3)
