"""A reader's page in a real browser: answered by keyboard, closed, opened again, exported, scored."""

import json
import time

import numpy as np
import pytest
from chromium import BROWSER
from conftest import make_records
from reader_studies import stores

from medaug_cli.store import GeneratorOrigin, StoreInfo, StoreWriter
from medaug_cli.turing import ScoreOptions, StudyOptions, make_study, score_study

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    key = make_study(StudyOptions(stores(folder), folder / "study", n=8, practice=2, repeats=0.25))
    return folder, key


@pytest.fixture
def opened(browser):
    """Return a function that opens a page in a context; fail on a script error or a request to anywhere."""
    wrong, contexts = [], []

    def open_page(path, context=None, **viewport):
        if context is None:
            context = browser.new_context(viewport={"width": 1280, "height": 800, **viewport})
            contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url) if request.url.startswith("http") else None)
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def drawn(page):
    """Wait until an image is on the screen; return the mean brightness of the first canvas."""
    page.wait_for_function("!paused && views[0].image")
    return page.evaluate(
        "(() => { const c = views[0].canvas, d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        " let sum = 0; for (let i = 0; i < d.length; i += 4) sum += d[i]; return sum / (d.length / 4); })()"
    )


def respond(page, key, token):
    """Answer a question rightly by keyboard alone."""
    trial = key.readers[0].trials[token]
    image = key.images[trial.images[0]]
    page.keyboard.press("s" if image.kind == "synthetic" else "r")
    page.keyboard.press("4")
    for _ in range(1 + key.classes.index(image.image_class)):
        page.keyboard.press("c")
    page.keyboard.press("y")
    page.keyboard.press("Enter")


def test_a_reader_by_keyboard_alone_closes_the_tab_goes_on_and_exports(made, opened):
    folder, key = made
    path = folder / "study" / "reader-1.html"
    page = opened(path)
    context = page.context
    assert "practise on" in page.locator("#dialog").inner_text()
    page.keyboard.press("Enter")
    tokens = list(key.readers[0].trials)
    for token in tokens[:2]:
        assert drawn(page) > 1
        respond(page, key, token)
        assert "Right" in page.locator("#said").inner_text()
        page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    assert "Practice is over" in page.locator("#dialog").inner_text()
    page.keyboard.press("Enter")
    for token in tokens[2:6]:
        drawn(page)
        respond(page, key, token)
    drawn(page)
    page.close()
    page = opened(path, context)
    assert "4 of 10 questions are answered" in page.locator("#dialog").inner_text()
    page.keyboard.press("Enter")
    for token in tokens[6:]:
        drawn(page)
        respond(page, key, token)
    page.wait_for_selector("dialog[open]")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    file = folder / "answers-1.json"
    download.value.save_as(file)
    said = json.loads(file.read_text(encoding="utf-8"))
    assert said["finished"]
    assert len(said["answers"]) == 10
    assert all(0 < row["seconds"] < 60 for row in said["answers"])
    report = score_study(ScoreOptions(folder / "study" / "key.json", [file], folder / "score", resamples=100))
    numbers = report.readers[0].numbers
    assert numbers.accuracy.hits == numbers.accuracy.of == 8
    assert numbers.class_right.value == 1
    assert numbers.lesion_seen_real.value == 1
    assert report.readers[0].repeats == 2


def test_window_zoom_box_and_pause(made, opened):
    folder, _ = made
    page = opened(folder / "study" / "reader-1.html")
    page.keyboard.press("Enter")
    plain = drawn(page)
    page.keyboard.press(",")
    page.keyboard.press(",")
    assert drawn(page) < plain  # a higher level is darker
    page.keyboard.press("0")
    box = page.locator(".view canvas").bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 200, steps=4)
    page.mouse.up()
    assert page.evaluate("look.window") == pytest.approx(155, abs=2)
    page.mouse.wheel(0, -100)
    page.wait_for_function("look.zoom > 1")
    page.keyboard.press("0")
    assert page.evaluate("[look.zoom, look.window]") == [1, 255]
    page.keyboard.press("b")
    assert page.locator("#box").get_attribute("aria-pressed") == "false"
    page.keyboard.press("p")
    page.wait_for_selector("dialog[open]")
    assert page.evaluate("paused")
    before = page.evaluate("state.answers[trial().id].seconds")
    page.wait_for_timeout(300)
    going_on = time.monotonic()
    page.keyboard.press("Enter")
    page.wait_for_function("!paused")
    page.evaluate("tick()")
    counted = page.evaluate("state.answers[trial().id].seconds") - before
    assert counted < time.monotonic() - going_on + 0.1  # a pause does not count


def test_a_second_tab_loses_no_answer(made, opened):
    folder, key = made
    path, tokens = folder / "study" / "reader-1.html", list(key.readers[0].trials)
    first = opened(path)
    first.keyboard.press("Enter")
    drawn(first)
    second = opened(path, first.context)
    second.keyboard.press("Enter")
    drawn(second)
    respond(second, key, tokens[0])
    first.wait_for_selector("dialog[open]")
    assert "in another tab" in first.locator("#dialog").inner_text()
    first.close(run_before_unload=True)
    second.wait_for_timeout(200)
    kept = json.loads(second.evaluate("localStorage.getItem(saveKey)"))
    assert kept["answers"][tokens[0]]["says"] == key.images[key.readers[0].trials[tokens[0]].images[0]].kind


def test_of_two_questions_opened_at_once_the_last_is_shown(made, opened):
    """Pictures of the first may be decoded later than those of the second."""
    folder, _ = made
    page = opened(folder / "study" / "reader-1.html")
    page.keyboard.press("Enter")
    drawn(page)
    shown = page.evaluate(
        """(async () => {
          const plain = pixels, wait = time => new Promise(done => setTimeout(done, time)); let calls = 0;
          pixels = async cell => { const own = await plain(cell); await wait([200, 0][calls++]); return own; };
          state.at = 3; const first = show(); state.at = 4; const second = show(); await first; await second;
          const asked = await plain(trial().cells[0]);
          return [state.at, views[0].image.every((value, k) => value === asked[k]), paused];
        })()"""
    )
    assert shown == [4, True, False]


def test_an_unanswered_question_is_not_left(made, opened):
    folder, _ = made
    page = opened(folder / "study" / "reader-1.html", width=768, height=1024)
    page.keyboard.press("Enter")
    drawn(page)
    assert page.locator("#next").is_disabled()
    page.keyboard.press("r")
    page.keyboard.press("Enter")
    assert "Answer every question" in page.locator("#said").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 768


def test_pairs_and_volumes(tmp_path, opened):
    info = StoreInfo(
        tool_version="0", command="test", settings={}, seed=0, label_names=["lesion"],
        generators=[GeneratorOrigin(name="g", version="1", hash="h", training_store="t", training_patients=[])],
    )  # fmt: skip
    paths = []
    for kind in ("real", "synthetic"):
        writer = StoreWriter(tmp_path / f"{kind}.h5", info, {})
        for i, record in enumerate(make_records(8, 16)):
            volume = np.stack([record.image * (z > 3) for z in range(16)], 1)
            x0, y0, x1, y1 = record.boxes[0]
            record.image, record.boxes = volume, np.array([[x0, y0, 4, x1, y1, 12]], np.float32)
            record.split, record.patient = ("test", f"p{i}") if kind == "real" else ("train", "synthetic-g")
            record.source = kind if kind == "real" else "g"
            writer.add(i, [record])
        paths.append(writer.publish().path)
    make_study(StudyOptions(paths, tmp_path / "pairs", n=8, pairs=True, practice=0, repeats=0))
    page = opened(tmp_path / "pairs" / "reader-1.html")
    page.keyboard.press("Enter")
    drawn(page)
    assert page.locator(".view").count() == 6
    assert page.locator(".view span").first.inner_text() == "left axial 9 / 16"
    page.keyboard.press("ArrowUp")
    assert page.locator(".view span").first.inner_text() == "left axial 10 / 16"
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("chosen('says')") == "left"
    planes = page.evaluate("views.slice(0, 3).map(v => slab(v).slice(0, 3))")
    assert planes == [[16, 16, 16]] * 3
