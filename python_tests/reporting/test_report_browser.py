# SPDX-License-Identifier: MIT
"""The report in headless Chromium, without any network: it opens, sorts, filters, and shows structures."""

import io
import json
import re
import time

import browser
import numpy as np
import pytest
from PIL import Image
from screening_parts import HOSTILE_ID, HOSTILE_TEXT

from dtnn_fast.crystals.crystal import Crystal
from dtnn_fast.crystals.elements import SYMBOLS
from dtnn_fast.formats.reading import read_crystals
from dtnn_fast.reporting.prediction_page import write_prediction_page
from dtnn_fast.reporting.screening_page import write_screening_report

# How the page writes a minus sign, and a number that is not known.
MINUS, UNKNOWN = "\u2212", "\u2013"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser.find_chromium() is None, reason="no chromium or chrome is installed"),
]


@pytest.fixture(scope="module")
def page(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_screening_report(path, folder, 40, "dtnn-fast report screening")
    return path


@pytest.fixture(scope="module")
def started():
    with browser.open_tab() as tab:
        yield tab


@pytest.fixture
def tab(started, page):
    """The open report; afterwards nothing went wrong and nothing but the page was asked for."""
    started.resize(1440, 1000)
    started.open(page)
    started.errors.clear()
    yield started
    assert started.errors == []
    assert {url.partition("#")[0] for url in started.requests if not url.startswith(("data:", "blob:"))} <= {
        page.resolve().as_uri()
    }
    assert started.run("window.hacked") is None
    started.requests.clear()


def column(tab, key):
    """Texts of a column of the table, from the first row."""
    return tab.run(
        f"""(() => {{ const heads = [...document.querySelectorAll('.crystals thead th')];
        const place = heads.findIndex((head) => head.querySelector('[data-key="{key}"]'));
        return [...document.querySelectorAll('.crystals tbody tr')].map((row) => row.cells[place].innerText); }})()"""
    )


def shown_ids(tab):
    return tab.run("[...document.querySelectorAll('.crystals tbody tr')].map((row) => row.dataset.id)")


def numbers(texts):
    return [float(text.split()[0].replace(MINUS, "-")) for text in texts if text != UNKNOWN]


def stage_colors(tab):
    """Number of different colours in the picture of the structure."""
    tab.run("document.getElementById('stage').scrollIntoView({block: 'center'})")
    box = tab.run("JSON.stringify(document.getElementById('stage').getBoundingClientRect())")
    box = json.loads(box)
    picture = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
    crop = picture.crop((int(box["left"]) + 2, int(box["top"]) + 2, int(box["right"]) - 2, int(box["bottom"]) - 2))
    return len(np.unique(np.asarray(crop).reshape(-1, 3), axis=0))


def test_it_opens_offline_with_all_sections(tab, page, rows, ranked):
    assert tab.run("navigator.onLine") is False
    assert page.stat().st_size < 8e6
    titles = tab.run("[...document.querySelectorAll('h2')].map((title) => title.innerText)")
    assert titles == [
        "Band gap and permittivity",
        "The first 40",
        "Training crystals and candidates",
        "Rejected",
        "Provenance",
    ]
    assert shown_ids(tab) == ranked[:40]
    said = tab.run("document.getElementById('main').innerText")
    # NaN3 is a crystal.
    assert re.findall(r"\[object|\bundefined\b|\bNaN\b|\bnull\b|Infinity", said) == []
    assert "DFPT" in tab.run("document.querySelector('.crystals tbody').innerText")
    assert f"{len(rows)}" in tab.run("document.getElementById('overview').innerText")
    # Every figure is drawn: a point for each ranked crystal with a gap, and contours.
    known = [row for row in rows if row["id"] in set(ranked) and row["band_gap"] is not None]
    known = [row for row in known if np.isfinite(row["band_gap"])]
    assert tab.run("document.querySelectorAll('#plot-merit path.plotly-customdata').length") == len(known)
    for name in ("electronic", "ionic"):
        assert tab.run(f"document.querySelectorAll('#plot-density-{name} .contourlayer path').length") >= 8
        assert tab.run(f"document.querySelectorAll('#plot-density-{name} .barlayer path').length") > 5


def test_a_request_of_the_page_is_refused(started, page):
    started.open(page)
    refused = started.run("fetch('https://example.org/').then(() => false, () => true)")
    assert refused
    assert any("Content Security Policy" in error for error in started.errors)
    started.errors.clear()
    started.requests.clear()


@pytest.mark.parametrize(
    ("key", "first_is_largest"), [("band_gap", True), ("total_mean", True), ("ionic_mean", True), ("rank", False)]
)
def test_columns_sort_both_ways_with_unknown_values_last(tab, key, first_is_largest):
    if key == "rank":
        tab.click('[data-key="band_gap"]')
    for largest_first in (first_is_largest, not first_is_largest):
        tab.click(f'[data-key="{key}"]')
        texts = column(tab, key)
        values = numbers(texts)
        assert len(texts) == 40
        assert values == sorted(values, reverse=largest_first)
        assert all(text == UNKNOWN for text in texts[len(values) :])
        state = tab.run(f"document.querySelector('[data-key=\"{key}\"]').closest('th').ariaSort")
        assert state == ("descending" if largest_first else "ascending")


def test_filters(tab, rows, ranked):
    by_id = {row["id"]: row for row in rows}
    tab.type("#filter-text", "O")
    with_oxygen = [id for id in ranked[:40] if "O" in by_id[id]["species_at_sites"]]
    assert shown_ids(tab) == with_oxygen
    assert 0 < len(with_oxygen) < 40
    assert f"{len(with_oxygen)} of 40" in tab.run("document.getElementById('status').innerText")
    tab.type("#filter-gap", "3.0")
    assert shown_ids(tab) == [id for id in with_oxygen if by_id[id]["band_gap"] >= 3.0]
    tab.click("#reset")
    tab.click("#filter-clean")
    assert HOSTILE_ID not in shown_ids(tab)
    tab.click("#filter-clean")
    tab.type("#filter-text", "cubic-perov")
    assert shown_ids(tab) == ["cubic-perovskite"]
    tab.type("#filter-text", "nothing has this")
    assert "No crystal matches" in tab.run("document.querySelector('.crystals tbody').innerText")
    tab.click("#reset")
    assert shown_ids(tab) == ranked[:40]


def test_elements_filter_the_table(tab, rows, ranked):
    by_id = {row["id"]: row for row in rows}
    tab.click('[data-element="O"]')
    expected = [id for id in ranked[:40] if "O" in by_id[id]["species_at_sites"]]
    assert shown_ids(tab) == expected
    assert tab.run("document.querySelector('[data-element=\"O\"] span').innerText") == str(len(expected))
    tab.click('[data-element="Ti"]')
    assert shown_ids(tab) == [id for id in expected if "Ti" in by_id[id]["species_at_sites"]]
    assert tab.run("document.querySelector('[data-element=\"Ti\"]').ariaPressed") == "true"
    tab.click("#reset")
    assert shown_ids(tab) == ranked[:40]


def test_a_click_shows_the_structure_with_its_ellipsoid(tab, ranked):
    assert ranked[0] == "cubic-perovskite"
    tab.click(f'.crystals tr[data-id="{ranked[5]}"]')
    tab.click('.crystals tr[data-id="cubic-perovskite"]')
    shown = json.loads(tab.run("document.getElementById('stage').dataset.shown"))
    # 8 Sr at the corners, Ti at the center, 6 O on the faces.
    assert shown == {"id": "cubic-perovskite", "target": "total", "ellipsoid": True, "atoms": 15}
    assert stage_colors(tab) > 100
    assert "SrTiO3" in tab.run("document.getElementById('panel').innerText").replace("\n", "")
    assert "300.00" in tab.run("document.getElementById('tensor').innerText")
    tab.click('[data-target="electronic"]')
    assert "mean electronic" in tab.run("document.getElementById('tensor').innerText")
    assert json.loads(tab.run("document.getElementById('stage').dataset.shown"))["target"] == "electronic"
    tab.run("[...document.querySelectorAll('#panel label')].find((label) => label.innerText.startsWith('2')).click()")
    # 27 Sr, 8 Ti, 3 x 12 O.
    assert json.loads(tab.run("document.getElementById('stage').dataset.shown"))["atoms"] == 71
    with_ellipsoid = stage_colors(tab)
    tab.run("[...document.querySelectorAll('#panel label')].find((label) => label.innerText == 'ellipsoid').click()")
    assert json.loads(tab.run("document.getElementById('stage').dataset.shown"))["ellipsoid"] is False
    assert stage_colors(tab) != with_ellipsoid


@pytest.mark.parametrize("width", [1440, 390])
def test_every_crystal_stands_upright_and_inside_of_the_stage(tab, page, ranked, width):
    """Along z, where the cell of a CIF has c, is up, also after other crystals; the corners of the cell are visible."""
    tab.resize(width, 900)
    tab.open(page)
    for id in (ranked[4], ranked[9], "cubic-perovskite"):
        tab.click(f'.crystals tr[data-id="{id}"]')
        low, high = tab.run("panel.view.viewer.modelToScreen([{x: 0, y: 0, z: 0}, {x: 0, y: 0, z: 1}])")
        assert high["x"] == pytest.approx(low["x"], abs=1)
        assert high["y"] < low["y"] - 5
        corners = "[0, 1].flatMap((u) => [0, 1].flatMap((v) => [0, 1].map((w) => point(combine([u, v, w], lattice)))))"
        lattice = f"const lattice = crystalsById.get('{id}').structure.lattice"
        places = tab.run(f"(() => {{ {lattice}; return panel.view.viewer.modelToScreen({corners}); }})()")
        box = tab.run("document.getElementById('stage').getBoundingClientRect().toJSON()")
        top = tab.run("window.scrollY") + box["top"]
        spread = []
        for axis, start, size in (("x", box["left"], box["width"]), ("y", top, box["height"])):
            values = [place[axis] - start for place in places]
            assert min(values) > 0
            assert max(values) < size
            assert (min(values) + max(values)) / 2 == pytest.approx(size / 2, abs=3)
            spread.append((max(values) - min(values)) / size)
        assert max(spread) > 0.6


def test_the_ellipsoid_is_that_of_the_tensor(tab):
    """Its points x fulfil |T^-1 x| = 1 for a tensor T with the semi-axes as principal values; normals point outward."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    sizes, center = np.array([3.0, 1.0, 2.0]), np.array([1.0, -2.0, 0.5])
    call = f"ellipsoidMesh({center.tolist()}, {axes.tolist()}, {sizes.tolist()})"
    mesh = tab.run(f"(() => {{ const m = {call}; return m; }})()")
    points = np.array([[v["x"], v["y"], v["z"]] for v in mesh["vertexArr"]]) - center
    normals = np.array([[v["x"], v["y"], v["z"]] for v in mesh["normalArr"]])
    tensor = axes.T @ np.diag(sizes) @ axes
    assert np.allclose(np.linalg.norm(points @ np.linalg.inv(tensor), axis=1), 1.0)
    gradient = points @ np.linalg.inv(tensor @ tensor)
    assert np.allclose(normals, gradient / np.linalg.norm(gradient, axis=1, keepdims=True))
    triangles = points[np.array(mesh["faceArr"]).reshape(-1, 3)]
    # The triangles close the surface: their volume is nearly that of the ellipsoid, 4/3 pi a b c.
    assert np.abs(np.linalg.det(triangles)).sum() / 6 == pytest.approx(4 / 3 * np.pi * sizes.prod(), rel=0.02)


def test_atoms_and_bonds_of_a_skew_cell(tab):
    """Rock salt in its primitive cell, with unwrapped positions: each drawn atom lies in the cell, 8 corners + 1."""
    lattice = (2.8 * (np.ones((3, 3)) - np.eye(3))).tolist()
    structure = {"lattice": lattice, "species": ["Na", "Cl"], "positions": [[5.6, 5.6, 0.0], [2.8, 2.8, 2.8]]}
    atoms = tab.run(f"drawnAtoms({json.dumps(structure)}, 1)")
    fractional = np.array([atom["place"] for atom in atoms]) @ np.linalg.inv(lattice)
    assert [atom["symbol"] for atom in atoms].count("Na") == 8
    assert [atom["symbol"] for atom in atoms].count("Cl") == 1
    assert fractional.min() > -1e-6
    assert fractional.max() < 1 + 1e-6
    tab.run("content.radii.Na = 1.66; content.radii.Cl = 1.02")
    bonds = tab.run(f"findBonds(drawnAtoms({json.dumps(structure)}, 1))")
    distances = np.linalg.norm(fractional @ lattice - (fractional @ lattice)[-1], axis=1)
    expected = [k for k in range(8) if distances[k] < 1.18 * (1.66 + 1.02)]
    assert sorted(bonds[8]) == expected
    assert len(expected) == 6


def test_texts_from_files_stay_texts(tab):
    tab.run(f"select({json.dumps(HOSTILE_ID)})")
    panel = tab.run("document.getElementById('panel').textContent")
    assert HOSTILE_ID in panel
    assert HOSTILE_TEXT in panel
    assert "<b>Ti</b>O2" in panel
    assert HOSTILE_TEXT in tab.run("document.getElementById('rejected').textContent")
    assert "<i>mine" in tab.run("document.querySelector('h1').textContent")
    for tag in ("img", "#main b b", "a[href^=javascript]", "h1 i"):
        assert tab.run(f"document.querySelectorAll('{tag}').length") == 0


def test_a_point_of_the_figure_selects_its_crystal(tab, ranked):
    tab.run(f"document.getElementById('plot-merit').emit('plotly_click', {{points: [{{customdata: '{ranked[7]}'}}]}})")
    assert tab.run("document.querySelector('.crystals tr.selected').dataset.id") == ranked[7]


def test_rejected_crystals_are_filtered_by_reason_and_text(tab, rejected):
    def listed():
        return tab.run("document.querySelectorAll('#rejected tbody tr').length")

    assert listed() == len(rejected)
    tab.click("#rejected .group")
    assert listed() == 30
    tab.type("#rejected-text", "r-12.cif")
    assert listed() == 1
    tab.click("#rejected .group")
    tab.type("#rejected-text", "Xe is unknown")
    assert listed() == 5


def test_themes_and_narrow_screens(tab, page):
    def background():
        return tab.run("getComputedStyle(document.body).backgroundColor")

    light = background()
    tab.click("#theme")
    assert background() != light
    assert tab.run("document.querySelector('#plot-merit .xtitle').style.fill") == "rgb(231, 235, 241)"
    tab.click("#theme")
    assert background() == light
    for width in (1440, 1000, 360):
        tab.resize(width, 800, dark=True)
        tab.open(page)
        assert background() != light
        assert tab.run("document.documentElement.scrollWidth") <= width
    # The panel opens when a crystal is chosen, and can be closed.
    assert tab.run("document.getElementById('panel').hidden")
    tab.click(".crystals tbody tr")
    assert not tab.run("document.getElementById('panel').hidden")
    assert stage_colors(tab) > 100
    tab.click("#panel .close")
    assert tab.run("document.getElementById('panel').hidden")


def test_the_structure_is_saved_as_poscar(tab, tmp_path, rows):
    tab.send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    chosen = next(row for row in rows if row["id"] in shown_ids(tab) and len(set(row["species_at_sites"])) > 2)
    tab.click(f'.crystals tr[data-id="{chosen["id"]}"]')
    tab.click("#save")
    path = tmp_path / f"{chosen['id']}.vasp"
    until = time.monotonic() + 20
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.05)
    (saved,) = read_crystals(path)
    assert np.allclose(saved.cell, chosen["lattice_vectors"], atol=1e-6)
    # Atoms are listed element by element, in the order in which elements first occur.
    species, places = np.array(chosen["species_at_sites"]), np.array(chosen["cartesian_site_positions"])
    order = [k for symbol in dict.fromkeys(species.tolist()) for k in np.flatnonzero(species == symbol).tolist()]
    assert [SYMBOLS[z] for z in saved.atomic_numbers] == species[order].tolist()
    assert np.allclose(saved.positions, places[order], atol=1e-6)


@pytest.mark.parametrize("count", [1, 3])
def test_the_page_of_a_prediction(started, tmp_path, rows, count):
    crystals, entries = [], []
    numbers_of = {symbol: z for z, symbol in enumerate(SYMBOLS)}
    for row in rows[:count]:
        atoms = np.array([numbers_of[symbol] for symbol in row["species_at_sites"]])
        places = np.array(row["cartesian_site_positions"])
        crystals.append(Crystal(row["id"], atoms, places, np.array(row["lattice_vectors"])))
        tensor = {"tensor": (4.0 * np.eye(3)).tolist(), "mean_error": 0.5, "tensor_error": 0.3}
        entries.append(
            {name: row[name] for name in ("id", "source", "formula", "crystal_system", "num_atoms")}
            | {"warnings": [HOSTILE_TEXT], "warning_codes": ["gap"], "tensors": {"total": tensor}}
        )
    prediction = {"model": "dielectric", "crystals": entries}
    prediction["rejected"] = [{"id": "b", "source": "b.cif", "reason": HOSTILE_TEXT}]
    path = tmp_path / "predicted.html"
    write_prediction_page(path, prediction, crystals, "dtnn-fast predict x.cif")
    assert path.stat().st_size < 1e6
    started.resize(1440, 1000)
    started.errors.clear()
    started.open(path)
    assert json.loads(started.run("document.getElementById('stage').dataset.shown"))["id"] == rows[0]["id"]
    assert stage_colors(started) > 100
    panel = started.run("document.getElementById('panel').textContent")
    assert "4.00 ± 0.50" in panel
    assert HOSTILE_TEXT in panel
    assert started.run("document.querySelectorAll('.crystals').length") == (0 if count == 1 else 1)
    assert "dtnn-fast predict x.cif" in started.run("document.getElementById('provenance').textContent")
    assert HOSTILE_TEXT in started.run("document.getElementById('rejected').textContent")
    assert started.run("window.hacked") is None
    assert started.errors == []
