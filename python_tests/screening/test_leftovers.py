# SPDX-License-Identifier: MIT
"""Half-written parts of a stopped process are removed, those that another share is writing now are not."""

from dtnn_fast.screening.parts import Parts


def test_only_leftovers_of_the_own_share_are_removed(tmp_path):
    names = [f"{kind}-{chunk:06d}-0000.parquet.77.unfinished" for kind in ("part", "rejected") for chunk in range(4)]
    names += ["manifest.json.77.unfinished"]
    for name in names:
        (tmp_path / name).touch()
    parts = Parts(tmp_path)
    parts.remove_unfinished({1, 3})
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {name for name in names if "-000001-" not in name and "-000003-" not in name}
    assert len(left) == 5
    parts.remove_unfinished()
    assert list(tmp_path.iterdir()) == []
