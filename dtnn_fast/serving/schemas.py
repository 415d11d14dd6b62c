# SPDX-License-Identifier: MIT
"""Requests and answers of the REST interface, from which its OpenAPI description is made."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .crystal_messages import RefusalCode

Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]


class Part(StrEnum):
    """What a prediction has beside the tensors, where it is asked for."""

    STRUCTURE = "structure"
    AXES = "axes"
    BORN_CHARGES = "born_charges"
    NEIGHBORS = "neighbors"
    REFINED = "refined"


class TextFormat(StrEnum):
    """Formats of crystals as text."""

    CIF = "cif"
    POSCAR = "poscar"
    EXTXYZ = "extxyz"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


class CrystalInput(BaseModel):
    """A crystal: the text of a file, or a structure in JSON."""

    model_config = ConfigDict(
        extra="forbid",
        # What `_has_one_content` demands, for those who read the description.
        json_schema_extra={
            "oneOf": [
                {"required": ["text"], "properties": {"text": {"type": "string"}, "structure": {"type": "null"}}},
                {
                    "required": ["structure"],
                    "properties": {
                        "structure": {"type": "object"},
                        "text": {"type": "null"},
                        "format": {"type": "null"},
                    },
                },
            ]
        },
    )

    name: str | None = Field(
        None, max_length=255, description="Name of the file, whose ending tells the format. No file is opened."
    )
    text: str | None = Field(None, min_length=1, description="Content of a CIF, POSCAR, extxyz, JSON or CSV file.")
    format: TextFormat | None = Field(None, description="Format of `text`, where the name does not tell it.")
    structure: dict[str, Any] | None = Field(
        None, description="A structure of pymatgen (`Structure.as_dict()`), OPTIMADE, JARVIS or ASE, instead of `text`."
    )

    @model_validator(mode="after")
    def _has_one_content(self) -> Self:
        if (self.text is None) == (self.structure is None):
            raise ValueError("expected either `text` or `structure`")
        if self.structure is not None and self.format is not None:
            raise ValueError("expected no `format` beside `structure`")
        return self


class PredictRequest(BaseModel):
    """Crystals to predict."""

    model_config = ConfigDict(extra="forbid")

    crystals: list[CrystalInput] = Field(min_length=1, description="Crystals, in the order of the results.")
    include: list[Part] = Field(
        default_factory=list,
        max_length=len(Part),
        description="What else the results have: positions of the atoms, principal axes of the tensors, Born effective "
        "charges, the nearest labelled crystals, and the ionic tensor by lattice dynamics.",
    )


class TensorResult(BaseModel):
    """A tensor of relative permittivity, in the Cartesian frame of the lattice vectors."""

    tensor: Matrix
    mean: float = Field(description="A third of the trace.")
    principal_values: Vector = Field(description="From small to large.")
    anisotropy: float = Field(description="Largest minus smallest principal value.")
    mean_error: float | None = Field(None, description="Error bar of the mean, below which nine of ten errors are.")
    tensor_error: float | None = Field(
        None, description="Error bar of the tensor: of the mean absolute error over its six elements."
    )
    principal_axes: Matrix | None = Field(None, description="Row k is the unit vector of principal value k.")


class Neighbor(BaseModel):
    """A labelled crystal that is like the predicted one for the model."""

    id: str
    formula: str
    distance: float = Field(
        description="Distance in the latent space of the encoder. Most training crystals have another within 1."
    )
    means: dict[str, float] = Field(description="Mean of each tensor by density-functional perturbation theory.")


class Refined(BaseModel):
    """Ionic and total tensor by lattice dynamics, which sees soft modes; see docs/refine.md."""

    ionic: Matrix
    total: Matrix
    ionic_mean: float
    ionic_mean_error: float | None
    total_mean: float
    total_mean_error: float | None
    lowest_frequency_thz: float | None = Field(description="Lowest mode at q = 0; negative where it is unstable.")
    unstable: bool = Field(description="Whether a displacement with the period of the cell lowers the energy.")
    nearly_ferroelectric: bool
    remarks: list[str] = Field(description="What the modes say that a user should know.")


class Predicted(BaseModel):
    """A crystal with its predicted tensors."""

    status: Literal["predicted"]
    input: int = Field(description="Number of the input, from 0.")
    name: str = Field(description="Name of the input.")
    id: str = Field(description="Name of the crystal. A file may hold several.")
    formula: str
    crystal_system: str | None
    space_group: int | None
    num_atoms: int
    lattice_vectors: Matrix = Field(description="Rows are lattice vectors, Angstrom.")
    tensors: dict[str, TensorResult] = Field(description="By name: electronic, ionic, total.")
    refractive_index: float | None = Field(description="Square root of the mean electronic permittivity.")
    training_distance: float | None = Field(
        description="Distance to the nearest training crystal; above 1 for crystals that are unlike all of them."
    )
    labelled: bool = Field(description="Whether tensors of this crystal by DFPT come with dtnn-fast.")
    warnings: list[str] = Field(description="What speaks against the prediction.")
    warning_codes: list[str]
    atomic_numbers: list[int] | None = None
    positions: list[Vector] | None = Field(None, description="Cartesian, Angstrom.")
    born_charges: list[Matrix] | None = Field(None, description="Z[atom, field, displacement], e.")
    neighbors: list[Neighbor] | None = None
    refined: Refined | None = None
    not_refined: str | None = Field(None, description="Why there is no refined tensor.")


class Rejected(BaseModel):
    """A crystal or file without a prediction."""

    status: Literal["rejected"]
    input: int = Field(description="Number of the input, from 0.")
    name: str = Field(description="Name of the input.")
    id: str
    code: RefusalCode
    reason: str


class PredictResponse(BaseModel):
    """Results in the order of the inputs, at least one for each."""

    model: str
    predicted: int = Field(description="Number of predicted crystals.")
    rejected: int = Field(description="Number of rejected crystals and files.")
    results: list[Predicted | Rejected]


class ServiceLimits(BaseModel):
    """What the service takes."""

    max_bytes: int = Field(description="Size of the body of a request.")
    max_atoms: int = Field(description="Number of atoms of a crystal.")
    max_crystals: int = Field(description="Number of crystals of a request.")
    reading_seconds: float = Field(description="Time to read a file.")
    request_seconds: float = Field(description="Time for a request.")


class ModelDescription(BaseModel):
    """The model that predicts."""

    name: str
    sha256: str = Field(description="Checksum of weights, targets and elements.")
    dtnn_fast_version: str
    targets: list[str]
    elements: list[str] = Field(description="Symbols of the elements that the model knows; empty for all.")
    has_error_bars: bool
    has_born_charges: bool
    can_refine: bool = Field(description="Whether `refined` gives ionic tensors by lattice dynamics.")
    unit: str
    limits: ServiceLimits


class Health(BaseModel):
    """Whether the service works."""

    status: Literal["ok"]


class ErrorDetail(BaseModel):
    """What is wrong with a request."""

    code: str
    message: str


class ErrorResponse(BaseModel):
    """Answer to a request that is refused as a whole."""

    error: ErrorDetail
