"""The image and the unit of the service: what they copy exists, and the commands that they start are ours."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

import harness.cli

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = ROOT / "deploy/Dockerfile"
UNIT = ROOT / "deploy/bert-atlas.service"


def copied() -> list[str]:
    """What the Dockerfile takes from the tree."""
    lines = re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE.read_text(), re.MULTILINE)
    return [name for line in lines for name in line.split()[:-1]]


def check_options(arguments: list[str]) -> None:
    """The arguments of ``serve`` are options that it has; their values are not looked at."""
    serve = get_command(harness.cli.app).commands["serve"]  # type: ignore[attr-defined]
    known = {name for parameter in serve.params for name in parameter.opts}
    assert arguments[0] == "serve"
    assert {each for each in arguments if each.startswith("--")} <= known


def test_the_image_is_made_of_files_that_exist_and_of_every_package() -> None:
    for name in copied():
        assert (ROOT / name).exists(), name
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages <= set(copied())
    ignored = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text()
    kept = set(re.findall(r"^!(.+)$", ignored, re.MULTILINE))
    assert kept == set(copied())


def test_the_image_starts_our_service_as_a_user_without_rights() -> None:
    text = DOCKERFILE.read_text()
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)
    program, *arguments = json.loads(entry)
    assert program == "bert-atlas"
    check_options(arguments)
    assert text.index("\nUSER 10001\n") < text.index("\nENTRYPOINT ")
    assert arguments[arguments.index("--port") + 1] in re.findall(r"^EXPOSE (.*)$", text, re.MULTILINE)


def test_the_unit_starts_our_service() -> None:
    (command,) = re.findall(r"^ExecStart=(.*)$", UNIT.read_text(), re.MULTILINE)
    program, *arguments = command.split()
    assert Path(program).name == "bert-atlas"
    check_options(arguments)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/bert-atlas/bin/bert-atlas", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert unit.name not in done.stderr, done.stderr
