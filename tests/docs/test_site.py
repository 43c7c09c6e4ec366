"""The documentation site builds without a warning, loads nothing from elsewhere, and leaves nothing out."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import json
import logging
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
#: What makes a browser fetch something, by element.
FETCHING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
#: A link element that only names a page.
NAMES_ONLY = {"canonical", "next", "prev", "alternate"}
#: Packages of functions that only the commands use.
NOT_PUBLIC = {"cli"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


class Page(HTMLParser):
    """What a page fetches, its anchors, and its paragraphs as text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.anchors: set[str] = set()
        self.paragraphs: list[str] = []
        self._inside = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("id"):
            self.anchors.add(str(values["id"]))
        target = values.get(FETCHING.get(tag, ""))
        if target and not (tag == "link" and values.get("rel") in NAMES_ONLY):
            self.fetched.append(target)
        if tag == "p":
            self._inside = True
            self.paragraphs.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "p":
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.paragraphs[-1] += data


@pytest.fixture(scope="module")
def pages(site):
    return {path.relative_to(site).as_posix(): Page(path) for path in sorted(site.rglob("*.html"))}


def test_it_loads_nothing_from_elsewhere(site, pages):
    foreign = {name: [t for t in page.fetched if "//" in t] for name, page in pages.items()}
    assert {name: targets for name, targets in foreign.items() if targets} == {}
    assert sum(len(page.fetched) for page in pages.values()) > 100
    for style in site.rglob("*.css"):
        assert not re.search(r"@import|url\([\"']?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_lists_and_tables_are_such_in_the_site_too(pages):
    """The site's Markdown wants a blank line before a list, GitHub's does not."""
    lost = [
        (name, text)
        for name, page in pages.items()
        for text in page.paragraphs
        if re.search(r"^\s*([-*] |\d+\. |\|)", text, re.MULTILINE)
    ]
    assert lost == []


def test_chinese_pages_are_marked_as_such_and_their_words_can_be_searched(site):
    for page, language in {
        "zh/training.html": "zh",
        "README.zh-CN.html": "zh",
        "training.html": "en",
    }.items():
        assert f'<html lang="{language}"' in (site / page).read_text(encoding="utf-8")
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    text = "".join(
        entry["text"] for entry in index["docs"] if entry["location"].startswith("zh/training.html")
    )
    words = re.split(index["config"]["separator"], text)
    assert {"权重", "学习", "验证"} <= set(words)  # without jieba a word is what stands between two marks


def public_names() -> dict[str, list[str]]:
    """Room → its `__all__`, read from the source: the reference is made without importing, and so is this."""
    rooms = {}
    for path in sorted((ROOT / "cyclemlp").glob("*/__init__.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
                rooms[path.parent.name] = ast.literal_eval(node.value)
    return {room: names for room, names in rooms.items() if room not in NOT_PUBLIC}


@pytest.mark.parametrize("room", sorted(public_names()))
def test_every_public_name_is_in_the_reference(room, pages):
    anchors = set().union(*(page.anchors for name, page in pages.items() if name.startswith("reference/")))
    names = public_names()[room]
    assert names
    # By the name in the room, or where a module of the same name hides it, by that in the module.
    missing = [n for n in names if not {f"cyclemlp.{room}.{n}", f"cyclemlp.{room}.{n}.{n}"} & anchors]
    assert [n for n in missing if not n.isupper()] == []  # constants have a comment, not a docstring


def test_the_reference_has_every_command(pages):
    from cyclemlp.cli.main import COMMANDS

    anchors = pages["reference/commands.html"].anchors
    assert [name for name in COMMANDS if f"cyclemlp-{name}" not in anchors] == []
    assert {"cyclemlp-seg-train", "cyclemlp-data-scenes"} <= anchors


def test_a_config_that_is_named_is_there(site):
    """Helps of commands among it: they are a page of the site."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    named = [
        (name, path) for name, text in texts.items() for path in re.findall(r"configs/[\w/]+\.yaml", text)
    ]
    assert any(name == "commands.html" for name, _ in named)
    assert [(name, path) for name, path in named if not (ROOT / path).is_file()] == []


def test_every_recipe_and_benchmark_is_told():
    told = "".join((DOCS / name).read_text(encoding="utf-8") for name in ("recipes.md", "ablations.md"))
    recipes = [path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*.yaml")]
    assert [path for path in sorted(recipes) if "/_" not in path and path not in told] == []
    reports = (DOCS / "benchmark-reports.md").read_text(encoding="utf-8")
    programs = [
        p for p in sorted((ROOT / "benchmarks").glob("*.py")) if "__main__" in p.read_text(encoding="utf-8")
    ]
    assert len(programs) >= 10
    assert [p.name for p in programs if f"benchmarks/{p.name}" not in reports] == []


def test_figures_of_recipes_are_those_of_the_pages_and_files_they_name():
    """A measured figure stands on the page that its row links to, a published one in the head of the file."""
    measured = published = 0
    for line in (DOCS / "recipes.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not cells[0].startswith("`configs/"):
            continue
        page = re.search(r"\]\((\w+\.md)#", cells[-1])
        if page:
            told = [(DOCS / page[1], cells[2])]
        else:
            pairs = itertools.pairwise(cells)
            told = [
                (ROOT / file.strip("`"), figure) for file, figure in pairs if file.startswith("`configs/")
            ]
        for source, text in told:
            figures, known = re.findall(r"\d+\.\d+", text), source.read_text(encoding="utf-8")
            assert [figure for figure in figures if figure not in known] == [], line
            measured, published = measured + bool(page and figures), published + bool(figures and not page)
    assert measured >= 8
    assert published >= 20


# ---- links, as the site needs them


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hooks", DOCS / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("page", "text", "expected"),
    [
        ("weights.md", "[`unpickle.py`](../cyclemlp/weights/unpickle.py)", "`unpickle.py`"),
        (
            "weights.md",
            "[this](training.md#trust) ![p](images/p.png)",
            "[this](training.md#trust) ![p](images/p.png)",
        ),
        ("tutorials/index.md", "[Home](../../README.md)", "[Home](../index.md)"),
        (
            "CHANGELOG.md",
            "[speed](docs/speed.md#figures) and [it](LICENSE)",
            "[speed](speed.md#figures) and it",
        ),
        (
            "index.md",
            "[log](../CHANGELOG.md), [there](https://example.org/x)",
            "[log](CHANGELOG.md), [there](https://example.org/x)",
        ),
        ("index.md", "```\n[a](../nothing.py)\n```", "```\n[a](../nothing.py)\n```"),
    ],
)
def test_links_out_of_the_docs_become_text_or_links_of_the_site(page, text, expected, hooks, caplog):
    said = hooks.on_page_markdown(text, SimpleNamespace(file=SimpleNamespace(src_uri=page)), None, None)
    assert said == expected
    assert not caplog.records


def test_a_link_to_a_file_that_is_not_there_is_a_warning_which_ends_the_build(hooks, caplog):
    page = SimpleNamespace(file=SimpleNamespace(src_uri="weights.md"))
    with caplog.at_level(logging.WARNING):
        assert hooks.on_page_markdown("[it](../cyclemlp/none.py)", page, None, None) == "it"
    assert "weights.md links to ../cyclemlp/none.py, which is not in the repository" in caplog.text
    assert caplog.records[0].name.startswith("mkdocs.")  # which --strict counts
