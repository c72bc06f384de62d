"""Where a record comes from: versions, git commit and command line.

Records are published: they hold no user name and no path.
"""

import importlib.metadata
import os
import re
import shlex
import subprocess
from functools import cache
from pathlib import Path

from harness import __version__
from harness.files import home_folder
from harness.records.machine import completed

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "scipy", "scikit-learn", "seqeval")


# -- versions --


def versions() -> dict[str, str]:
    """Versions of BERT Atlas and of the installed packages that results depend on, by name."""
    found = {"bert-atlas": __version__}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@cache
def git_commit() -> str | None:
    """The commit of this source tree, with "+changes" if its code differs; None outside a checkout."""
    # Only code that computes: results that have just been published must not count as changes.
    return _commit_at(ROOT, "--", "harness", "reference", "pyproject.toml")


def commit_of(folder: Path) -> str | None:
    """The commit of a repository, with "+changes" if its files differ; None: not a repository."""
    return _commit_at(folder, "--untracked-files=no")


def _commit_at(folder: Path, *changed: str) -> str | None:
    """The commit of a repository, with "+changes" if ``git status`` with these arguments shows some.

    None if the folder is not the top of a repository.
    """
    found = git(folder, "rev-parse", "--show-toplevel", "HEAD")
    if found is None or found.returncode:
        return None
    top, _, commit = found.stdout.partition("\n")
    if Path(top).resolve() != folder.resolve():
        return None
    changes = git(folder, "status", "--porcelain", *changed)
    clean = changes is not None and changes.returncode == 0 and not changes.stdout  # if unknown, it is not clean
    return commit.strip() + ("" if clean else "+changes")


def git_refusal(folder: Path) -> str | None:
    """Why git refuses to name the commit of a repository, and what to do; None: it names it, or there is none."""
    found = git(folder, "rev-parse", "HEAD")
    if found is None or found.returncode == 0 or "not a git repository" in found.stderr:
        return None
    if "dubious ownership" in found.stderr:
        said = re.search(r"safe\.directory (.+)", found.stderr)
        where = said[1].strip() if said else shlex.quote(str(folder.resolve()))
        return (
            f"git does not read {where}, as it belongs to another user; `git config --global --add safe.directory "
            f"{where}` allows it (without a home folder: GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory "
            f"GIT_CONFIG_VALUE_0={where})"
        )
    return f"git says: {' '.join(found.stderr.split())[:300]}"


def git(folder: Path, *arguments: str, timeout: float = 30) -> subprocess.CompletedProcess[str] | None:
    """Run git in a folder; None if it does not exist or takes longer than ``timeout`` seconds."""
    # In a hook, git sets GIT_DIR and other variables that point to another repository. GIT_CONFIG_COUNT and the like
    # are kept, because they may say which repositories git may read.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or "CONFIG" in name}
    variables = kept | {"LC_ALL": "C"}
    return completed("git", "--no-optional-locks", "-C", str(folder), *arguments, env=variables, timeout=timeout)


# -- the command --


def command(argv: list[str], folders: dict[str, Path]) -> str:
    """The command line for a record: quoted for the shell, and without folders of this machine.

    ``folders`` maps names of environment variables to folders. A path in one of them becomes ``$NAME/...``, a path in
    the home folder ``~/...``, and any other absolute path ``.../<its last part>``.
    """
    home = home_folder()
    named = {f"${name}": folder for name, folder in folders.items()} | ({"~": home} if home else {})
    known = [(path, name) for name, folder in named.items() for path in (folder.absolute(), folder.resolve())]
    known = [each for each in known if each[0] != Path(each[0].anchor)]
    known.sort(key=lambda each: -len(each[0].parts))  # the innermost first
    return " ".join(_public_argument(argument, known) for argument in argv)


def _public_argument(argument: str, known: list[tuple[Path, str]]) -> str:
    option, value = re.match(r"(--[\w-]+=)?(.*)", argument, re.DOTALL).groups("")  # type: ignore[union-attr]
    if not value:
        return option or "''"
    return option + ",".join(_public_path(part, known) for part in value.split(","))


def _public_path(text: str, known: list[tuple[Path, str]]) -> str:
    """``text``, quoted, if it does not lead out of the working folder; else the path without private folders."""
    if not text.startswith(("/", "~")) and ".." not in Path(text).parts:
        return shlex.quote(text) if text else ""
    path = Path(os.path.abspath(os.path.expanduser(text)))  # noqa: PTH100, PTH111 - pathlib keeps the ".."
    for candidate in (path, path.resolve()):
        for folder, name in known:
            if candidate.is_relative_to(folder):
                inside = candidate.relative_to(folder).as_posix()
                return name if inside == "." else f"{name}/{shlex.quote(inside)}"
    return f".../{shlex.quote(path.name)}" if path.name else "/"
