# SPDX-License-Identifier: MIT
"""Errors to catch around calls of dtnn_fast, and the import of optional packages."""

from __future__ import annotations

import importlib
from types import ModuleType


class DTNNError(Exception):
    """Base class of all errors that dtnn_fast defines."""


class BadCrystalError(DTNNError, ValueError):
    """A crystal cannot be used; the message names the crystal or file and what is wrong with it."""


class BadFileError(DTNNError, ValueError):
    """A file cannot be read; the message names the file and what is wrong with it."""


class FetchError(DTNNError, OSError):
    """Data cannot be fetched; the message names the source and what is wrong."""


class MissingPackageError(DTNNError, ImportError):
    """An optional package is needed but not installed; the message says what to install."""


def optional_import(module: str, *, extra: str, purpose: str, distribution: str | None = None) -> ModuleType:
    """Import an optional package, or raise an error that says what to install.

    Args:
        module: dotted name of the module, for example ``"pymatgen.core"``.
        extra: the extra of dtnn_fast that installs it, for example ``"io"``.
        purpose: a verb phrase that completes "... is needed to <purpose>" in the message.
        distribution: name to install it by, where that is not the first part of `module`.

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
            f"or pip install {distribution or package} ({error})"
        ) from error
