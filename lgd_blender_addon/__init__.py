# SPDX-License-Identifier: GPL-3.0-or-later
"""LGD Motion from Footage: video in, an SMPL rig with keys out, by learned gradient descent.

The path of one click: `operators` reads the settings (`properties`), `scene/footage.py` finds the footage and its
frames, `session.py` starts the worker (`worker/`, the programs in `bridge/`) and hands its messages to
`operators/pump.py`, which calls `lgd.apply_result`: `scene/result.py` builds rig, mesh, keys and camera in one undo
step. `panels.py` and `overlay.py` draw what `properties` holds and do nothing else.
"""


def register():
    """Called by Blender when the add-on is enabled."""
    from . import registration

    registration.register()


def unregister():
    """Called by Blender when the add-on is disabled."""
    from . import registration

    registration.unregister()
