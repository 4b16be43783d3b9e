"""The contact sheet in a real browser: a person looks, overrules, exports, and filter obeys."""

from dataclasses import replace

import pytest
from chromium import BROWSER
from heads import COUNT, filtered_folder, sifted

from medaug_cli.lesion_filter import FilterOptions, read_decisions, sift
from medaug_cli.store import StoreWriter, open_store

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine"),
    pytest.mark.usefixtures("few_trees"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return filtered_folder(tmp_path_factory.mktemp("filter"))


@pytest.fixture
def sheet(folder, browser, few_trees):
    """Open a fresh contact sheet; fail on a script error or a request to anywhere."""
    _, report = sifted(folder)
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: wrong.append(request.url) if request.url.startswith("http") else None)
    page.goto((folder / "filter.html").as_uri())
    yield page, report
    page.close(run_before_unload=False)
    assert wrong == []


def test_every_image_is_there_with_its_box_and_reason(sheet):
    page, report = sheet
    assert page.locator(".card").count() == len(report.images) == 3 * COUNT
    kept = sum(verdict.keep for verdict in report.images)
    assert page.locator(".card[aria-pressed=true]").count() == kept
    dropped = next(verdict for verdict in report.images if not verdict.keep)
    card = page.locator(f"#card-{dropped.id}")
    assert dropped.reason in card.text_content()
    card.scroll_into_view_if_needed()
    assert card.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    picture, box = card.locator("img").bounding_box(), card.locator("i").bounding_box()
    assert picture["x"] <= box["x"] and box["x"] + box["width"] <= picture["x"] + picture["width"] + 1  # noqa: PT018
    assert f"{kept} kept" in page.locator("#counter").inner_text()


def test_overruling_by_mouse_and_keyboard_reaches_the_store(sheet, folder):
    page, report = sheet
    kept = next(verdict.id for verdict in report.images if verdict.keep)
    dropped = next(verdict.id for verdict in report.images if not verdict.keep)
    page.locator(f"#card-{kept}").click()
    page.locator(f"#card-{dropped}").focus()
    page.keyboard.press("Space")
    assert "2 changed by you" in page.locator("#counter").inner_text()
    assert "dropped by you" in page.locator(f"#card-{kept}").text_content()
    with page.expect_download() as download:
        page.locator("#export").click()
    download.value.save_as(folder / "from-the-page.csv")
    store, _ = sifted(folder, decisions=folder / "from-the-page.csv")
    assert dropped in store.ids
    assert kept not in store.ids
    assert len(open_store(folder / "kept.h5")) == sum(verdict.keep for verdict in report.images)


def test_an_id_that_no_plain_csv_holds_is_obeyed_too(folder, browser, tmp_path):
    drawn = open_store(folder / "synthetic.h5")
    odd = ['one, "two"', "three\nfour", " five ", "six"]
    writer = StoreWriter(tmp_path / "odd.h5", drawn.info, {})
    writer.add(0, [replace(drawn.record(i), id=name) for i, name in enumerate(odd)])
    writer.publish()
    sift(FilterOptions(tmp_path / "odd.h5", tmp_path / "kept.h5", by="none"))
    page = browser.new_page()
    page.goto((tmp_path / "filter.html").as_uri())
    for k in range(3):
        page.locator(".card").nth(k).click()
    with page.expect_download() as download:
        page.locator("#export").click()
    download.value.save_as(tmp_path / "decisions.csv")
    page.close(run_before_unload=False)
    decisions = read_decisions(tmp_path / "decisions.csv", open_store(tmp_path / "odd.h5"))
    assert decisions == dict.fromkeys(odd[:3], False)


def test_a_second_click_takes_it_back(sheet):
    page, report = sheet
    card = page.locator(f"#card-{report.images[0].id}")
    before = card.get_attribute("aria-pressed")
    card.click()
    assert card.get_attribute("aria-pressed") != before
    card.click()
    assert card.get_attribute("aria-pressed") == before
    assert "0 changed by you" in page.locator("#counter").inner_text()


def test_the_dropped_ones_can_be_seen_alone(sheet):
    page, report = sheet
    page.locator("#show").select_option("dropped")
    assert page.locator(".card:not(.hidden)").count() == sum(not verdict.keep for verdict in report.images)
