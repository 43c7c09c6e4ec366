"""What the site takes from outside of docs/, while it is built (`make docs`).

- Pages that lie elsewhere because they are read elsewhere: CHANGELOG.md, CONTRIBUTING.md, README.zh-CN.md.
- The reference of the commands: what each `--help` says.
- Links to files of the repository, which the site does not have: their text stays, and the file must be there.

The language of a page, its buttons and its search field is that of its text.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page
from pydantic.fields import FieldInfo

from cyclemlp.cli.main import COMMANDS, build_parser
from cyclemlp.config import Config, describe, plain_values
from cyclemlp.report import markdown_table
from cyclemlp.training import Recipe

log = logging.getLogger("mkdocs.plugins.cyclemlp")  # under mkdocs', so that warnings end a strict build

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
ROOT_PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "README.zh-CN.md")
COMMANDS_PAGE = "reference/commands.md"
RECIPE_PAGE = "reference/recipe.md"
RECIPE_INTRODUCTION = """# The recipe

Every key of a recipe, from the classes that declare it. [Training](../training.md#the-recipe) says how a recipe is
used; `cyclemlp train --show-recipe` prints one with these comments.
"""
COMMANDS_INTRODUCTION = """# Commands

What `cyclemlp COMMAND --help` says. Exit codes: 0 done, 1 the work itself failed, 2 the input was at fault, 130 stopped
by Ctrl-C.
"""
#: Columns of the help texts, for which `site.css` leaves room.
HELP_WIDTH = 92
FENCE = re.compile(r"^( *)(`{3,}).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!\w+:)([^()\s#]+)(#[^()\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that do not lie in docs/."""
    logging.getLogger("jieba").setLevel(logging.WARNING)  # it says how long its dictionary took to load
    for name in ROOT_PAGES:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    files.append(File.generated(config, COMMANDS_PAGE, content=command_reference()))
    files.append(File.generated(config, RECIPE_PAGE, content=recipe_reference()))
    return files


def recipe_reference() -> str:
    """The page of the recipe's keys: a table a section."""
    text = RECIPE_INTRODUCTION
    for name, section in Recipe.model_fields.items():
        rows = [
            [f"`{key}`", f"`{json.dumps(default, ensure_ascii=False)}`", describe(field), field.description]
            for key, field, default in fields_of(section.annotation, name)
        ]
        text += f"\n## {name}\n\n{section.annotation.__doc__}\n\n"
        text += markdown_table(["key", "default", "takes", ""], rows) + "\n"
    return text


def fields_of(section: type[Config], prefix: str) -> Iterator[tuple[str, FieldInfo, Any]]:
    """Dotted key, field and default of each value of a config, those of nested ones too."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Config):
            yield from fields_of(field.annotation, f"{prefix}.{name}")
        else:
            yield f"{prefix}.{name}", field, plain_values(field.get_default())


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Write links and images of the repository as those of the site; those that leave it become their text."""
    name = page.file.src_uri
    folder = ROOT if name in ROOT_PAGES else (DOCS / name).parent

    def replace(link: re.Match[str]) -> str:
        mark, text, target, anchor = link[1], link[2], link[3], link[4] or ""
        place = Path(os.path.normpath(folder / target))
        uri = in_site(place)
        if uri is not None:
            return f"{mark}[{text}]({os.path.relpath(uri, Path(name).parent)}{anchor})"
        if not place.exists():
            log.warning("%s links to %s, which is not in the repository", name, target)
        return text

    return outside_of_code(markdown, lambda part: LINK.sub(replace, part))


def on_page_context(
    context: dict[str, Any], page: Page, config: MkDocsConfig, nav: Navigation
) -> dict[str, Any]:
    """Write what the theme says, and `<html lang>`, in the page's language."""
    name = page.file.src_uri
    config.theme["language"] = "zh" if name.startswith("zh/") or name == "README.zh-CN.md" else "en"
    return context


def in_site(place: Path) -> str | None:
    """The page or image of the site that a file of the repository becomes, if it does."""
    if place.is_relative_to(DOCS):
        return place.relative_to(DOCS).as_posix()
    if place == ROOT / "README.md":
        return "index.md"
    return place.name if place.parent == ROOT and place.name in ROOT_PAGES else None


def outside_of_code(markdown: str, change: Callable[[str], str]) -> str:
    """Apply `change` to what stands between fenced blocks."""
    parts, end = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [change(markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, change(markdown[end:])])


def command_reference() -> str:
    """A section a command, and one a sub-command, each with its help."""
    os.environ["COLUMNS"] = str(HELP_WIDTH)  # which argparse asks
    parts = [COMMANDS_INTRODUCTION]
    for command in COMMANDS:
        parser = subparsers(build_parser(command))[command]
        parts.append(section(2, parser))
        parts += [section(3, sub) for sub in subparsers(parser).values()]
    return "\n".join(parts)


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of a parser's sub-commands, by name."""
    for action in parser._actions:  # argparse has no public way to them
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def section(level: int, parser: argparse.ArgumentParser) -> str:
    """A heading and the help under it."""
    return f"{'#' * level} {parser.prog}\n\n```text\n{parser.format_help().rstrip()}\n```\n"
