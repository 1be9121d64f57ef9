"""A picture of the top of a report or another page, taken in the system's Chromium.

python experiments/picture.py report.html report.png [HEIGHT]
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1180, 1560  # unless another height is given


def main() -> None:
    source, target = map(Path, sys.argv[1:3])
    height = int(sys.argv[3]) if len(sys.argv) > 3 else HEIGHT
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        sys.exit("no Chromium on this machine; install the system's package chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": height})
        page.goto(source.resolve().as_uri())
        page.screenshot(path=target)
        browser.close()
    print(f"{target} shows the first {height} pixels of {source}")


if __name__ == "__main__":
    main()
