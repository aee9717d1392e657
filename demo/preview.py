# SPDX-License-Identifier: GPL-3.0-or-later
"""Lay footage, the body over it and the body from the side beside each other: preview.png and preview.mp4."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np

from bridge.keypoints.video import open_footage

HEIGHT = 360  # px of a row
BACKGROUND = 235
BAND = 26


def over(picture: np.ndarray, rendered: np.ndarray, strength: float = 0.85) -> np.ndarray:
    """A rendered BGRA picture laid over a BGR one, slightly see-through."""
    alpha = rendered[..., 3:].astype(np.float32) / 255 * strength
    return (picture * (1 - alpha) + rendered[..., :3] * alpha).astype(np.uint8)


def scaled(picture: np.ndarray) -> np.ndarray:
    """The picture at the row's height."""
    width = round(picture.shape[1] * HEIGHT / picture.shape[0])
    return cv2.resize(picture, (width, HEIGHT), interpolation=cv2.INTER_AREA)


def row(picture: np.ndarray, body: np.ndarray, side: np.ndarray, ground: float, text: str) -> np.ndarray:
    """One line: footage, body over it, body from the side."""
    body = cv2.resize(body, (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_LINEAR)
    plain = np.full((*side.shape[:2], 3), BACKGROUND, np.uint8)
    plain[round(side.shape[0] * ground) :] = BACKGROUND - 60  # below z = 0
    line = np.hstack([scaled(picture), scaled(over(picture, body)), scaled(over(plain, side, 1.0))])
    cv2.putText(line, text, (8, HEIGHT - 10), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(line, text, (8, HEIGHT - 10), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return line


def shown(told: str | None, rows: list[int]) -> tuple[int, int] | None:
    """The range to read for the rendered rows, which count from the told range's first frame: it may have been told beyond the footage's end."""
    if not told:
        return None
    first = int(told.split(":")[0])
    return first, first + max(rows) + 1


def main() -> None:
    """Read what Blender rendered and the footage's frames beside it."""
    task = json.loads(Path(sys.argv[-1]).read_text())
    work, out = Path(task["work"]), Path(task["out"])
    figures = json.loads((work / "figures.json").read_text())
    rows = figures["rows"]
    footage = open_footage(task["footage"], frames=shown(task["frames"], rows))
    lines = []
    for number, (index, picture) in enumerate(footage):
        if number in rows:
            body = cv2.imread(str(work / f"over_{number:05d}.png"), cv2.IMREAD_UNCHANGED)
            side = cv2.imread(str(work / f"side_{number:05d}.png"), cv2.IMREAD_UNCHANGED)
            lines.append(row(picture, body, side, figures["ground"], f"frame {index}"))
    if len(lines) != len(rows):
        raise SystemExit(f"{len(rows)} pictures were rendered, {len(lines)} frames of footage found")
    chosen = [lines[round(i)] for i in np.linspace(0, len(lines) - 1, min(figures["sheet"], len(lines)))]
    width = lines[0].shape[1]
    head = np.full((BAND, width, 3), 255, np.uint8)
    part = (width - HEIGHT) // 2
    for left, text in ((8, "footage"), (part + 8, "solved camera"), (2 * part + 8, "from the side")):
        cv2.putText(head, text, (left, BAND - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (40, 40, 40), 1, cv2.LINE_AA)
    columns = 2 if part < HEIGHT else 1  # footage that is higher than wide
    chosen = chosen[: len(chosen) // columns * columns]
    high = len(chosen) // columns
    stacks = [np.vstack([head, *chosen[i * high : (i + 1) * high]]) for i in range(columns)]
    cv2.imwrite(str(out / "preview.png"), np.hstack(stacks))
    rate = (
        figures["fps"] * (len(rows) - 1) / max(rows[-1] - rows[0], 1)
    )  # the film lasts as long as the footage
    size = (width - width % 2, HEIGHT - HEIGHT % 2)
    film = cv2.VideoWriter(str(out / "preview.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), max(rate, 1.0), size)
    for line in lines:
        film.write(np.ascontiguousarray(line[: size[1], : size[0]]))
    film.release()


if __name__ == "__main__":
    main()
