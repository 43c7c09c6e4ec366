"""The two READMEs, and the pages that hold what they leave out, are true: their programs run, their commands and links
exist, their figures are those of the table of variants and of the pages. docs/commands.md shows every command,
docs/python.md every value of the architecture, docs/results.md every variant, docs/index.md every page."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
import paddle
import pytest
from markdown_it import MarkdownIt
from markdown_links import broken_links
from PIL import Image

import cyclemlp
from cyclemlp.cli.main import COMMANDS, build_parser, main
from cyclemlp.network import VARIANTS, CycleMLPConfig, count_macs
from cyclemlp.weights import write_weights

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = "README.md", "README.zh-CN.md"
READMES = (ENGLISH, CHINESE)
COMMANDS_PAGE, PYTHON_PAGE, RESULTS_PAGE = "docs/commands.md", "docs/python.md", "docs/results.md"
LONGEST_README = 150  # lines: more belongs on a page

#: Added to a command that would otherwise take long; `cyclemlp train` takes the last of two like flags.
QUICK = "--model cyclemlp_nano --input-size 32 --epochs 1 --batch-size 4 --workers 0 --no-progress"
SHORTENED = {
    "cyclemlp train --config configs/digits.yaml": "--epochs 1 --no-progress",
    "cyclemlp train --config configs/finetune/own_folder.yaml": f"{QUICK} --output runs/other",
    "cyclemlp train --config configs/imagenet/cyclemlp_b1.yaml": f"{QUICK} --output runs/imagenet",
    "cyclemlp bench cyclemlp_b1": "--size 32 --batch 1 --seconds 0.1 --runtime network onnxruntime",
    "cyclemlp doctor": "--no-speed",
    "cyclemlp data scenes": "--train 2 --val 1",
}
#: Typed before a command that needs what another one leaves.
BEFORE = {
    "cyclemlp compare": "cyclemlp eval runs/mine --data digits --input-size 20 --output results/other --predictions"
}
#: Parsed here, and run elsewhere on stand-ins of their data: tests/dense, tests/cli.
RUN_ELSEWHERE = (
    "cyclemlp seg",
    "cyclemlp det",
    "cyclemlp reproduce",
    "cyclemlp robustness",
    "cyclemlp data imagenet",
)


@dataclass(frozen=True)
class Section:
    """What stands under one heading of the second level; the first has the title's."""

    heading: str
    programs: tuple[str, ...]  # fenced Python
    commands: tuple[
        str, ...
    ]  # lines of other fenced blocks, joined where they are continued, without comments
    tables: tuple[tuple[tuple[str, ...], ...], ...]  # rows of cells
    prose: str  # the rest, with code spans
    spans: tuple[str, ...]  # code spans
    links: tuple[str, ...]


@cache
def sections(name: str) -> tuple[Section, ...]:
    """A README or page, cut up at its headings of the second level."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return tuple(_section(part) for part in re.split(r"^(?=## )", text, flags=re.MULTILINE))


def _section(text: str) -> Section:
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    programs, commands, prose, spans, links = [], [], [], [], []
    tables: list[list[list[str]]] = []
    cells = False
    for token in tokens:
        if token.type == "fence" and token.info == "python":
            programs.append(token.content)
        elif token.type == "fence" and token.info != "bibtex":
            joined = token.content.replace("\\\n", " ")
            commands += [line for raw in joined.splitlines() if (line := _without_comment(raw))]
        elif token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type in ("th_open", "td_open"):
            cells = True
        elif token.type in ("th_close", "td_close"):
            cells = False
        elif token.type == "inline":
            (tables[-1][-1] if cells else prose).append(token.content)
            for child in token.children or []:
                if child.type == "code_inline":
                    spans.append(child.content)
                elif child.type == "link_open":
                    links.append(str(child.attrs["href"]))
    rows = tuple(tuple(tuple(row) for row in table) for table in tables)
    return Section(
        prose[0], tuple(programs), tuple(commands), rows, "\n".join(prose), tuple(spans), tuple(links)
    )


def _without_comment(line: str) -> str:
    return shlex.join(shlex.split(line, comments=True))


def every(name: str, part: str) -> list[str]:
    """One part of all sections."""
    return [item for section in sections(name) for item in getattr(section, part)]


def test_they_link_to_each_other():
    """That they say the same is in test_translations.py."""
    assert sections(ENGLISH)[0].links[0] == CHINESE
    assert sections(CHINESE)[0].links[0] == ENGLISH


@pytest.mark.parametrize("name", READMES)
def test_they_are_short(name):
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) < LONGEST_README


# ---- what they name exists


@pytest.mark.parametrize("name", READMES)
def test_links_lead_somewhere(name):
    links = every(name, "links")
    assert len(links) > 20
    assert broken_links(ROOT / name, links) == []


def test_every_page_is_linked():
    """From docs/index.md, to which the READMEs lead."""
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").glob("*.md")} - {
        "index.md"
    }
    pages |= {f"getting-started/{path.name}" for path in (ROOT / "docs" / "getting-started").glob("*.md")}
    assert pages <= {link.partition("#")[0] for link in every("docs/index.md", "links")}
    assert {"docs/index.md", RESULTS_PAGE, COMMANDS_PAGE, PYTHON_PAGE} <= set(every(ENGLISH, "links"))


@pytest.mark.parametrize("name", [*READMES, COMMANDS_PAGE])
def test_make_targets_commands_files_and_extras_exist(name):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    mentioned = [*every(name, "commands"), *every(name, "spans")]
    made = {words[1] for words in map(str.split, mentioned) if words[0] == "make" and len(words) > 1}
    assert made >= {"demo", "test"}
    assert made <= targets
    typed = {words[1] for words in map(str.split, mentioned) if words[0] == "cyclemlp" and len(words) > 1}
    assert typed <= set(COMMANDS)
    files = {
        word
        for text in mentioned
        for word in text.split()
        if re.fullmatch(r"(configs|benchmarks|examples|docs|tests)/[^\s…]+|[a-z]+\.py", word)
    }
    expected = {"benchmarks/peers.py", "train.py"} if name in READMES else {"configs/seg/own_data.yaml"}
    assert files >= {"configs/digits.yaml", *expected}
    assert [path for path in sorted(files) if not (ROOT / path).exists()] == []


def test_every_extra_is_told():
    extras = re.search(
        r"^\[project.optional-dependencies\]\n(.*?)^\[", _pyproject(), re.DOTALL | re.MULTILINE
    )
    names = set(re.findall(r"^([a-z]+) = \[", extras[1], flags=re.MULTILINE)) - {"test", "docs"}
    section = next(s for s in sections(COMMANDS_PAGE) if s.heading == "Extras")
    told = {name for row in section.tables[0][1:] for name in re.findall(r"`(\w+)`", row[0])}
    assert len(names) >= 7
    assert told == names


def _pyproject() -> str:
    return (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_every_value_of_the_architecture_is_told():
    section = next(s for s in sections(PYTHON_PAGE) if s.heading == "Values of the architecture")
    told = {name for row in section.tables[0][1:] for name in re.findall(r"`(\w+)`", row[0])}
    assert {field.name for field in fields(CycleMLPConfig)} == told


def test_every_command_is_shown():
    """A command that is added is told on the page of the commands too."""
    shown = {line.split()[1] for line in every(COMMANDS_PAGE, "commands") if line.startswith("cyclemlp ")}
    assert shown == set(COMMANDS)


LINES = [
    *(line for name in (ENGLISH, COMMANDS_PAGE) for line in every(name, "commands")),
    *(span for name in (ENGLISH, COMMANDS_PAGE) for span in every(name, "spans") if " --" in span),
]


@pytest.mark.parametrize("line", sorted({line for line in LINES if line.startswith("cyclemlp ")}))
def test_the_parser_takes_the_line(line):
    words = shlex.split(line)[1:]
    args = build_parser(words[0]).parse_args(words)  # exits on a flag that does not exist
    assert args.command == words[0]


# ---- figures


def test_the_variants_are_those_of_the_table():
    table = next(section.tables[0] for section in sections(RESULTS_PAGE) if section.heading == "Variants")
    rows = {re.search(r"`(\w+)`", row[0])[1]: row for row in table[1:]}
    assert list(rows) == list(VARIANTS), "each variant has a row, in the order of network/variants.py"
    for name, (first, parameters, cost, top1, measured, *_) in rows.items():
        variant = VARIANTS[name]
        size = variant.preprocessing.input_size
        with paddle.LazyGuard():  # the shapes are enough
            model = cyclemlp.create_model(name)
        counted = sum(int(np.prod(p.shape)) for p in model.parameters() if not p.stop_gradient)
        assert f"(models/{name}.md)" in first
        assert parameters == f"{counted / 1e6:.1f} M"
        at = "" if variant.from_paper else f" at {size}²"
        assert (
            cost == f"{count_macs(variant.config, size, size) / 1e9:.{2 if variant.from_paper else 3}f} G{at}"
        )
        assert top1 == ("–" if variant.top1_published is None else f"{variant.top1_published:.1f}")
        expected = (
            "–"
            if variant.reproduced_top1 is None
            else f"{variant.reproduced_top1:.3f} / {variant.reproduced_top5:.3f}"
        )
        assert measured == expected


@pytest.mark.parametrize(("page", "heading"), [(ENGLISH, "Results"), (RESULTS_PAGE, "Measured here")])
def test_figures_are_those_of_the_pages_that_their_rows_link_to(page, heading):
    section = next(section for section in sections(page) if section.heading == heading)
    figures = 0
    for row in section.tables[0][1:]:
        links = re.findall(r"\]\(([^)#]+\.md)[)#]", "".join(row))
        known = "".join(((ROOT / page).parent / link).read_text(encoding="utf-8") for link in links)
        stated = re.findall(r"\d+\.\d+|\b\d{3,}\b", re.sub(r"\]\([^)]*\)", "]", row[1]))
        assert links, row
        assert [figure for figure in stated if figure not in known] == [], row
        figures += len(stated)
    assert figures >= 4


# ---- it runs


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory):
    """A folder with what the READMEs name: weights, images, a list; random, but each of the true form."""
    folder = tmp_path_factory.mktemp("readme")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CYCLEMLP_HOME", str(folder / "cache"))
        paddle.seed(0)
        model = cyclemlp.create_model("cyclemlp_b1")
        tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        write_weights(Path("b1.safetensors"), tensors, layout="authors")
        Path("b1.safetensors").rename("CycleMLP_B1.pth")  # what a file is, its content says
        Path("cache").mkdir()
        os.link("CycleMLP_B1.pth", "cache/CycleMLP_B1.pth")
        Path("configs").symlink_to(ROOT / "configs")
        generator = np.random.default_rng(0)
        labels = []
        for part in ("IMAGES/train", "IMAGES/val", "IMAGENET/train", "IMAGENET/val", "VAL", "folder"):
            for i in range(8):
                names = ("n01440764", "n01443537") if part.startswith("IMAGENET") else ("cat", "dog")
                path = Path(part) / names[i % 2] / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(generator.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path)
                if part == "VAL" and i < 2:
                    labels.append(f"{path.relative_to(part)} {i * 999}\n")
        Path("val.txt").write_text("".join(labels))
        Image.fromarray(generator.integers(0, 256, (20, 16), dtype=np.uint8)).save("photo.jpg")
        yield folder


#: Those that need no run of the commands before them.
PROGRAMS = [
    (name, program)
    for name in (
        ENGLISH,
        PYTHON_PAGE,
        "docs/index.md",
        "docs/data-formats.md",
        "docs/loading.md",
        "docs/kernels.md",
    )
    for program in every(name, "programs")
    if "runs/mine" not in program
]


@pytest.mark.parametrize(("page", "program"), PROGRAMS, ids=lambda value: value.partition("\n")[0])
def test_python_runs(stand_ins, page, program, capsys):
    names: dict[str, object] = {}
    exec(compile(program, page, "exec"), names)
    if "logits" in names:
        assert names["logits"].shape == [1, 1000]
    elif "prepare" in names:
        assert "(1, 32, 32)" in capsys.readouterr().out
    elif "select_kernels" in names:
        assert type(names["model"]) is cyclemlp.network.CycleMLP
    elif "loader" in names:
        assert "(64, 3, 32, 32) (64,)" in capsys.readouterr().out
    else:
        assert [map.shape[2:] for map in names["maps"]] == [[60, 80], [30, 40], [15, 20]]
        assert "[128, 320, 512] [8, 16, 32]" in capsys.readouterr().out
        assert names["finetune"].config.num_classes == 37


@pytest.mark.heavy
def test_commands_run_one_after_the_other(stand_ins, capfd):
    pages = (COMMANDS_PAGE, ENGLISH)  # the second's commands are among the first's, or use what those leave
    lines = dict.fromkeys(c for page in pages for c in every(page, "commands") if c.startswith("cyclemlp "))
    assert len(lines) > 15
    for line in lines:
        if line.startswith(RUN_ELSEWHERE):
            continue
        prepare = next((before for begin, before in BEFORE.items() if line.startswith(begin)), None)
        extra = next((more for begin, more in SHORTENED.items() if line.startswith(begin)), "")
        for typed in filter(None, (prepare, f"{line} {extra}")):
            words = shlex.split(typed)[1:]
            if words[0] == "serve":
                _serve(words)
                continue
            code = main(words)
            assert code == 0, f"{typed}: {capfd.readouterr().err}"
    for program in every(PYTHON_PAGE, "programs"):
        if "runs/mine" in program:
            exec(compile(program, PYTHON_PAGE, "exec"), {})
    assert len(Path("predictions/predictions.csv").read_text().splitlines()) == 10
    assert Path("exported/mine/model.onnx").is_file()
    assert Path("cyclemlp_b1.pdparams").is_file()
    assert Path("data/scenes/train.txt").is_file()


def _serve(words: list[str]) -> None:
    """Start the service, ask it for its health, end it."""
    command = [sys.executable, "-m", "cyclemlp", *words, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        try:
            address = re.search(r"at (http://\S+)/", service.stdout.readline())[1]
            with urllib.request.urlopen(f"{address}/health", timeout=30) as answer:
                assert answer.status == 200
        finally:
            service.send_signal(signal.SIGTERM)
        assert service.wait(timeout=60) == 0
