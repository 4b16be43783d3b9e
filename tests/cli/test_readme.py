"""What the README and the docs say can be typed, read and found."""

import re
import runpy
import shlex
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
import yaml

from medaug_cli.cli import app
from medaug_cli.files import parse_json

ROOT = Path(__file__).parents[2]
PAGES = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8")
         for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))}  # fmt: skip
README = PAGES["README.md"]
STARTS = ("README.md", "docs/README.md")
MEDAUG = typer.main.get_command(app)
STARTED_BY = re.compile(r"(?:\w+=\S+ |srun |torchrun .*? --no-python )*medaug (.*)")
FROM_TASKS = [  # not of studies: two networks of the same task
    ("+0.099 [+0.043, +0.153]", "better"),
    ("+0.175 [+0.124, +0.226]", "better"),
    ("+0.120 [+0.093, +0.150]", "better"),
    ("+0.090 [+0.059, +0.123]", "better"),
]
SAID_ELSEWHERE = {  # of reports that others have replaced, and said to be
    ("docs/results/study-128.md", "+0.144 [+0.037, +0.249]"),
    ("docs/results/study-breast.md", "−0.050 [−0.096, −0.007]"),
    ("docs/results/study-breast.md", "+0.028 [+0.006, +0.050]"),
    *(("docs/claims.md", figure) for figure, _ in FROM_TASKS),
}
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def commands_of(text):
    """Yield each `medaug` line of a page's shell blocks, without comments, joined where it goes on."""
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if found := STARTED_BY.match(line.split(" #")[0].strip()):
                yield found[1].replace('"$i"', "0").replace("$i", "0")


COMMANDS = [(page, line) for page, text in PAGES.items() for line in dict.fromkeys(commands_of(text))]


def test_the_plugin_shown_is_the_example():
    source = (ROOT / "examples/medaug-blobs/medaug_blobs.py").read_text(encoding="utf-8")
    assert source.split('"""', 2)[2].strip() in PAGES["docs/own-plugin.md"]


def anchors(text):
    """List a page's anchors as GitHub makes them: small letters, hyphens for spaces, no other signs."""
    titles = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in HEADING.findall(text))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        linked = (ROOT / page).parent / name if name else ROOT / page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked.read_text(encoding="utf-8")), target


def test_every_page_is_in_the_index():
    indices = {page: text for page, text in PAGES.items() if page.startswith("docs/") and page.endswith("README.md")}
    linked = {
        (Path(page).parent / target).as_posix()
        for page, text in indices.items()
        for target in re.findall(r"\]\(([^)#\s]+)", text)
    }
    assert [page for page in PAGES if page not in linked] == list(STARTS)


def test_the_reference_of_the_command_line_is_what_the_code_says():
    made = runpy.run_path(str(ROOT / "docs/make_cli.py"))["reference"]()
    assert made == PAGES["docs/cli.md"], "make it again with python docs/make_cli.py"


def test_the_reference_of_functions_is_what_the_code_says():
    made = runpy.run_path(str(ROOT / "docs/make_python.py"))["reference"]()
    assert made == PAGES["docs/python.md"], "make it again with python docs/make_python.py"


def test_the_tables_of_our_own_studies_are_what_their_reports_say():
    made = runpy.run_path(str(ROOT / "docs/make_results.py"))
    for page, text in made["pages"]():
        assert text == page.read_text(encoding="utf-8"), "make them again with python docs/make_results.py"
    told = {str(path.parent.relative_to(ROOT / "docs/results")) for path in (ROOT / "docs/results").rglob("study.json")}
    assert set(made["STUDIES"]) == told
    assert len(made["short"](made["results"]()).splitlines()) <= 12
    assert made["short"](made["results"]()) in README


def test_differences_and_verdicts_that_pages_give_are_those_of_a_report():
    made = runpy.run_path(str(ROOT / "docs/make_results.py"))
    measured = {
        (made["figure"](own), own["verdict"])
        for path in (ROOT / "docs/results").rglob("study.json")
        for own in made["differences"](parse_json(path))
    }
    figures = {figure for figure, _ in measured}
    given = [
        (page, found)
        for page, text in PAGES.items() if page not in ("docs/demo.md", "docs/tasks.md")
        for found in re.findall(r"[+−-]\d\.\d{3}\s\[[^]]*]", text)
    ]  # fmt: skip
    assert len(given) > 300
    elsewhere = {(page, found) for page, found in given if found.replace("-", "−").replace("\n", " ") not in figures}
    assert elsewhere == SAID_ELSEWHERE
    claims = re.findall(r"\| ([+−]\d\.\d{3} \[[^]]*]) \| \**(\w+)", PAGES["docs/claims.md"])
    assert [claim for claim in claims if claim not in measured] == FROM_TASKS
    for figure, _ in FROM_TASKS:  # the page tells it of the smaller network less the larger one
        assert opposite(figure) in PAGES["docs/tasks.md"]


def opposite(figure):
    """Turn what A is ahead of B into what B is ahead of A."""
    middle, low, high = re.findall(r"[+−]\S*\d", figure.translate(str.maketrans("+−", "−+")))
    return f"{middle} [{high}, {low}]"


def test_the_page_of_the_demo_is_what_its_numbers_say():
    made = runpy.run_path(str(ROOT / "docs/make_demo.py"))["page"]()
    assert made == PAGES["docs/demo.md"], "make it again with python docs/make_demo.py"


def test_the_site_has_every_page_once_by_the_four_kinds_of_the_index():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    kinds = {kind: pages for entry in nav for kind, pages in entry.items() if isinstance(pages, list)}
    index = PAGES["docs/README.md"]
    assert list(kinds) == HEADING.findall(index)[1:] == ["Tutorials", "How-to", "Reference", "Explanation"]
    listed = [page for pages in kinds.values() for page in pages]
    assert sorted(listed) == sorted(str(Path(page).relative_to("docs")) for page in PAGES if page not in STARTS)


def test_links_to_files_that_the_site_does_not_hold_become_text():
    plain = runpy.run_path(str(ROOT / "docs/site_hooks.py"))["on_page_markdown"]
    page = "see [`.ci/run`](../.ci/run), [this](files.md#a) and [code [1]](../medaug_cli) ![p](p.png)"
    assert plain(page, page_named("store.md")) == "see `.ci/run`, [this](files.md#a) and code [1] ![p](p.png)"
    deeper = "see [this](../files.md#a), [code](../../medaug_cli) and [its page](study-128/study.html)"
    told = plain(deeper, page_named("results/study-128.md"))
    assert told == "see [this](../files.md#a), code and [its page](study-128/study.html)"


def page_named(source):
    """Return a page of the site with the place of its source within the docs."""
    return SimpleNamespace(file=SimpleNamespace(src_uri=source))


def test_the_readme_is_short():
    assert len(README.split()) <= 900


def test_two_commands_are_targets_of_the_makefile():
    block = re.search(r"## Two commands\n.*?```sh\n(.*?)```", README, re.DOTALL).group(1)
    targets = [line.split()[1] for line in block.splitlines()]
    assert targets == ["demo", "test"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_every_line_shown_is_understood(page, line):
    command, words = MEDAUG, shlex.split(line)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words)  # raises where an option is unknown, missing or of another type


def test_the_pipeline_has_eight_lines():
    block = re.search(r"## The pipeline\n\n```sh\n(.*?)```", README, re.DOTALL).group(1)
    assert len(block.splitlines()) == 8


def test_every_installed_generator_and_detector_is_listed():
    entries = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    for group in ("medaug.generators", "medaug.detectors", "medaug.classifiers", "medaug.segmenters"):
        for page in ("README.md", "docs/plugins.md"):
            assert [name for name in entries[group] if f"`{name}`" not in PAGES[page]] == []


def test_no_placeholder_is_left():
    assert "<!--" not in README
