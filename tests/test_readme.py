"""What the documents say exists: commands parse, tables match the code, links and folders are there.

The two set-up commands themselves are run by .ci/run, which reads them out of README.md.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from edgeq import cli

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"),
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")),
]
BLOCKS = [
    block
    for name in DOCUMENTS
    for block in re.findall(r"^```sh\n(.*?)^```$", (ROOT / name).read_text(encoding="utf-8"), re.M | re.S)
]
LINES = [line.split("  #")[0] for block in BLOCKS for line in block.splitlines()]
STEPS = [step.strip() for line in LINES for step in line.split(" | ")]
EDGEQ = sorted({step.removeprefix("edgeq ") for step in STEPS if step.startswith("edgeq ")})


def parse(group: click.Group, words: list[str], parent: click.Context | None = None) -> dict[str, Any]:
    """Parse a command line down to its options, without running anything."""
    context = click.Context(group, info_name="edgeq", parent=parent, **group.context_settings)
    command = group.get_command(context, words[0])
    assert command is not None, f"there is no command {words[0]}"
    if isinstance(command, click.Group):
        return parse(command, words[1:], context)
    return command.make_context(words[0], words[1:], parent=context).params


@pytest.mark.parametrize("line", EDGEQ)
def test_commands_parse(line: str) -> None:
    params = parse(cli.cli, shlex.split(line))
    takes = [name for name in ("model", "source") if name in params]
    assert not takes or any(params[name] for name in takes)


def test_there_are_commands_to_check() -> None:
    assert len(EDGEQ) >= 6


@pytest.mark.parametrize("mark", ["install", "test"])
def test_the_setup_commands_are_where_ci_looks(mark: str) -> None:
    found = re.findall(rf"^<!-- {mark} -->\n```sh\n(.*?)```$", README, re.MULTILINE | re.DOTALL)
    assert len(found) == 1 and len(found[0].splitlines()) == 1
    assert {"install": ".venv/bin/edgeq demo", "test": "pytest"}[mark] in found[0]


def test_the_command_table_is_the_help() -> None:
    rows = re.findall(r"^\| `edgeq (\w+)` \| (.*) \|$", README, re.MULTILINE)
    assert dict(rows) == cli.COMMANDS


def test_families_and_schemes_are_all_there() -> None:
    from edgeq.formats import SCHEMES
    from edgeq.models import family_names

    rows = [line for line in README.splitlines() if line.startswith("| `")]
    named = {word for row in rows for word in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert set(family_names()) <= named
    assert set(SCHEMES) - {"bytes"} <= named


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_and_paths_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", text)
    paths = re.findall(r"`((?:formats|converters|edgeq|tests|bench|docs)/[\w./-]*)`", text)
    found = [(ROOT / name).parent / link for link in links] + [ROOT / path for path in paths]
    assert not [path for path in found if "NAME" not in path.name and not path.exists()]
