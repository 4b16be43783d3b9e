"""errors.html in a real browser: a reader sorts, fades and switches the boxes, by mouse and by keyboard."""

import json

import numpy as np
import pytest
from chromium import BROWSER
from PIL import Image

from medaug_cli.evaluation.folder import Request
from medaug_cli.evaluation.from_files import evaluate_files
from medaug_cli.metrics.report import Analysis

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
SIZES = (12, 30, 20, 40)  # of the lesions, one a picture
NAME = "<b>one</b>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Evaluate a detector that finds one lesion of four, with two false alarms, and another one that finds two."""
    here = tmp_path_factory.mktemp("gallery")
    truth = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 64, "patient": f"p{i}"} for i in range(4)],
        "categories": [{"id": 1, "name": "lesion"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [4, 4, size, size]} for i, size in enumerate(SIZES)
        ],
    }
    row = {"category_id": 1}
    hit = row | {"image_id": 1, "bbox": [4, 4, 30, 30], "score": 0.9}
    false = [row | {"image_id": i, "bbox": [50, 50, 8 - i, 8], "score": 0.3 + i / 10} for i in (0, 2)]
    near = row | {"image_id": 3, "bbox": [4, 4, 40, 10], "score": 0.7}
    for name, content in (("truth", truth), ("one", [hit, *false, near]), ("two", [hit | {"score": 0.5}])):
        (here / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    for i in range(3):  # the last picture is missing
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (64, 64)).astype(np.uint8)).save(here / f"{i}.png")
    request = Request(here / "out", Analysis(resamples=100, coco=True), overlays=0)
    evaluate_files(here / "truth.json", {NAME: [here / "one.json"], "two": [here / "two.json"]}, request, here)
    return here / "out"


@pytest.fixture
def page(folder, browser):
    """Open the page; fail on a script error or a request to anywhere."""
    opened = browser.new_page(viewport={"width": 1200, "height": 800})
    wrong = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda request: wrong.append(request.url) if request.url.startswith("http") else None)
    opened.goto((folder / "errors.html").as_uri())
    yield opened
    opened.close()
    assert wrong == []


@pytest.mark.parametrize("width", [1200, 1600])
def test_no_table_of_the_results_is_cut_off(folder, browser, width):
    opened = browser.new_page(viewport={"width": width, "height": 800})
    opened.goto((folder / "evaluation.html").as_uri())
    cut = opened.evaluate("[...document.querySelectorAll('.wide')].map(one => one.scrollWidth - one.clientWidth)")
    beyond = opened.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    opened.close()
    assert cut
    assert max(*cut, beyond) <= 0


def heads(page):
    return [text.strip() for text in page.locator(".card b").all_text_contents()]


def sizes(page):
    return page.evaluate("shown.map(mistake => mistake.size)")


def test_every_mistake_has_a_card(page):
    assert page.locator(".card").count() == 9  # three misses of each, three false alarms of the first
    assert "6 missed, 3 false alarms shown" in page.locator("#counter").inner_text()
    assert heads(page).count("false alarm: poorly localised") == 1
    assert heads(page).count("false alarm: background") == 2
    assert heads(page).count("missed, found too loosely") == 1
    assert "<b>one" in page.locator("#detector").inner_text()


def test_boxes_lie_on_the_picture(page):
    page.locator("#kind").select_option("missed")
    page.locator("#sort").select_option("-size")
    card = page.locator(".card").first
    card.scroll_into_view_if_needed()
    assert card.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    frame, box = card.locator(".picture").bounding_box(), card.locator("i.focus").bounding_box()
    assert (box["x"] - frame["x"]) / frame["width"] == pytest.approx(4 / 64, abs=0.01)
    assert box["width"] / frame["width"] == pytest.approx(12 / 64, abs=0.01)
    assert card.locator("i.focus").get_attribute("class") == "missed focus"


def test_cards_are_sorted_and_chosen(page):
    page.locator("#sort").select_option("size")
    assert sizes(page) == sorted(sizes(page), reverse=True)
    page.locator("#sort").select_option("-size")
    assert sizes(page) == sorted(sizes(page))
    page.locator("#sort").select_option("score")
    page.locator("#kind").select_option("false alarm")
    assert page.evaluate("shown.map(mistake => mistake.score)") == pytest.approx([0.7, 0.5, 0.3])
    page.locator("#sort").select_option("-score")
    assert page.evaluate("shown.map(mistake => mistake.score)") == pytest.approx([0.3, 0.5, 0.7])
    page.locator("#kind").select_option("= background")
    assert page.locator(".card").count() == 2
    page.locator("#detector").select_option("two")
    assert page.locator(".card").count() == 0
    page.locator("#kind").select_option("missed")
    assert page.locator(".card").count() == 3


def opacity(page):
    return float(page.locator(".card i").first.evaluate("box => getComputedStyle(box).opacity"))


def test_boxes_fade_and_can_be_switched_off(page):
    assert opacity(page) == 1
    page.locator("#alpha").fill("40")
    assert opacity(page) == pytest.approx(0.4)
    page.locator("#boxes").click()
    assert opacity(page) == 0
    assert page.locator("#boxes").get_attribute("aria-pressed") == "false"
    page.keyboard.press("b")
    assert opacity(page) == pytest.approx(0.4)
    page.keyboard.press("-")
    assert opacity(page) == pytest.approx(0.3)
    assert page.locator("#percent").inner_text() == "30 %"


def test_boxes_are_outlines_or_filled(page):
    def background():
        return page.locator(".card i").first.evaluate("box => getComputedStyle(box).backgroundColor")

    plain = background()
    page.locator("#fill").click()
    assert page.locator("#fill").get_attribute("aria-pressed") == "true"
    filled = background()
    assert filled != plain
    page.keyboard.press("f")
    assert background() == plain


def test_a_reader_needs_no_mouse(page):
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    second = page.evaluate("shown.findIndex(mistake => mistake.card === document.activeElement)")
    assert second == 1
    page.keyboard.press("Enter")
    assert page.locator("#large").is_visible()
    assert page.locator("#caption").inner_text().startswith("2 of 9")
    page.keyboard.press("ArrowRight")
    assert page.locator("#caption").inner_text().startswith("3 of 9")
    page.keyboard.press("b")
    assert page.locator("#large i").first.evaluate("box => getComputedStyle(box).opacity") == "0"
    page.keyboard.press("Escape")
    assert not page.locator("#large").is_visible()
    page.wait_for_function("shown[2].card === document.activeElement")  # the close event comes a moment later


def test_a_picture_that_is_missing_leaves_its_boxes(page):
    page.locator("#kind").select_option("missed")
    page.locator("#sort").select_option("size")
    card = page.locator(".card").first  # the lesion of 40 pixels
    assert card.locator("img").count() == 0
    assert card.locator("i").count() >= 1
    assert card.locator(".picture").bounding_box()["height"] > 50
