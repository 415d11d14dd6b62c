# SPDX-License-Identifier: MIT
"""Jobs of jobflow: the screening runs and keeps the best; the flow hands them to the calculations of atomate2."""

import json
from dataclasses import dataclass

import pytest
import torch

pytest.importorskip("jobflow")
pytest.importorskip("pymatgen.core")
pytest.importorskip("duckdb")
from jobflow import Flow, JobStore, Maker, job, run_locally
from maggma.stores import MemoryStore
from monty.json import MontyDecoder, MontyEncoder
from pymatgen.core import Lattice, Structure

import dtnn_fast
from dtnn_fast.crystals.convert import to_crystal
from dtnn_fast.errors import DTNNError
from dtnn_fast.integrations import ScreenMaker, ScreenThenDFPTMaker
from dtnn_fast.integrations.atomate2_maker import compute_best

# Of jobflow and pymatgen about their own calls.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rocksalt(metal, anion, size):
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(size), [metal, anion], [[0, 0, 0], [0.5] * 3])


NAMES = ["MgO", "CaO", "SrO", "NaCl", "broken", "disordered"]
STRUCTURES = [
    rocksalt("Mg", "O", 4.21),
    rocksalt("Ca", "O", 4.81),
    rocksalt("Sr", "O", 5.16),
    rocksalt("Na", "Cl", 5.64),
    rocksalt("Mg", "O", 0.9),
    Structure(Lattice.cubic(4), [{"Mg": 0.5, "Ca": 0.5}, "O"], [[0, 0, 0], [0.5] * 3]),
]


@dataclass
class NotedRelaxation(Maker):
    """In place of VASP: gives back the structure, 1 % larger."""

    name: str = "noted relaxation"

    @job
    def make(self, structure):
        larger = structure.copy()
        larger.scale_lattice(1.01 * structure.volume)
        return {"structure": larger, "dir_name": f"runs/{structure.reduced_formula}"}


@dataclass
class NotedTensor(Maker):
    """In place of VASP: says what it was asked to compute."""

    name: str = "noted tensor"

    @job
    def make(self, structure, prev_dir=None):
        return {"formula": structure.reduced_formula, "volume": structure.volume, "prev_dir": prev_dir}


def test_the_job_keeps_the_best_with_their_predictions():
    made = ScreenMaker(by="total_mean", where="total_mean > 6", keep=2).make(STRUCTURES, NAMES)
    output = run_locally(made, log=False, ensure_success=True)[made.uuid][1].output
    crystals = [to_crystal(structure, name) for structure, name in zip(STRUCTURES[:5], NAMES, strict=False)]
    expected = dtnn_fast.screen(crystals, by="total_mean", where="total_mean > 6").to_pylist()
    assert len(expected) > 2
    assert output["ids"] == [row["id"] for row in expected[:2]]
    assert [row["total_mean"] for row in output["predictions"]] == [row["total_mean"] for row in expected[:2]]
    assert output["predictions"][0]["total_mean"] > output["predictions"][1]["total_mean"]
    assert [structure.reduced_formula for structure in output["structures"]] == output["ids"]
    assert (output["num_predicted"], output["num_rejected"], list(output["rejected"])) == (4, 2, ["disordered"])
    assert "partial occupancy" in output["rejected"]["disordered"]
    # What a store keeps is plain.
    assert json.loads(json.dumps(output, cls=MontyEncoder), cls=MontyDecoder)["structures"] == output["structures"]


def test_the_flow_hands_the_best_to_the_calculations():
    maker = ScreenThenDFPTMaker(
        screen_maker=ScreenMaker(by="total_mean", keep=2),
        relax_maker=NotedRelaxation(),
        dielectric_maker=NotedTensor(),
    )
    flow = maker.make(STRUCTURES[:4], NAMES[:4])
    store = JobStore(MemoryStore())
    responses = run_locally(flow, log=False, ensure_success=True, store=store)
    outputs = [response.output for runs in responses.values() for response in runs.values()]
    screened = next(output for output in outputs if isinstance(output, dict) and "predictions" in output)
    computed = [output for output in outputs if isinstance(output, dict) and "formula" in output]
    assert len(computed) == 2
    assert [one["formula"] for one in computed] == screened["ids"]
    for one, structure in zip(computed, screened["structures"], strict=True):
        assert one["volume"] == pytest.approx(1.01 * structure.volume)
        assert one["prev_dir"] == f"runs/{one['formula']}"
    # The output of the flow, after the last job was replaced by the calculations.
    final = store.get_output(flow.jobs[1].uuid)
    assert list(final) == screened["ids"]
    for name, computation in zip(screened["ids"], computed, strict=True):
        assert final[name]["computed"] == computation
        assert final[name]["predicted"] in screened["predictions"]


def test_without_relaxation_the_structures_are_computed_as_they_are():
    maker = ScreenThenDFPTMaker(screen_maker=ScreenMaker(keep=1), relax_maker=None, dielectric_maker=NotedTensor())
    responses = run_locally(maker.make(STRUCTURES[:2]), log=False, ensure_success=True)
    outputs = [response.output for runs in responses.values() for response in runs.values()]
    (computed,) = [output for output in outputs if isinstance(output, dict) and "formula" in output]
    assert computed["prev_dir"] is None
    assert computed["volume"] in [pytest.approx(structure.volume) for structure in STRUCTURES[:2]]


def test_the_default_calculations_are_those_of_atomate2():
    pytest.importorskip("atomate2")
    maker = ScreenThenDFPTMaker()
    screened = {"ids": ["MgO"], "structures": STRUCTURES[:1], "predictions": [{"total_mean": 9.0}]}
    replaced = compute_best.original(screened, maker.relax_maker, maker.dielectric_maker).replace
    assert isinstance(replaced, Flow)
    assert [one.name for one, _ in replaced.iterflow()] == ["MP GGA relax 1", "MP GGA relax 2", "dielectric"]
    assert replaced.output["MgO"]["predicted"] == {"total_mean": 9.0}
    incar = maker.dielectric_maker.input_set_generator.get_input_set(STRUCTURES[0], potcar_spec=True).incar
    assert (incar["LEPSILON"], incar["IBRION"], incar["EDIFF"]) == (True, 8, 1e-7)
    incar = maker.relax_maker.relax_maker2.input_set_generator.get_input_set(STRUCTURES[0], potcar_spec=True).incar
    assert (incar["EDIFFG"], incar["LREAL"]) == (-0.001, False)
    # A flow is sent to a worker as JSON.
    sent = json.loads(json.dumps(maker, cls=MontyEncoder), cls=MontyDecoder)
    assert sent.screen_maker == maker.screen_maker
    assert sent.dielectric_maker.name == "dielectric"


def test_bad_arguments_say_what_was_expected():
    make = ScreenMaker.make.original
    with pytest.raises(ValueError, match="expected `ids` of 2 different names, got 2, of which 1 differ"):
        make(ScreenMaker(), STRUCTURES[:2], ["a", "a"])
    with pytest.raises(ValueError, match="expected `ids` of 2 different names, got 1"):
        make(ScreenMaker(), STRUCTURES[:2], ["a"])
    with pytest.raises(ValueError, match="expected `keep` of 1 or more, got 0"):
        make(ScreenMaker(keep=0), STRUCTURES[:2])
    with pytest.raises(DTNNError, match="nothing could be predicted"):
        make(ScreenMaker(), STRUCTURES[5:])
    with pytest.raises(DTNNError, match="nothing could be predicted"):
        make(ScreenMaker(), [])
    with pytest.raises(DTNNError, match="no_such_column"):
        make(ScreenMaker(by="no_such_column"), STRUCTURES[:2])
