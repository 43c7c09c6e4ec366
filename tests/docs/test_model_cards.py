"""The model cards are those that the program makes, and say what the pages that they link to say."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from markdown_links import broken_links

from cyclemlp.network import VARIANTS

ROOT = Path(__file__).parents[2]
CARDS = ROOT / "docs" / "models"


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("make_model_cards", ROOT / "docs" / "make_model_cards.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_cards_are_what_the_program_makes(program):
    made = program.cards()
    assert {path.name for path in CARDS.iterdir()} == {path.name for path in made}
    assert {path.stem for path in made} == {*VARIANTS, "index"}
    for path, text in made.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run docs/make_model_cards.py"


def test_a_card_that_was_changed_is_told_and_mended(program, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(program, "CARDS", tmp_path / "models")
    monkeypatch.setattr(program, "ROOT", tmp_path)
    monkeypatch.setattr(program, "cards", lambda: {tmp_path / "models" / "a.md": "as it should be\n"})
    monkeypatch.setattr("sys.argv", ["make_model_cards.py"])
    assert program.main() == 0
    card = tmp_path / "models" / "a.md"
    assert card.read_text() == "as it should be\n"
    card.write_text("as it should not\n")
    (tmp_path / "models" / "gone.md").write_text("of a variant that is no more\n")
    monkeypatch.setattr("sys.argv", ["make_model_cards.py", "--check"])
    assert program.main() == 1
    told = capsys.readouterr().err
    assert "models/a.md" in told
    assert "models/gone.md" in told
    monkeypatch.setattr("sys.argv", ["make_model_cards.py"])
    assert program.main() == 0
    assert [path.name for path in card.parent.iterdir()] == ["a.md"]
    assert card.read_text() == "as it should be\n"


def test_published_figures_are_those_of_the_paper(program):
    text = program.card("cyclemlp_b4")
    for figure in (
        "83.0 %",
        "82.962 % / 96.328 % / 0.7593",
        "45.1 %",
        "43.2",
        "44.1 / 40.2",
        "51,796,552",
        "10.027 G",
    ):
        assert f"| {figure}" in text, figure


def test_what_was_inferred_or_is_ours_is_said_at_once(program):
    for name, variant in VARIANTS.items():
        text = program.card(name)
        head = text[: text.index("## At a glance")]
        assert ("no weights confirm it" in " ".join(head.split())) == variant.inferred, name
        assert ("of this project's own" in head) == (not variant.from_paper), name
        assert ("pretrained=True" in text) == (variant.weights is not None and not variant.inferred), name


def test_figures_of_our_own_runs_stand_on_the_pages_that_are_linked(program):
    assert set(program.SMALL_RUNS) <= {name for name, variant in VARIANTS.items() if not variant.from_paper}
    for line in "".join(program.SMALL_RUNS.values()).split("\n- "):
        pages = re.findall(r"\(\.\./(\w+\.md)[)#]", line)
        known = "".join((ROOT / "docs" / page).read_text(encoding="utf-8") for page in pages)
        for figure in re.findall(r"\d+\.\d+", line):
            assert figure in known, f"{figure} is not in {pages}"


@pytest.mark.parametrize("name", ["index", *VARIANTS])
def test_links_of_a_card_lead_somewhere(name):
    text = (CARDS / f"{name}.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    assert broken_links(CARDS / f"{name}.md", links) == []
