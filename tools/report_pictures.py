# SPDX-License-Identifier: MIT
"""Take pictures of a page of `dtnn-fast report` or `predict --html`, for docs and to look at them.

Run it as ``python tools/report_pictures.py PAGE FOLDER [--dark] [--width PIXELS]``. It needs Chromium or Chrome.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "python_tests"))
import browser

_HEIGHT = 900
_QUALITY = 88


def main() -> None:
    """Write a JPEG of each section of the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dark", action="store_true", help="in the dark theme")
    parser.add_argument("--width", type=int, default=1440, help="of the window, in pixels")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with browser.open_tab() as tab:
        tab.resize(options.width, _HEIGHT, options.dark)
        tab.open(options.page)
        for name in tab.run("[...document.querySelectorAll('section')].map((section) => section.id)"):
            place = 0 if name in ("overview", "best") else f"document.getElementById('{name}').offsetTop - 60"
            tab.run(f"window.scrollTo(0, {place}); new Promise((done) => setTimeout(done, 800))")
            path = options.folder / f"{options.page.stem}_{name}.jpg"
            path.write_bytes(tab.screenshot(quality=_QUALITY))
            print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
        for error in tab.errors:
            print(f"error on the page: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
