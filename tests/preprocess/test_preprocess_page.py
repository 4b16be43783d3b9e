"""The report of pre-processing in a real browser: its pictures load, nothing is fetched, and it says what was done."""

import shutil

import numpy as np
import pytest
from chromium import BROWSER
from drawn_slices import as_csv, draw
from PIL import Image

from medaug_cli.preprocess.pipeline import PreprocessOptions, preprocess
from medaug_cli.preprocess.recipe import Recipe

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


def test_the_page_shows_doubtful_slices_and_why(tmp_path, browser):
    scans = draw(tmp_path)
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(scans / "e.png")
    boxes = as_csv(tmp_path)
    shutil.copy(scans / "a.png", scans / "f.png")
    with boxes.open("a", encoding="utf-8") as file:
        file.write("\ne.png,5,5,9,9,lesion,p4\nf.png,8,10,20,30,lesion,p5")
    (scans / "b.png").write_bytes(b"no picture")
    store = preprocess(PreprocessOptions(scans, tmp_path / "real.h5", boxes, recipe=Recipe(32), keep_going=True))
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: wrong.append(request.url) if request.url.startswith("http") else None)
    page.goto((tmp_path / "preprocess.html").as_uri())
    pictures = page.locator(".cards img")
    assert 0 < pictures.count() <= len(store)
    for i in range(pictures.count()):
        pictures.nth(i).scroll_into_view_if_needed()
        assert pictures.nth(i).evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    assert page.locator("svg").count() == 3  # box sides, grey values before and after
    assert "b.png" in page.locator("table").last.inner_text()
    assert "cannot be read" in page.locator("body").inner_text()
    flagged = page.locator("figure.doubtful")
    assert flagged.count() > 0
    assert all(len(text.split(":", 1)[1].strip()) > 5 for text in flagged.locator("figcaption").all_inner_texts())
    page.close()
    assert wrong == []
