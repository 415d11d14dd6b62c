# SPDX-License-Identifier: MIT
"""Screening as a job of jobflow, and a flow of atomate2 that computes the best crystals by perturbation theory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..crystals.convert import to_crystal
from ..crystals.crystal import Crystal
from ..dfpt.vasp_inputs import TIGHT_DIELECTRIC, TIGHT_RELAXATION
from ..errors import BadCrystalError, DTNNError, optional_import
from ..screening.screen_function import screen

_jobflow: Any = optional_import("jobflow", extra="atomate2", purpose="run a screening as a job")
# Not in the predictions of a job: the structures stand beside them.
_STRUCTURE_COLUMNS = frozenset({"lattice_vectors", "species_at_sites", "cartesian_site_positions"})


@dataclass
class ScreenMaker(_jobflow.Maker):
    """Maker of a job that predicts and ranks structures, and keeps the best.

    Args:
        name: name of the job.
        model: name or folder of a model, which the worker that runs the job must have.
        where: an SQL condition over the columns of a screening; see `dtnn_fast.screen`.
        by: a column or an SQL expression to rank by; see `dtnn_fast.screen`.
        keep: maximum number of crystals in the output.

    Example:
        >>> job = ScreenMaker(where="total_mean > 10", by="total_mean", keep=5).make(structures, ids)
        >>> responses = jobflow.run_locally(job)
        >>> responses[job.uuid][1].output["ids"]
    """

    name: str = "dtnn screen"
    model: str = "dielectric"
    where: str | None = None
    by: str | None = None
    keep: int = 10

    @_jobflow.job
    def make(self, structures: Sequence[Any], ids: Sequence[str] | None = None) -> dict[str, Any]:
        """Make the job; its output is a dictionary.

        Args:
            structures: structures of pymatgen.
            ids: a different name for each structure; None for "structure 0", "structure 1" and so on.

        Returns:
            "ids", "structures" and "predictions" (the columns of a screening, plain values) of the best crystals, best
            first; "num_predicted", "num_not_ranked", and "rejected", the ids and reasons of structures that cannot be
            converted to crystals. "num_rejected" counts these together with the crystals that the screening rejects.

        Raises:
            ValueError: `ids` does not name each structure, or `keep` is below 1.
            DTNNError: nothing could be predicted, or an expression is wrong.
        """
        if self.keep < 1:
            raise ValueError(f"ScreenMaker: expected `keep` of 1 or more, got {self.keep}")
        names = [f"structure {k}" for k in range(len(structures))] if ids is None else [str(name) for name in ids]
        if len(names) != len(structures) or len(set(names)) != len(names):
            raise ValueError(
                f"ScreenMaker: expected `ids` of {len(structures)} different names, got {len(names)}, of which "
                f"{len(set(names))} differ"
            )
        crystals: list[Crystal] = []
        rejected: dict[str, str] = {}
        for name, structure in zip(names, structures, strict=True):
            try:
                crystals.append(to_crystal(structure, name))
            except BadCrystalError as error:
                rejected[name] = str(error).removeprefix(f"{name}: ")
        if not crystals:
            raise DTNNError(f"ScreenMaker: nothing could be predicted: {next(iter(rejected.items()), 'no structures')}")
        table = screen(crystals, self.model, where=self.where, by=self.by)
        best = table.slice(0, self.keep).to_pylist()
        of_name = dict(zip(names, structures, strict=True))
        counts = {key.decode(): int(value) for key, value in (table.schema.metadata or {}).items() if value.isdigit()}
        num_rejected = len(rejected) + counts["rejected"]
        return {
            "ids": [row["id"] for row in best],
            "structures": [of_name[row["id"]] for row in best],
            "predictions": [{k: v for k, v in row.items() if k not in _STRUCTURE_COLUMNS} for row in best],
            "num_predicted": len(structures) - num_rejected,
            "num_not_ranked": counts["not_ranked"],
            "num_rejected": num_rejected,
            "rejected": rejected,
        }


def _default_relax_maker() -> Any:
    """Return two tight relaxations, as `dtnn-fast dfpt` has them."""
    purpose = "relax structures"
    flows = optional_import("atomate2.vasp.flows.core", extra="atomate2", purpose=purpose)
    jobs = optional_import("atomate2.vasp.jobs.mp", extra="atomate2", purpose=purpose)
    sets = optional_import("pymatgen.io.vasp.sets", extra="atomate2", purpose=purpose)
    settings = sets.MPRelaxSet(inherit_incar=False, user_incar_settings=TIGHT_RELAXATION)
    return flows.DoubleRelaxMaker.from_relax_maker(jobs.MPGGARelaxMaker(input_set_generator=settings))


def _default_dielectric_maker() -> Any:
    purpose = "compute dielectric tensors"
    jobs = optional_import("atomate2.vasp.jobs.core", extra="atomate2", purpose=purpose)
    sets = optional_import("pymatgen.io.vasp.sets", extra="atomate2", purpose=purpose)
    settings = sets.MPStaticSet(lepsilon=True, inherit_incar=False, user_incar_settings=TIGHT_DIELECTRIC)
    return jobs.DielectricMaker(input_set_generator=settings)


@dataclass
class ScreenThenDFPTMaker(_jobflow.Maker):
    """Maker of a flow that screens structures, relaxes the best, and computes their dielectric tensors with VASP.

    The default settings are those of ``dtnn-fast dfpt`` (docs/dfpt.md).

    Args:
        name: name of the flow.
        screen_maker: makes the screening; its `keep` is the number of structures that are computed.
        relax_maker: a Maker of atomate2 whose output has `structure` and `dir_name`; None computes the tensors of the
            structures as they are.
        dielectric_maker: `DielectricMaker` of atomate2, or another Maker that takes `structure` and `prev_dir`.

    Example:
        >>> flow = ScreenThenDFPTMaker(screen_maker=ScreenMaker(keep=3)).make(structures, ids)
        >>> jobflow.run_locally(flow, create_folders=True)
    """

    name: str = "dtnn screen, then dfpt"
    screen_maker: ScreenMaker = field(default_factory=ScreenMaker)
    relax_maker: Any = field(default_factory=_default_relax_maker)
    dielectric_maker: Any = field(default_factory=_default_dielectric_maker)

    def make(self, structures: Sequence[Any], ids: Sequence[str] | None = None) -> Any:
        """Make the flow; its output is a dictionary by id with "predicted" and "computed" of each of the best.

        Args:
            structures: structures of pymatgen.
            ids: see `ScreenMaker.make`.
        """
        screening = self.screen_maker.make(structures, ids)
        best = compute_best(screening.output, self.relax_maker, self.dielectric_maker)
        return _jobflow.Flow([screening, best], output=best.output, name=self.name)


@_jobflow.job
def compute_best(screened: dict[str, Any], relax_maker: Any, dielectric_maker: Any) -> Any:
    """Make a job that replaces itself by the calculations of the structures that a screening kept.

    Args:
        screened: output of the job of a `ScreenMaker`.
        relax_maker: see `ScreenThenDFPTMaker`.
        dielectric_maker: see `ScreenThenDFPTMaker`.
    """
    flows, output = [], {}
    best = zip(screened["ids"], screened["structures"], screened["predictions"], strict=True)
    for name, structure, predicted in best:
        if relax_maker is None:
            dielectric = dielectric_maker.make(structure)
            jobs = [dielectric]
        else:
            relax = relax_maker.make(structure)
            dielectric = dielectric_maker.make(relax.output.structure, prev_dir=relax.output.dir_name)
            jobs = [relax, dielectric]
        flows.append(_jobflow.Flow(jobs, output=dielectric.output, name=f"dfpt {name}"))
        output[name] = {"predicted": predicted, "computed": dielectric.output}
    return _jobflow.Response(replace=_jobflow.Flow(flows, output=output, name="dfpt of the best"))
