"""The page of a map: every dot shows its image, groups can be hidden, three dimensions turn."""

import json

import numpy as np
import pytest
from chromium import BROWSER
from conftest import make_records, make_store

from medaug_cli.embedding import MapOptions, draw_map
from medaug_cli.store import GeneratorOrigin, StoreInfo, StoreWriter

ORIGIN = GeneratorOrigin(name="g", version="1", hash="h", training_store="t", training_patients=[])
INFO = StoreInfo(tool_version="0", command="test", settings={}, seed=0, label_names=["lesion"], generators=[ORIGIN])


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("map")
    make_store(folder / "real.h5", n=60, seed=1)
    writer = StoreWriter(folder / "synthetic.h5", INFO, {})
    for i, record in enumerate(make_records(30, seed=2)):
        record.source, record.split, record.patient, record.id = "g", "train", "synthetic-g", f"s{i:03d}"
        writer.add(i, [record])
    writer.publish()
    reports = {
        dims: draw_map(
            MapOptions(
                folder / "real.h5", [folder / "synthetic.h5"], folder / f"map{dims}.png", dims=dims, perplexity=8,
                colour="patient",
            )
        )
        for dims in (2, 3)
    }  # fmt: skip
    return folder, reports


def page_data(path):
    text = path.read_text(encoding="utf-8")
    start = text.index('<script id="data" type="application/json">') + 42
    return json.loads(text[start : text.index("</script>", start)])


def test_the_page_has_every_point_and_its_groups(mapped):
    folder, reports = mapped
    data = page_data(folder / "map2.html")
    assert data["ids"] == [point.id for point in reports[2].points]
    assert np.allclose(data["at"], [point.at for point in reports[2].points], atol=2e-3)
    assert data["by"] == "patient"
    assert set(data["groups"]) == {"set", "class", "patient", "source"}
    assert set(data["groups"]["source"]) == {"real", "g"}
    assert data["groups"]["patient"].count("synthetic-g") == 30


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_dot_shows_its_image_and_three_dimensions_turn(mapped, browser):
    folder, reports = mapped
    page = browser.new_page(viewport={"width": 1000, "height": 700})
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto((folder / "map3.html").as_uri())
    page.wait_for_function("places.length > 0 && sheet.complete")
    box = page.locator("#map").bounding_box()
    x, y, _ = page.evaluate("places[3]")
    page.mouse.move(box["x"] + x, box["y"] + y)
    page.wait_for_function("near >= 0")
    shown = page.evaluate("near")
    assert reports[3].points[shown].id in page.locator("#said").inner_text()
    assert page.evaluate("$('near').getContext('2d').getImageData(96, 96, 1, 1).data[3]") == 255
    before = page.evaluate("places.map(p => p[0])")
    page.mouse.down()
    page.mouse.move(box["x"] + x + 80, box["y"] + y, steps=3)
    page.mouse.up()
    assert page.evaluate("places.map(p => p[0])") != before
    page.locator("#by").select_option("set")
    assert page.locator("#groups li").count() == len({point.set for point in reports[3].points})
    page.locator("#groups li").first.click()
    assert page.evaluate("hidden.size") == 1
    page.close()
    assert wrong == []
