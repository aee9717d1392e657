# SPDX-License-Identifier: GPL-3.0-or-later
"""What `build_addon.py` is made of beside the zip: the developers' environments, the test runner, the demo. Stdlib only."""
