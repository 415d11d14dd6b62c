# SPDX-License-Identifier: MIT
"""The table of cases of `pytest benchmarks`, on the CPU and on a GPU."""

from . import bonds, lists, messages, networks, rank2, selections, symmetry
from .case import BACKWARD, FORWARD, PASSES, SECOND, Case, Inputs, Peer, as_tuple, bind, compiled_binder
from .traffic import Traffic

# Lists first: a run whose time is up has measured what matters most.
_MODULES = (lists, bonds, messages, networks, rank2, selections, symmetry)
CASES = [case for module in _MODULES for case in module.all_cases()]

__all__ = [
    "BACKWARD",
    "CASES",
    "FORWARD",
    "PASSES",
    "SECOND",
    "Case",
    "Inputs",
    "Peer",
    "Traffic",
    "as_tuple",
    "bind",
    "compiled_binder",
]
