# SPDX-License-Identifier: GPL-3.0-or-later
"""How the default body is made from MakeHuman's CC0 assets. For developers; not part of the add-on."""
