"""The Chinese pages: each says what its English page says, or has a notice that the English page changed since.

A page that is up to date has the headings, code, tables, numbers, code spans and links of its source. One that is
behind is compared with nothing, but its links lead somewhere too.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from markdown_links import anchors_of, broken_links

ROOT = Path(__file__).parents[2]
#: Translated, below docs/.
PAGES = (
    "index.md",
    *(f"getting-started/{name}.md" for name in ("photographs", "segmentation", "coco", "coming-from")),
    *(
        f"{name}.md"
        for name in ("faq", "training", "evaluation", "segmentation", "detection", "export", "serving")
    ),
    "concepts.md",
)
#: Made while the site is built, which tells if a link to them is wrong.
GENERATED = ("reference/recipe.md", "reference/commands.md")
CHINESE = re.compile(r"[\u4e00-\u9fff]")
#: Punctuation of Chinese is full-width, and a space stands between Chinese and Latin words or numbers.
HALF_WIDTH = re.compile(r"[\u4e00-\u9fff][,;:?!](?!\w)")
NO_SPACE = re.compile(r"[\u4e00-\u9fff][A-Za-z0-9]|[A-Za-z0-9%][\u4e00-\u9fff]")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
MILLION = re.compile(r"(\d+(?:\.\d+)?) million")  # which Chinese counts in units of 10,000


def _program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("translations", ROOT / "docs" / "translations.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look it up there
    spec.loader.exec_module(module)
    return module


program = _program()
ALL = {page.path.relative_to(ROOT).as_posix(): page for page in program.translations()}
each_page = pytest.mark.parametrize("name", ALL)
each_up_to_date = pytest.mark.parametrize("name", [name for name, page in ALL.items() if not page.behind])


@dataclass
class Section:
    """What stands below one heading.

    Attributes:
        level: of the heading, h1 to h6; empty before the first.
        code: (info, text) of the fenced blocks.
        tables: rows of cells.
        text: paragraphs, list items and the heading, with code spans.
        spans: the code spans, those of cells too.
        links: targets of links and images, those of cells too.
    """

    level: str
    code: list[tuple[str, str]] = field(default_factory=list)
    tables: list[list[list[str]]] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    spans: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)


@cache
def sections(path: Path) -> tuple[Section, ...]:
    """A page, cut up at its headings, without the notice."""
    text = program.NOTICE_LINE.sub("", path.read_text(encoding="utf-8"))
    found, in_cell = [Section("")], False
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        section = found[-1]
        if token.type == "heading_open":
            found.append(Section(token.tag))
        elif token.type == "fence":
            section.code.append((token.info, token.content))
        elif token.type == "table_open":
            section.tables.append([])
        elif token.type == "tr_open":
            section.tables[-1].append([])
        elif token.type in ("th_open", "td_open", "th_close", "td_close"):
            in_cell = token.type.endswith("open")
        elif token.type == "inline":
            (section.tables[-1][-1] if in_cell else section.text).append(token.content)
            for child in token.children or []:
                if child.type == "code_inline":
                    section.spans.append(child.content)
                elif child.type in ("link_open", "image"):
                    target = child.attrs["href" if child.type == "link_open" else "src"]
                    section.links.append(unquote(str(target)))
    return tuple(found)


def numbers(text: str) -> list[str]:
    """Numbers of a text, sorted, since two languages put them in different order; without those of link targets."""
    text = re.sub(r"\]\([^)]*\)", "]", text)
    return sorted(NUMBER.findall(MILLION.sub(lambda found: f"{100 * float(found[1]):g}", text)))


def place_of(page: Path, link: str) -> tuple[str, int | str]:
    """File and heading (by its number) that a link leads to; those of a Chinese page are those of its source."""
    if "://" in link:
        return link, ""
    target, _, anchor = link.partition("#")
    path = Path(os.path.normpath(page.parent / target)) if target else page
    translation = ALL.get(path.relative_to(ROOT).as_posix())
    heading = anchors_of(path).index(anchor) if anchor else ""
    return str(translation.source if translation else path), heading


def test_what_is_to_be_translated_is():
    assert {f"docs/zh/{page}" for page in PAGES} | {"README.zh-CN.md"} <= set(ALL)
    for name, page in ALL.items():
        if name.startswith("docs/zh/"):
            assert page.source == ROOT / "docs" / page.path.relative_to(ROOT / "docs" / "zh")


@each_page
def test_a_page_has_the_notice_if_its_english_page_changed(name):
    page = ALL[name]
    assert page.path.read_text(encoding="utf-8") == page.expected_text(), "run `python docs/translations.py`"


@each_page
def test_links_lead_somewhere_and_to_chinese_pages_where_there_are_some(name):
    page = ALL[name]
    links = [link for section in sections(page.path) for link in section.links]
    here = [link for link in links if not link.partition("#")[0].endswith(GENERATED)]
    assert broken_links(page.path, here) == []
    translated = {str(other.source) for other in ALL.values() if other is not page}
    targets = {link: os.path.normpath(page.path.parent / link.partition("#")[0]) for link in links}
    assert [link for link, target in targets.items() if target in translated] == []


@each_page
def test_it_is_chinese_and_its_markup_is_taken_as_such(name):
    for section in sections(ALL[name].path)[1:]:
        prose = [*section.text, *(cell for table in section.tables for row in table for cell in row)]
        assert CHINESE.search("".join(prose)), section.text
        plain = [re.sub(r"`[^`]*`|\]\([^)]*\)", "", text) for text in prose]
        assert [text for text in plain if HALF_WIDTH.search(text) or NO_SPACE.search(text)] == []
        rendered = MarkdownIt("commonmark").enable("table").render("\n\n".join(section.text))
        assert "**" not in re.sub(r"<code>.*?</code>", "", rendered), section.text


@each_up_to_date
def test_it_has_what_its_source_has(name):
    page = ALL[name]
    chinese, english = sections(page.path), sections(page.source)
    if name == "docs/zh/index.md":  # which has the words besides
        chinese = chinese[: len(english)]
    assert [section.level for section in chinese] == [section.level for section in english]
    for ours, theirs in zip(chinese, english, strict=True):
        where = theirs.text[:1]
        assert [code_of(*block) for block in ours.code] == [
            code_of(*block, like=other) for block, other in zip(theirs.code, ours.code, strict=True)
        ], where
        assert [[len(row) for row in table] for table in ours.tables] == [
            [len(row) for row in table] for table in theirs.tables
        ], where
        for table, other in zip(ours.tables, theirs.tables, strict=True):
            for row, source in zip(table, other, strict=True):
                assert [numbers(cell) for cell in row] == [numbers(cell) for cell in source], row
        assert numbers("\n".join(ours.text)) == numbers("\n".join(theirs.text)), where
        assert set(ours.spans) == set(theirs.spans), where
        assert places(page.path, ours) == places(page.source, theirs), where


def places(page: Path, section: Section) -> set[tuple[str, int | str]]:
    """What the links of a section lead to, without that to the page in the other language."""
    itself = {str(page), *(str(other.source) for other in ALL.values() if other.path == page)}
    itself |= {str(other.source) for other in ALL.values() if other.source == page}
    found = {place_of(page, link) for link in section.links}
    return {(target, heading) for target, heading in found if heading != "" or target not in itself}


def code_of(info: str, text: str, like: tuple[str, str] | None = None) -> tuple[str, list[str]]:
    """What both languages have: all but comments; of a listing with Chinese words the first word of each line.

    Args:
        like: the block of the other page, which decides whether there are Chinese words.
    """
    if info == "text" and CHINESE.search(like[1] if like else text):
        return info, [line.split()[:1] for line in text.splitlines()]
    if info == "text":
        return info, text.splitlines()
    return info, [re.sub(r"(^|\s+)#.*", "", line) for line in text.splitlines()]


# ---- the program


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A repository with one English page, and a Chinese one that is up to date."""
    monkeypatch.setattr(program, "ROOT", tmp_path)
    (tmp_path / "docs/zh").mkdir(parents=True)
    (tmp_path / "README.md").write_text("# It\n\nA text.\n")
    (tmp_path / "README.zh-CN.md").write_text(
        "<!-- translated from README.md, sha256 - -->\n# 它\n\n文字。\n"
    )
    (tmp_path / "docs/a.md").write_text("# A\n\nSome words.\n")
    path = tmp_path / "docs/zh/a.md"
    path.write_text("<!-- translated from ../a.md, sha256 - -->\n# 甲\n\n一些词。\n")
    monkeypatch.setattr(program, "translations", lambda: TRANSLATIONS(tmp_path))
    assert run(monkeypatch, "--done", str(path), str(tmp_path / "README.zh-CN.md")) == 0
    return path


TRANSLATIONS = program.translations


def run(monkeypatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["translations.py", *words])
    return program.main()


def test_a_change_of_the_source_puts_a_notice_and_done_takes_it_away(page, monkeypatch, capsys):
    before = page.read_text(encoding="utf-8")
    assert "注意" not in before
    source = page.parents[1] / "a.md"
    source.write_text("# A\n\nSome\nwords.\n")  # wrapped anew
    assert run(monkeypatch, "--check") == 0
    source.write_text("# A\n\nOther words.\n")
    assert run(monkeypatch, "--check") == 1
    assert "docs/zh/a.md: run `python docs/translations.py`" in capsys.readouterr().err
    assert page.read_text(encoding="utf-8") == before
    for _ in range(2):  # the second time changes nothing
        assert run(monkeypatch) == 0
        assert re.search(r"^behind +docs/zh/a.md$", capsys.readouterr().out, re.MULTILINE)
        lines = page.read_text(encoding="utf-8").splitlines()
        assert lines[1] == "# 甲"
        assert lines[3].startswith("> **注意**")
        assert "(../a.md)" in lines[3]
        assert lines[5] == "一些词。"
    assert run(monkeypatch, "--check") == 0
    assert run(monkeypatch, "--done", str(page)) == 0
    assert page.read_text(encoding="utf-8").splitlines()[1:] == before.splitlines()[1:]
    assert run(monkeypatch, "--check") == 0
    assert "behind" not in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    ("first", "says"),
    [
        ("", "the first line is not"),
        ("<!-- translated from ../b.md, sha256 - -->\n", "../b.md does not exist"),
    ],
)
def test_a_page_without_a_source_is_an_error(first, says, page, monkeypatch, capsys):
    page.write_text(f"{first}# 甲\n\n文字。\n")
    assert run(monkeypatch) == 2
    assert says in capsys.readouterr().err
