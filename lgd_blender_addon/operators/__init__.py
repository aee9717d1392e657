# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's operators. Thin: what they do is in plain functions that scripts call too."""

from . import boxes, descent, files, people, result, run

CLASSES = (*run.CLASSES, *result.CLASSES, *boxes.CLASSES, *files.CLASSES, *descent.CLASSES, *people.CLASSES)
