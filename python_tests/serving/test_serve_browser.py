# SPDX-License-Identifier: MIT
"""The page of the service in headless Chromium: files, texts and examples give tensors; what is wrong is said."""

import csv
import io
import json
import time

import browser
import numpy as np
import pytest
from PIL import Image
from serving_processes import ROCK_SALT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser.find_chromium() is None, reason="no chromium or chrome is installed"),
]

HOSTILE = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>"
CIF = (
    "data_NaCl _cell_length_a 5.6 _cell_length_b 5.6 _cell_length_c 5.6 _cell_angle_alpha 90 _cell_angle_beta 90\n"
    "_cell_angle_gamma 90 _space_group_IT_number 225 loop_ _atom_site_label _atom_site_fract_x _atom_site_fract_y\n"
    "_atom_site_fract_z Na 0 0 0 Cl 0.5 0.5 0.5\n"
)


@pytest.fixture(scope="module")
def started_tab():
    with browser.open_tab(is_local=True) as tab:
        yield tab


@pytest.fixture
def tab(started_tab, server):
    """The open page; afterwards nothing went wrong, and nobody but the service was asked."""
    tab = started_tab
    tab.requests.clear()
    tab.resize(1280, 900)
    tab.open_url(server.url)
    tab.errors.clear()
    yield tab
    assert tab.errors == []
    assert {url for url in tab.requests if not url.startswith(("data:", "blob:"))} <= {
        server.url,
        f"{server.url}v1/predict",
    }
    assert tab.run("window.hacked") is None


def drop(tab, *files):
    """Drop files on the page: name and text each, and how often the text is repeated."""
    tab.run(
        f"""(() => {{
          const data = new DataTransfer();
          for (const [name, text, times] of {json.dumps(files)})
            data.items.add(new File([text.repeat(times ?? 1)], name));
          document.getElementById("drop").dispatchEvent(
            new DragEvent("drop", {{ dataTransfer: data, bubbles: true, cancelable: true }}));
        }})()"""
    )


def shown(tab, selector):
    return tab.run(f"document.querySelector({json.dumps(selector)})?.textContent ?? null")


def wait_for_formula(tab, formula):
    tab.wait_for(f"document.querySelector('#panel h3')?.textContent === {json.dumps(formula)}")


def problem(tab):
    tab.wait_for("!document.getElementById('problem').hidden")
    return shown(tab, "#problem")


def test_a_dropped_file_gives_its_tensor(tab, server):
    """Numbers, error bars, the drawn ellipsoid, neighbors and charges are those of the REST answer."""
    drop(tab, ("mine.cif", CIF))
    wait_for_formula(tab, "NaCl")
    (result,) = server.predict({"name": "mine.cif", "text": CIF}, include=["neighbors", "born_charges", "refined"])
    total = result["tensors"]["total"]
    cells = tab.run(
        "[...document.querySelectorAll('#tensor .matrix')[0].querySelectorAll('td')].map(c => c.textContent)"
    )
    assert [float(cell) for cell in cells] == pytest.approx(np.array(total["tensor"]).ravel(), abs=0.005)
    panel = shown(tab, "#panel")
    assert f"{total['mean']:.2f} ± {total['mean_error']:.2f}" in panel
    assert f"± {total['tensor_error']:.2f}" in panel
    assert "cubic · space group\u00a0225 · 8\u00a0atoms" in panel
    assert f"refractive index{result['refractive_index']:.2f}" in panel
    refined = result["refined"]
    assert f"total, lattice dynamics{refined['total_mean']:.2f} ± {refined['total_mean_error']:.2f}" in panel
    drawn = json.loads(tab.run("document.getElementById('stage').dataset.shown"))
    assert (drawn["target"], drawn["ellipsoid"]) == ("total", True)
    box = tab.run("document.getElementById('stage').getBoundingClientRect().toJSON()")
    with Image.open(io.BytesIO(tab.screenshot())) as picture:
        stage = picture.convert("RGB").crop(tuple(int(box[side]) for side in ("left", "top", "right", "bottom")))
        assert len(stage.getcolors(1 << 20)) > 100
    neighbors = shown(tab, "#neighbors")
    assert all(neighbor["id"] in neighbors for neighbor in result["neighbors"])
    charge = np.trace(result["born_charges"][0]) / 3
    assert f"1 Na{charge:.2f}" in shown(tab, "#charges")
    assert shown(tab, "#progress") == "1\u00a0crystal predicted."


def test_files_are_chosen_with_the_keyboard_alone(tab, tmp_path):
    """The field takes files; what is reached by Tab has a name for screen readers."""
    path = tmp_path / "POSCAR"
    path.write_text(ROCK_SALT)
    root = tab.send("DOM.getDocument")["root"]["nodeId"]
    field = tab.send("DOM.querySelector", nodeId=root, selector="#files")["nodeId"]
    tab.send("DOM.setFileInputFiles", nodeId=field, files=[str(path)])
    wait_for_formula(tab, "NaCl")
    # The results get the focus, so that the next Tab goes into them.
    assert tab.run("document.activeElement.id") == "results"
    unnamed = tab.run(
        """[...document.querySelectorAll("button, input, select, textarea, a[href], [tabindex='0']")]
          .filter((element) => !(element.labels?.length || element.textContent.trim() || element.ariaLabel))
          .map((element) => element.outerHTML)"""
    )
    assert unnamed == []
    reached = set()
    tab.run("document.activeElement.blur()")
    for _ in range(40):
        for kind in ("rawKeyDown", "keyUp"):
            tab.send("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        reached.add(tab.run("document.activeElement.id || document.activeElement.textContent"))
    assert {"files", "text", "format", "predict", "save-json", "save-csv", "save"} <= reached
    # Enter on the focused button of an example.
    tab.run("document.querySelectorAll('#examples button')[3].focus()")
    for kind in ("keyDown", "keyUp"):
        tab.send("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    wait_for_formula(tab, "GaN")


def test_pasted_text_and_examples(tab):
    tab.type("#text", CIF)
    tab.click("#predict")
    wait_for_formula(tab, "NaCl")
    tab.click("#examples button:nth-child(2)")
    wait_for_formula(tab, "TiO2")
    assert tab.run("document.querySelectorAll('#examples button').length") == 7
    assert tab.run("document.getElementById('problem').hidden")


def test_all_examples_are_predicted_without_a_warning(server, tab):
    texts = tab.run("content.examples.map((example) => example.text)")
    results = server.predict(*({"text": text} for text in texts))
    assert [result["formula"] for result in results] == tab.run("content.examples.map((example) => example.formula)")
    assert all(result["warnings"] == [] for result in results)


def test_errors_are_said_in_words(tab):
    tab.click("#predict")
    assert "Paste the text" in problem(tab)
    drop(tab, ("broken.cif", "data_x\n_cell_length_a 5"))
    tab.wait_for("document.getElementById('problem').textContent.includes('broken.cif')")
    assert "truncated" in problem(tab)
    drop(tab, ("a.cif.gz", "nothing"))
    tab.wait_for("document.getElementById('problem').textContent.includes('unpack it first')")
    drop(tab, ("large.cif", "a", 5 << 20))
    tab.wait_for("document.getElementById('problem').textContent.includes('Up to 4.0 MB at once, got 5.0 MB')")
    drop(tab, *((f"{k}.cif", "a") for k in range(101)))
    tab.wait_for("document.getElementById('problem').textContent.includes('Up to 100 at once, got 101')")
    tab.type("#text", CIF)
    tab.run("document.getElementById('format').value = 'poscar'")
    tab.click("#predict")
    tab.wait_for("document.getElementById('problem').textContent.includes('it looks like CIF')")
    # The next prediction removes the message.
    drop(tab, ("NaCl.cif", CIF))
    wait_for_formula(tab, "NaCl")
    assert tab.run("document.getElementById('problem').hidden")


def test_a_service_that_is_gone_is_said(tab):
    tab.run("window.fetch = () => Promise.reject(new TypeError('Failed to fetch'))")
    drop(tab, ("NaCl.cif", CIF))
    assert "does not answer" in problem(tab)
    assert not tab.run("document.getElementById('predict').disabled")


def test_several_files_give_a_table_and_downloads(tab, tmp_path):
    barium = ROCK_SALT.replace("Na Cl", "Ba O")
    drop(
        tab,
        ("a.vasp", ROCK_SALT),
        ("=2+3.vasp", barium),
        ("a.vasp", ROCK_SALT),
        ("bad.cif", "data_x\n_cell_length_a 5"),
    )
    tab.wait_for("document.querySelectorAll('.crystals tbody tr').length === 3")
    assert "1\u00a0crystal has no prediction" in problem(tab)
    assert "bad.cif" in problem(tab)
    ids = tab.run("[...document.querySelectorAll('.crystals tbody tr')].map(row => row.dataset.id)")
    assert ids == ["a", "=2+3", "a#2"]
    tab.click(".crystals tbody tr:nth-child(2)")
    wait_for_formula(tab, "BaO")
    assert "Ba" in shown(tab, "#charges")
    drawn = json.loads(tab.run("document.getElementById('stage').dataset.shown"))
    assert drawn["id"] == "=2+3"
    tab.send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    for button, name in (("#save-csv", "dielectric.csv"), ("#save-json", "dielectric.json")):
        tab.click(button)
        until = time.monotonic() + 20
        while not (tmp_path / name).exists() and time.monotonic() < until:
            time.sleep(0.05)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "dielectric.csv").read_text(encoding="utf-8"))))
    saved = json.loads((tmp_path / "dielectric.json").read_text(encoding="utf-8"))
    assert [row["formula"] for row in rows] == ["NaCl", "BaO", "NaCl"]
    assert rows[1]["id"] == "'=2+3"  # no formula for a spreadsheet
    assert float(rows[1]["total_xx"]) == saved["results"][1]["tensors"]["total"]["tensor"][0][0]
    assert saved["rejected"] == 1
    # Back to a single crystal.
    drop(tab, ("NaCl.cif", CIF))
    tab.wait_for("document.querySelectorAll('.crystals').length === 0")
    assert json.loads(tab.run("document.getElementById('stage').dataset.shown"))["id"] == "NaCl"


def test_texts_of_files_stay_texts(tab):
    document = {
        "id": HOSTILE,
        "lattice_vectors": [[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]],
        "species_at_sites": ["Na", "Cl"],
        "cartesian_site_positions": [[0, 0, 0], [2.8, 2.8, 2.8]],
    }
    drop(
        tab,
        (f"{HOSTILE.replace('/', '')}.json", json.dumps(document)),
        (f"{HOSTILE.replace('/', '')}.cif", f"data_{HOSTILE}"),
    )
    wait_for_formula(tab, "NaCl")
    assert HOSTILE in shown(tab, "#panel")
    assert "onerror" in problem(tab)
    assert tab.run("document.querySelectorAll('img, main script').length") == 0


def test_scripts_in_the_page_would_not_run(tab):
    """Even markup that came into the page: the policy allows our scripts only."""
    tab.run("document.body.insertAdjacentHTML('beforeend', '<img src=\"data:,\" onerror=\"window.hacked = 1\">')")
    tab.run(
        "{ const s = document.createElement('script'); s.textContent = 'window.hacked = 1'; document.body.append(s); }"
    )
    tab.wait_for("true")
    time.sleep(0.2)
    refused = [text for text in tab.errors if "Content Security Policy" in text]
    assert len(refused) >= 2
    tab.errors.clear()
    assert tab.run("window.hacked") is None
    assert tab.run("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')") == "refused"
    assert any("connect" in text for text in tab.errors)
    tab.errors.clear()
    tab.requests.clear()


@pytest.mark.parametrize("width", [1000, 390, 320])
def test_narrow_screens(tab, server, width):
    tab.resize(width, 800, dark=True)
    tab.open_url(server.url)
    tab.click("#examples button:nth-child(5)")
    wait_for_formula(tab, "LiNbO3")
    assert tab.run("document.documentElement.scrollWidth") <= width
    drop(tab, ("a.vasp", ROCK_SALT), ("b.vasp", ROCK_SALT))
    tab.wait_for("document.querySelectorAll('.crystals tbody tr').length === 2")
    assert tab.run("document.documentElement.scrollWidth") <= width
    # The panel opens when a crystal is chosen.
    assert tab.run("document.getElementById('panel').hidden")
    tab.click(".crystals tbody tr:nth-child(2)")
    assert not tab.run("document.getElementById('panel').hidden")
    assert json.loads(tab.run("document.getElementById('stage').dataset.shown"))["id"] == "b"
    tab.click("#panel .close")
    assert tab.run("document.getElementById('panel').hidden")
