# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of plain arrays: written whole or not at all, read without running anything (numpy only). Blender loads it too."""

import io
import os
from pathlib import Path
from typing import IO, Any

import numpy as np

from .errors import LgdError
from .moving import replace


class Unreadable(ValueError):
    """A file that is missing, damaged, or holds something else than plain arrays."""


def load_arrays(source: Path | str | IO[bytes]) -> dict[str, np.ndarray]:
    """All arrays of an .npz by name. Raises Unreadable, whatever is wrong with it."""
    try:
        with np.load(source, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except MemoryError:
        raise
    except Exception as fault:  # noqa: BLE001 (numpy, zipfile and zlib raise a dozen kinds, of no common base)
        raise Unreadable(str(fault)) from fault


def save_arrays(path: Path, arrays: dict[str, Any], compressed: bool = False) -> None:
    """Write an .npz of plain arrays, whole or not at all. Raises LgdError (disk) where it cannot be written, TypeError for
    what only a pickle could hold."""
    plain = {key: np.asarray(entry) for key, entry in arrays.items()}
    for key, array in plain.items():
        if array.dtype == object:
            raise TypeError(f"{key} is no plain array")
    content = io.BytesIO()  # the zip's own clean-up complains about a full disk once more
    (np.savez_compressed if compressed else np.savez)(content, **plain)
    part = path.with_name(f".lgd-{os.getpid()}.part")  # the file's own name may be as long as names can be
    try:
        part.write_bytes(content.getbuffer())
        replace(part, path)
    except OSError as fault:
        raise LgdError(
            "disk", f"{path.name} cannot be written: {fault.strerror or fault}.", "Check the free space and the folder's permissions."
        ) from fault
    finally:
        part.unlink(missing_ok=True)
