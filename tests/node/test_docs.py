"""The documentation is true: every command in it exists with its options, every link leads somewhere, the site builds."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from radnode.cli import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
COMMAND = re.compile(r"radnode ((?:[a-z][a-z0-9-]*)(?: [a-z][a-z-]*)*)((?: [^`\n|]*)?)")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def commands(text: str) -> set[tuple[str, str]]:
    """(words, the rest of the line) of every command in code: `radnode ...` or a line of a code block."""
    code = re.findall(r"`(?:\.venv/bin/)?(radnode [^`]+)`", text)
    for block in re.findall(r"```\w*\n(.*?)```", text, re.DOTALL):
        code += [line for line in block.splitlines() if line.removeprefix(".venv/bin/").startswith("radnode ")]
    return {(found.group(1), found.group(2)) for c in code if (found := COMMAND.match(c.replace(".venv/bin/", "")))}


def resolve(words: str) -> tuple[click.Command | None, list[str]]:
    """The command that the words name, as far as they do; the names on the way."""
    at: click.Command | None = cli
    names: list[str] = []
    for word in words.split():
        if not isinstance(at, click.Group):
            break
        at = at.get_command(click.Context(at), word)
        names.append(word)
        if at is None:
            break
    return at, names


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_in_the_documentation_exists_with_its_options(page: Path) -> None:
    for words, rest in sorted(commands(page.read_text())):
        command, names = resolve(words)
        assert command is not None, f"{page.name}: radnode {words}"
        known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
        used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest))
        assert used <= known, f"{page.name}: radnode {' '.join(names)} has no {used - known}"


def test_every_command_named_in_the_documentation_helps() -> None:
    every = {w for page in PAGES for w, _ in commands(page.read_text())}
    names = {tuple(resolve(words)[1]) for words in every}
    assert len(names) > 20
    for name in sorted(names):
        said = CliRunner().invoke(cli, [*name, "--help"])
        assert said.exit_code == 0 and said.output.lower().startswith("usage:"), name


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if not link.startswith(("http:", "https:", "mailto:", "#")):
            assert (page.parent / link.partition("#")[0]).exists(), link


def test_every_file_of_deploy_that_the_documentation_names_is_there() -> None:
    for page in PAGES:
        for name in re.findall(r"`(deploy/[\w./-]+)`", page.read_text()):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_every_test_that_the_documentation_names_is_there() -> None:
    files = list((ROOT / "tests").rglob("test_*.py"))
    there = {name for file in files for name in re.findall(r"def (test_\w+)", file.read_text())}
    named = {name for page in PAGES for name in re.findall(r"`(test_\w+(?:\.\.\.|\.py)?)`", page.read_text())}
    assert len(named) > 30
    for name in named:
        if name.endswith(".py"):
            assert name in {f.name for f in files}, name
        elif name.endswith("..."):
            assert any(t.startswith(name.removesuffix("...")) for t in there), name
        else:
            assert name in there, name


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Restoring" in (tmp_path / "site" / "running.html").read_text()
