# SPDX-License-Identifier: MIT
"""The table of cases of `pytest benchmarks`, on the CPU and on a GPU."""

from . import bonds, lists, messages, rank2, selections
from .case import BACKWARD, FORWARD, PASSES, SECOND, Case, Inputs, Peer, as_tuple, bind, compiled_binder
from .traffic import Traffic

# Lists first: a run whose time is up has measured what matters most.
CASES = [*lists.all_cases(), *bonds.all_cases(), *messages.all_cases(), *rank2.all_cases(), *selections.all_cases()]

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
