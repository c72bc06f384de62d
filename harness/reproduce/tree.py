"""The source tree of a record's commit: a git worktree in the user's cache, kept for the next time."""

import re
import shutil
from pathlib import Path

from filelock import FileLock

from harness.errors import BadInput, Failure
from harness.files import cache_folder
from harness.records.provenance import git

COMMIT = re.compile(r"[0-9a-f]{40}")
MINUTES = 600.0  # seconds that git may take to check a tree out


def check_commit(commit: object) -> str:
    """The commit that a record names. BadInput where it names none, or one that no repository can hold."""
    if not isinstance(commit, str):
        raise BadInput("it names no commit of BERT Atlas, so that nobody knows what code measured it")
    if commit.endswith("+changes"):
        raise BadInput(f"its code was {commit.removesuffix('+changes')[:12]} with uncommitted changes, which are lost")
    if not COMMIT.fullmatch(commit):
        raise BadInput(f"its commit is {commit!r:.60}, which is none")
    return commit


def repository() -> Path:
    """The top folder of the repository that the command runs in."""
    found = git(Path.cwd(), "rev-parse", "--show-toplevel")
    if found is None or found.returncode:
        raise BadInput("this folder is in no git repository; change to a checkout of BERT Atlas that has the commit")
    return Path(found.stdout.strip())


def worktree(source: Path, commit: str) -> Path:
    """The tree of the commit; checked out, unless an earlier command did it.

    Only a commit that the checked out one builds on: its code is run, and any other may be a stranger's. BadInput where
    it is not there, or is no such; Failure if git cannot check it out.
    """
    short = commit[:12]
    if not _does(source, "cat-file", "-e", f"{commit}^{{commit}}"):
        raise BadInput(
            f"its commit, {short}, is not in this repository: `git fetch --unshallow` gets all of a shallow clone's, "
            "`git fetch` newer ones; a commit that was rewritten is gone"
        )
    if not _does(source, "merge-base", "--is-ancestor", commit, "HEAD"):
        raise BadInput(
            f"its commit, {short}, is here, but what is checked out does not build on it, and no other code is run; "
            "check out the branch that it belongs to, if you trust that"
        )
    folder = cache_folder() / "reproduce" / "trees" / commit
    folder.parent.mkdir(parents=True, exist_ok=True)
    whole = folder.with_name(f"{commit}.whole")
    with FileLock(f"{folder}.lock"):
        if whole.is_file() and _is_at(folder, commit):
            if changed := _changes(folder):
                raise BadInput(f"{folder} was changed since it was checked out ({changed}); delete it, and start again")
            return folder
        whole.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)  # what an interruption left
        done = git(source, "worktree", "add", "--force", "--detach", str(folder), commit, timeout=MINUTES)
        if done is None or done.returncode:
            why = " ".join(done.stderr.split())[-300:] if done else "git did not end"
            raise Failure(f"the commit {short} could not be checked out in {folder}: {why}")
        whole.touch()
    return folder


def _is_at(folder: Path, commit: str) -> bool:
    if not folder.is_dir():
        return False
    found = git(folder, "rev-parse", "--show-toplevel", "HEAD")
    if found is None or found.returncode:
        return False
    top, _, head = found.stdout.partition("\n")
    return Path(top).resolve() == folder.resolve() and head.strip() == commit


def _changes(folder: Path) -> str:
    """The first file that git sees a change of."""
    found = git(folder, "status", "--porcelain")
    return "git does not say" if found is None or found.returncode else found.stdout.partition("\n")[0].strip()


def _does(folder: Path, *arguments: str) -> bool:
    found = git(folder, *arguments)
    return found is not None and found.returncode == 0
