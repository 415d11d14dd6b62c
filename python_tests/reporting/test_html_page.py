# SPDX-License-Identifier: MIT
"""Texts never become markup, and third-party files are as published."""

import json
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtnn_fast.files import sha256_of
from dtnn_fast.reporting import html_page
from dtnn_fast.reporting.html_page import render_page, to_script_json

SMALL = {
    "kind": "prediction",
    "title": "</title><script>1</script>",
    "figures": [],
    "crystals": [],
    "targets": [],
}
TEXTS = st.text() | st.sampled_from(
    ["</script>", "<!--", "<!-- insert scripts -->", "\u2028", "\ud800", "]]>", "<SCRIPT"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
)


@given(VALUES)
def test_json_in_a_script_is_what_was_written_and_has_no_markup(value):
    text = to_script_json(value)
    assert not set("<>&\u2028\u2029") & set(text)
    expected = json.loads(json.dumps(value).encode().decode())
    assert json.loads(text) == json.loads(json.dumps(expected, ensure_ascii=False).encode("utf-8", "replace"))


def test_numbers_that_are_not_finite_become_null():
    assert json.loads(to_script_json([float("nan"), float("inf"), 1.23456789e-3])) == [None, None, 1.234568e-3]


def test_the_title_is_escaped_and_places_in_texts_are_no_places():
    page = render_page({**SMALL, "crystals": ["<!-- insert scripts -->"]})
    assert "<title>&lt;/title&gt;&lt;script&gt;1&lt;/script&gt;</title>" in page
    # Each script ends where it should: as many ends as beginnings of the template's own elements.
    assert len(re.findall("</script", page, re.IGNORECASE)) == 3 + len(html_page.SCRIPTS)
    assert "<!-- insert" not in page


def test_the_page_forbids_requests():
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', render_page(SMALL))
    assert policy is not None
    assert policy[1].startswith("default-src 'none'")
    assert "http" not in policy[1]
    assert "connect-src" not in policy[1]


def test_third_party_files_are_as_published():
    assert sha256_of(html_page.THIRD_PARTY / "3Dmol-min.js") == html_page.VIEWER_SHA256
    licence = (html_page.THIRD_PARTY / "3Dmol-LICENSE.txt").read_text(encoding="utf-8")
    assert "BSD-3-Clause" in licence
    assert "Three.js" in licence
    assert "University of Pittsburgh" in render_page(SMALL)


def test_all_scripts_are_used():
    assert {path.name for path in html_page.PAGE_FOLDER.glob("*.js")} == set(html_page.SCRIPTS)


@pytest.mark.parametrize("missing", ["plotly.offline", "plotly"])
def test_missing_plotly_says_what_to_install(monkeypatch, missing):
    # Submodules too, which another test may have imported.
    for name in [missing, *(name for name in sys.modules if name.startswith(f"{missing}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"dtnn-fast\[report\]"):
        render_page({**SMALL, "figures": [{}]})
