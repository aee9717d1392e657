# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads official SMPL files without chumpy or scipy, and without running anything that lies in them.

The files are Python pickles. This unpickler knows a short list of names, all of them plain data; every other name is
refused, so a file cannot start a program. numpy's types, chumpy's arrays and scipy's sparse matrices become stand-ins that
keep their state, from which the numbers are taken: numpy's own trust what a pickle tells them down to addresses in memory.
"""

import io
import pickle
import re
import zipfile

import numpy as np

from bridge.errors import LgdError

KEYS = (
    "v_template",
    "shapedirs",
    "posedirs",
    "J_regressor",
    "weights",
    "kintree_table",
    "f",
)


class Refused(Exception):
    """The file names something that is not plain data."""


class _Kind:
    """Stands for a numpy dtype: plain numbers, or objects where an array of them may be (numpy's own can be made to lie)."""

    def __init__(self, code, *_):
        if not isinstance(code, str) or not re.fullmatch(r"[fiub]\d{1,2}|O\d?", code):
            raise Refused("numbers of an unknown type")
        self.objects = code[0] == "O"
        self.dtype = np.dtype(object if self.objects else code)

    def __setstate__(self, state):
        _, order, *parts = state
        if order not in ("<", ">", "=", "|") or any(part is not None for part in parts[:3]):
            raise Refused("numbers of an unknown type")
        if not self.objects:
            self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """Stands for a numpy array while it is read; `values` is a real one, made from what a file may hold."""

    def __setstate__(self, state):
        _, shape, kind, by_columns, raw = state
        shape = tuple(int(n) for n in shape)
        if kind.objects:
            self.values = np.empty(len(raw), object)
            self.values[:] = raw
        else:
            self.values = np.frombuffer(raw.encode("latin1") if isinstance(raw, str) else raw, kind.dtype)
        self.values = self.values.reshape(shape, order="F" if by_columns else "C")


class _ArrayClass:
    """What the file calls numpy.ndarray: a name to give to `_reconstruct`, nothing that can be called."""

    __slots__ = ()


class _Chumpy:
    """Stands for a chumpy array; keeps its pickled state."""

    def __setstate__(self, state):
        self.state = state


class _Sparse(_Chumpy):
    """Stands for a scipy sparse matrix; `rows` tells compressed rows from compressed columns."""

    rows = False


class _SparseRows(_Sparse):
    rows = True


def _reconstruct(subtype, shape, kind):
    if subtype is not _ARRAY:
        raise Refused("an array of an unknown class")
    return _Array()


def _scalar(kind, data=b""):
    return _frombuffer(data.encode("latin1") if isinstance(data, str) else data, kind, (1,), "C")[0]


def _frombuffer(buffer, kind, shape, order):
    if not isinstance(kind, _Kind) or kind.objects:
        raise Refused("an array of an unknown type")
    return np.frombuffer(buffer, kind.dtype).reshape(shape, order=order)


def _reconstructor(cls, base, state):
    if base is not object or not (isinstance(cls, type) and issubclass(cls, _Chumpy)):
        raise Refused("an object of an unknown class")
    return cls()


def _encode(text, encoding="latin1"):
    if encoding != "latin1":
        raise Refused("a text of an unknown encoding")
    return text.encode("latin1")


_ARRAY = _ArrayClass()
_PLAIN = {
    ("numpy", "ndarray"): _ARRAY,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _encode,
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _PLAIN[_module, "_reconstruct"] = _reconstruct
    _PLAIN[_module, "scalar"] = _scalar
for _module in ("numpy.core.numeric", "numpy._core.numeric"):
    _PLAIN[_module, "_frombuffer"] = _frombuffer
for _module, _builtins in (("copy_reg", "__builtin__"), ("copyreg", "builtins")):
    _PLAIN[_module, "_reconstructor"] = _reconstructor
    _PLAIN[_builtins, "object"] = object
for _module in ("csc", "_csc"):
    _PLAIN[f"scipy.sparse.{_module}", "csc_matrix"] = _Sparse
for _module in ("csr", "_csr"):
    _PLAIN[f"scipy.sparse.{_module}", "csr_matrix"] = _SparseRows
for _class in ("ch.Ch", "ch.ChLambda", "reordering.Select", "reordering.Reshape"):
    _PLAIN["chumpy." + _class.split(".")[0], _class.split(".")[1]] = type(_class, (_Chumpy,), {})


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        try:
            return _PLAIN[module, name]
        except KeyError:
            raise Refused(f"{module}.{name}") from None

    def persistent_load(self, pid):
        raise Refused("a reference to something outside the file")


def read(name: str, content: bytes, hint: str) -> dict[str, np.ndarray]:
    """The SMPL arrays of an official .pkl or .npz as dense numbers.

    name: the file's name for messages. Raises LgdError "model_file".
    """
    try:
        data = _read_npz(content) if content[:2] == b"PK" else _unpickle(content)
    except Refused as fault:
        raise LgdError(
            "model_file",
            f"{name} was refused: it holds {fault}, which a body model does not need.",
            "Download the file again from the official site; this one may be harmful.",
        ) from fault
    except Exception as fault:  # a damaged pickle can raise anything
        raise LgdError("model_file", f"{name} cannot be read as an SMPL model file.", hint) from fault
    if not isinstance(data, dict):
        raise LgdError(
            "model_file",
            f"{name} is not an SMPL model: it holds no table of arrays.",
            hint,
        )
    missing = [key for key in KEYS if key not in data]
    if missing:
        raise LgdError(
            "model_file",
            f"{name} is not an SMPL model: it has no {', '.join(missing)}.",
            hint,
        )
    try:
        return {key: _numbers(data[key]) for key in KEYS}
    except Exception as fault:
        raise LgdError(
            "model_file",
            f"{name} is not an SMPL model: its arrays cannot be read.",
            hint,
        ) from fault


def _unpickle(content: bytes):
    return _Unpickler(io.BytesIO(content), encoding="latin1").load()


def _read_npz(content: bytes) -> dict:
    data = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for key in KEYS:
            if f"{key}.npy" in archive.namelist():
                data[key] = _read_array(archive.read(f"{key}.npy"))
    return data


def _read_array(content: bytes):
    """One .npy; an array of objects goes through the restricted unpickler as well."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    if header(stream)[2].hasobject:
        return _unpickle(content[stream.tell() :])
    return np.load(io.BytesIO(content), allow_pickle=False)


def _numbers(value) -> np.ndarray:
    """A dense numeric array from an array, a chumpy stand-in or a sparse stand-in."""
    if isinstance(value, _Sparse):
        return _dense(value)
    if isinstance(value, _Chumpy):
        return _chumpy_value(value)
    array = np.asarray(value.values if isinstance(value, _Array) else value)
    if array.dtype == object:
        if array.size != 1:
            raise ValueError("an array of objects")
        return _numbers(array.item())
    if array.dtype.kind not in "fiu":
        raise ValueError("not numbers")
    return array


def _chumpy_value(node: _Chumpy) -> np.ndarray:
    state = node.state
    if "x" in state:
        return _numbers(state["x"])
    source = _numbers(state["a"])
    if "idxs" in state:  # a selection: flat indices into another array
        picked = source.ravel()[_numbers(state["idxs"]).astype(np.int64).ravel()]
        return picked.reshape(state.get("preferred_shape") or picked.shape)
    return source.reshape(state["newshape"])


def _dense(matrix: _Sparse) -> np.ndarray:
    state = matrix.state
    shape = tuple(int(n) for n in state.get("_shape", state.get("shape")))
    starts, inner, values = (_numbers(state[key]) for key in ("indptr", "indices", "data"))
    outer = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    dense = np.zeros(shape)
    at = (outer, inner) if matrix.rows else (inner, outer)
    np.add.at(dense, at, values)
    return dense
