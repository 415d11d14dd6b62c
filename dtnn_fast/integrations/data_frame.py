# SPDX-License-Identifier: MIT
"""Predictions as a data frame of pandas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import BadFileError, optional_import


def to_dataframe(predictions: Any) -> Any:
    """Return the predictions of a screening as a data frame, one row for each crystal, with the columns of the parts.

    Args:
        predictions: the table that `dtnn_fast.screen` returned, or the folder of ``dtnn-fast screen``, whose parts are
            read in the order of the input.

    Returns:
        A `pandas.DataFrame`. Counts that may be missing are of pandas' nullable types, not floats.

    Raises:
        BadFileError: the folder has no parts, or they cannot be read.
        MissingPackageError: pandas or pyarrow is not installed.

    Example:
        >>> frame = to_dataframe("screening")
        >>> frame[frame.total_mean > 20].sort_values("total_mean", ascending=False)
    """
    pandas = optional_import("pandas", extra="pandas", purpose="make a data frame")
    table = predictions
    if isinstance(predictions, str | Path):
        dataset = optional_import("pyarrow.dataset", extra="pandas", purpose="read a screening")
        parts = sorted(Path(predictions).glob("part-*.parquet"))
        if not parts:
            raise BadFileError(f"{predictions}: expected the folder of a screening, with part-*.parquet")
        try:
            table = dataset.dataset([str(part) for part in parts]).to_table()
        except (OSError, ValueError) as error:
            raise BadFileError(f"{predictions}: the parts cannot be read: {error}") from error
    if not hasattr(table, "to_pandas"):
        raise TypeError(
            f"to_dataframe: expected the table of dtnn_fast.screen or a folder, got {type(predictions).__name__}"
        )
    arrow = optional_import("pyarrow", extra="pandas", purpose="make a data frame")
    nullable = {arrow.int64(): pandas.Int64Dtype(), arrow.int32(): pandas.Int32Dtype()}
    return table.to_pandas(types_mapper=nullable.get)
