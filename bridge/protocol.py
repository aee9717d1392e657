# SPDX-License-Identifier: GPL-3.0-or-later
"""The messages between the add-on and its worker: one JSON object a line. Standard library only; both load this file."""

import json
import math
import os

VERSION = 1
MAX_LINE = 1 << 20  # bytes, the line feed included; bulk arrays go as .npz files in the job's folder
MAX_ID = 1 << 53

_NUMBER = (int, float)
_TEXT = (str,)
_NAME = (str, type(None))
_LIST = (list, type(None))

# type: {field: types}; a name that ends in "?" may be absent. Fields that are not named here are refused.
REQUESTS: dict[str, dict[str, tuple]] = {
    "hello": {},
    "ping": {},
    "shutdown": {},
    "cancel": {"job": (int,)},
    "describe_body": {"body?": _NAME, "out": _TEXT},
    "detect": {"source": (dict,), "detector?": _NAME, "fast?": (bool,), "look_for?": (int,), "device?": _TEXT, "out": _TEXT},
    "read_keypoints": {
        "keypoints": _TEXT,
        "frames?": _LIST,  # these five as for a fit
        "fps?": (*_NUMBER, type(None)),
        "counted?": (*_NUMBER, type(None)),
        "short?": (bool,),
        "image_size?": _LIST,
        "footage?": (dict, type(None)),  # a source: the keypoints' pictures, which have times where the file has none
        "out": _TEXT,
    },
    "fit": {
        "source?": (dict, type(None)),
        "keypoints?": _NAME,
        "frames?": _LIST,  # these five for a keypoint file; a source has its own
        "fps?": (*_NUMBER, type(None)),
        "counted?": (*_NUMBER, type(None)),
        "short?": (bool,),  # the range is the footage's, and the file may end before it
        "image_size?": _LIST,  # of the picture, where a keypoint file does not tell it
        "person?": (int, str, list),  # a number, "all", or the numbers of those who are wanted
        "mode?": _NAME,
        "weights?": _NAME,  # the user's own, in the place of those that ship
        "focal?": (*_NUMBER, type(None)),
        "camera?": _NAME,
        "camera_kept?": (bool,),  # it is one that an earlier solve of this footage found
        "moves?": _NAME,  # the camera: one of MOVES
        "footage?": (dict, type(None)),  # a source: the keypoints' pictures, which have times where the file has none, and whose background tells the path of a camera that travels
        "body?": _NAME,
        "betas?": _LIST,  # ten numbers; of several people such a list for each by their numbers, null where the shape is not told
        "steps?": (int, type(None)),
        "seed?": (int,),
        "trace?": (bool,),
        "plant_feet?": (bool,),
        "device?": _TEXT,
        "detector?": _NAME,
        "fast?": (bool,),  # the default detector: less sure
        "look_for?": (int,),  # so many people, whom it finds one after the other
        "out": _TEXT,
    },
}
JOBS = ("describe_body", "detect", "read_keypoints", "fit")
# How the footage's camera is taken, where nothing tells where it is: as the detection sees it, which finds turns and the paths of one that
# travels; as one that stands still; as one that travels, whatever is seen.
MOVES = ("seen", "still", "travels")
# counted: the rate at which frames and boxes count a video's frames (counting.py); without it they count its pictures.
SOURCE = {
    "path": _TEXT,
    "frames?": _LIST,
    "fps?": (*_NUMBER, type(None)),
    "counted?": (*_NUMBER, type(None)),
    "boxes?": _LIST,
}
EVENTS: dict[str, dict[str, tuple]] = {
    "ready": {"version": _TEXT, "pid": (int,)},
    "progress": {"stage": _TEXT, "done": (int,), "total": (int,)},
    "keypoints": {"frame": (int,), "people": (list,), "layout": _TEXT, "image_size": (list,)},
    "warning": {"text": _TEXT, "cuts?": _LIST},  # cuts: the frames that the text tells of, in the counting of the source
    "log": {"text": _TEXT},
}
TERMINAL: dict[str, dict[str, tuple]] = {
    "result": {"value": (dict,)},
    "error": {"code": _TEXT, "text": _TEXT, "hint": _TEXT, "action": _TEXT},
    "cancelled": {},
}
TYPES = {**REQUESTS, **EVENTS, **TERMINAL}
# The fields of a result that name files; all of them lie in the job's own folder.
RESULT_FILES = {
    "describe_body": ("file",),
    "detect": ("keypoints",),
    "read_keypoints": ("keypoints",),
    "fit": ("motions", "traces", "keypoints"),
}


class ProtocolError(Exception):
    """A line or message that does not keep to the protocol: code (bad_message, protocol_mismatch), text, id."""

    def __init__(self, text: str, code: str = "bad_message", id: int = 0):
        super().__init__(text)
        self.code = code
        self.text = text
        self.id = id


def message(type: str, id: int, **fields) -> dict:
    """A message of this version; `encode` checks it."""
    return {"v": VERSION, "id": id, "type": type, **fields}


def encode(message: dict) -> bytes:
    """One line, ending in a line feed. Raises ProtocolError for what `decode` would refuse (NaN, infinity, size)."""
    check(message)
    try:
        line = json.dumps(message, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"
    except (TypeError, ValueError, RecursionError) as fault:
        raise ProtocolError(
            f"A {message['type']} message cannot be written: {fault}.", id=message["id"]
        ) from fault
    if len(line) > MAX_LINE:
        raise ProtocolError(
            f"A {message['type']} message has {len(line)} bytes; the limit is {MAX_LINE}.", id=message["id"]
        )
    return line


def decode(line: bytes) -> dict:
    """The checked message of one line. Raises ProtocolError, and nothing else, for anything that is not one."""
    if len(line) > MAX_LINE:
        raise ProtocolError(f"A line is longer than {MAX_LINE} bytes.")
    try:
        value = json.loads(line.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as fault:
        raise ProtocolError(f"A line is not a message: {line[:80]!r}.") from fault
    check(value)
    return value


def check(value) -> None:
    """Raise ProtocolError unless `value` is a message of this version with the fields of its type."""
    if not isinstance(value, dict):
        raise ProtocolError("A message is not an object.")
    version, number, kind = value.get("v"), value.get("id"), value.get("type")
    id = number if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < MAX_ID else None
    if not _is(version, (int,)):
        raise ProtocolError("A message carries no version.", id=id or 0)
    if version != VERSION:
        raise ProtocolError(
            f"A message is of version {version}, not {VERSION}.", "protocol_mismatch", id or 0
        )
    if id is None:
        raise ProtocolError("A message carries no usable id.")
    if not isinstance(kind, str) or kind not in TYPES:
        raise ProtocolError(f"There is no message type {kind!r:.40}.", id=id)
    fields = {key: entry for key, entry in value.items() if key not in ("v", "id", "type")}
    _check_fields(kind, fields, TYPES[kind], id)
    for name in ("source", "footage"):
        if isinstance(fields.get(name), dict):
            _check_fields(f"{kind} {name}", fields[name], SOURCE, id)
    for place in (fields, fields.get("source") or {}, fields.get("footage") or {}):
        _check_values(kind, place, id)
    if fields.get("moves") not in (None, *MOVES):
        raise ProtocolError(f"A camera moves as {', '.join(MOVES)}, not as {fields['moves']!r:.40}.", id=id)
    if kind == "fit" and (fields.get("source") is None) == (fields.get("keypoints") is None):
        raise ProtocolError("A fit needs either a source or keypoints.", id=id)
    if fields.get("moves") == "travels" and fields.get("source") is None and fields.get("footage") is None:
        raise ProtocolError("The path of a camera that travels needs footage.", id=id)


def failure(id: int, error: BaseException) -> dict:
    """The terminal message for an exception: its code, text, hint and action where it has them, else `internal`."""
    code = getattr(error, "code", None)
    if code == "cancelled":
        return message("cancelled", id)
    if not isinstance(code, str):  # SystemExit has a code that is a number
        return message(
            "error", id, code="internal", text=f"{type(error).__name__}: {error}"[:2000], hint="", action=""
        )
    entries = {key: str(getattr(error, key, ""))[:4000] for key in ("text", "hint", "action")}
    return message("error", id, code=code, **entries)


def files_of(kind: str, result: dict) -> list[str]:
    """The file paths that a job's result names."""
    paths: list[str] = []
    for field in RESULT_FILES.get(kind, ()):
        entry = result.get(field)
        paths += entry if isinstance(entry, list) else [] if entry is None else [entry]
    return paths


def check_files(kind: str, result: dict, folder: str, id: int = 0) -> None:
    """Raise ProtocolError unless every file that `result` names is a file inside `folder` (links resolved)."""
    root = os.path.realpath(folder)
    for path in files_of(kind, result):
        inside = isinstance(path, str) and "\0" not in path and os.path.isabs(path)
        if not inside or os.path.commonpath([root, *_same_drive(root, os.path.realpath(path))]) != root:
            raise ProtocolError(f"A result names a file outside its job's folder: {path!r:.200}.", id=id)
        if not os.path.isfile(path):
            raise ProtocolError(f"A result names a file that is not there: {path!r:.200}.", id=id)


def _same_drive(root: str, path: str) -> list[str]:
    # commonpath raises for two drives; the drive alone is never equal to a folder on another one.
    return (
        [path]
        if os.path.splitdrive(root)[0].lower() == os.path.splitdrive(path)[0].lower()
        else [os.path.dirname(root)]
    )


def _check_fields(kind: str, fields: dict, table: dict[str, tuple], id: int) -> None:
    for name, types in table.items():
        optional = name.endswith("?")
        key = name.rstrip("?")
        if key not in fields:
            if optional:
                continue
            raise ProtocolError(f"A {kind} message lacks {key}.", id=id)
        if not _is(fields[key], types):
            raise ProtocolError(f"In a {kind} message {key} is of the wrong type.", id=id)
    for key in fields:
        if key not in table and f"{key}?" not in table:
            raise ProtocolError(f"A {kind} message has no field {key!r:.40}.", id=id)


def _check_values(kind: str, fields: dict, id: int) -> None:
    """What the types leave open of a request's lists and rates."""
    frames, betas = fields.get("frames"), fields.get("betas")
    rates = (fields.get(name) for name in ("fps", "counted", "focal"))
    if isinstance(frames, list) and not (len(frames) == 2 and all(_is(f, (int, type(None))) for f in frames)):
        raise ProtocolError(f"In a {kind} message frames are not two whole numbers.", id=id)
    size = fields.get("image_size")
    if kind in ("fit", "read_keypoints") and isinstance(size, list) and not (len(size) == 2 and all(_is(side, (int,)) and side > 0 for side in size)):
        raise ProtocolError(f"In a {kind} message image_size is not two whole numbers.", id=id)
    boxes = fields.get("boxes") or []
    if any(not (isinstance(box, (list, tuple)) and len(box) in (4, 6) and all(_is(side, (*_NUMBER, type(None))) for side in box)) for box in boxes):
        raise ProtocolError(f"In a {kind} message boxes are not four numbers and two frames each.", id=id)
    if not abs(fields.get("seed") or 0) < MAX_ID:
        raise ProtocolError(f"In a {kind} message seed is too large.", id=id)
    people = fields.get("person")
    if isinstance(people, list) and not (people and all(_is(person, (int,)) for person in people)):
        raise ProtocolError(f"In a {kind} message person holds no whole numbers.", id=id)
    shapes = [betas] if isinstance(betas, list) and not any(_is(one, (list, type(None))) for one in betas) else betas or []
    if any(one is not None and not (isinstance(one, list) and len(one) == 10 and all(_is(b, _NUMBER) for b in one)) for one in shapes):
        raise ProtocolError(f"In a {kind} message betas are not ten numbers.", id=id)
    if any(_is(rate, _NUMBER) and not rate > 0 for rate in rates):
        raise ProtocolError(f"In a {kind} message a rate or a focal length is not above 0.", id=id)


def _is(value, types: tuple) -> bool:
    return isinstance(value, types) and (not isinstance(value, bool) or bool in types)


def _no_constant(name: str):
    raise ValueError(f"{name} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not finite")
    return value
