# SPDX-License-Identifier: MIT
"""Errors that a user of dtnn_fast may want to catch, and the import of optional packages."""

from __future__ import annotations

import importlib
from types import ModuleType


class DTNNError(Exception):
    """Base of every error that dtnn_fast raises on purpose."""


class BadCrystalError(DTNNError, ValueError):
    """A crystal cannot be used; the message names the crystal or file and what is wrong with it."""


class BadFileError(DTNNError, ValueError):
    """A file cannot be read; the message names the file and what is wrong with it."""


class FetchError(DTNNError, OSError):
    """Data cannot be fetched; the message names the source and what is wrong."""


class MissingPackageError(DTNNError, ImportError):
    """An optional package is needed and absent; the message says what to install."""


def optional_import(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional package, or say what to install.

    Args:
        module: dotted name of the module, for example ``"pymatgen.core"``.
        extra: the extra of dtnn_fast that installs it, for example ``"io"``.
        purpose: what it is needed for, to complete "... is needed to <purpose>".

    Returns:
        The imported module.

    Raises:
        MissingPackageError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingPackageError(
            f'{package} is needed to {purpose}: install it with pip install "dtnn-fast[{extra}]" '
            f"or pip install {package} ({error})"
        ) from error
