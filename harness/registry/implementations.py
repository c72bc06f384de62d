"""What an implementation is to the harness: a file that describes itself, and a model that it loads.

Each file under ``harness/implementations/`` has, as plain constants, NAME, TITLE, CATALOG_ID, VARIANTS and
DEVIATIONS, its requirements as a PEP 723 header, and ``load(folder, head, device, precision, variant)``.
One that only exists as a repository has CHECKOUT, its address: the user's copy is put on the path first.
One that is a program rather than a model has JOB, the tasks that it does, and ``job(...)`` instead of ``load``.
BY_NAME lists variants that "all" leaves out, as they take too long to start.
The constants are read without importing the file, so that listing needs none of its requirements.
Another package adds its own file through the entry-point group ``bert_atlas.implementations``.
"""

import ast
import difflib
import importlib.machinery
import importlib.metadata
import importlib.util
import re
import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol

from harness.errors import BadInput
from harness.file_cache import per_file
from harness.port.batch import Batch
from harness.records.code import parse
from harness.worker.messages import Array

FOLDER = Path(__file__).parents[1] / "implementations"
ENTRY_POINTS = "bert_atlas.implementations"


class Model(Protocol):
    """A loaded model. ``encode`` is enough; one that also has ``module`` and ``logits`` can be trained.

    It may also have ``layers(batch)``, hidden states [tokens, hidden] of the embeddings and after each layer,
    ``precision``, where a variant computes in one of its own, ``computed``, where products are computed in another than
    that, ``native``: its compiled functions, compiler, and the reason where there are none, ``cast(precision)``, where
    torch's own is not enough, ``tokens``: how many at a time suit a packed one, and ``processes()``, ids of those that
    compute for it besides its own: their CPU time and memory count as the model's.
    """

    batching: Literal["packed", "padded"]  # how its users feed it: by token budget, or in rectangles
    version: str  # of the package that computes

    def encode(self, batch: Batch) -> Any:
        """Hidden states of the last layer, wherever and however this implementation keeps them."""

    def fetch(self, encoded: Any, batch: Batch) -> Array:
        """Those of the real tokens, [tokens, hidden], as a numpy array."""

    def pooled(self, encoded: Any, batch: Batch) -> Array | None:
        """The pooler's output [sequences, hidden], or None where there is no pooler."""

    def synchronize(self) -> None:
        """Return when the device has finished what was asked of it."""


class Trainable(Model, Protocol):
    """A model with a head that the harness's loop can train.

    It may also say ``embeddings``, the module that holds its word table as ``word``: then only those rows of it are
    trained that the data asks for (``harness.worker.used_words``). And it may have
    ``mixed_adamw(groups, lr, max_grad_norm)``, an optimizer for products in bfloat16, such as
    ``reference.adamw.MixedAdamW``, or None where it has none.
    """

    module: Any  # the torch.nn.Module whose parameters are trained

    def logits(self, batch: Batch) -> Any:
        """Differentiable torch tensor: [sequences, labels], or [tokens, labels] for the head "tagging"."""

    def export(self) -> dict[str, Array]:
        """All weights under Hugging Face's names, float32."""


@dataclass(frozen=True)
class Requirements:
    """What a PEP 723 header asks for; the second part stands in its table ``[tool.bert-atlas]``."""

    python: str  # versions of Python, as "requires-python" has them
    packages: tuple[str, ...]
    no_deps: bool = False  # install these packages and nothing that they ask for in turn
    build: tuple[str, ...] = ()  # packages that building the others needs, where these do not say so themselves


@dataclass(frozen=True)
class Implementation:
    """What a file says of its implementation."""

    name: str  # as the command line has it, with ":variant" where there are several
    title: str
    catalog_id: str  # of its entry in the catalog
    deviations: dict[str, str]  # known differences from the original BERT: which, and what it does
    requirements: Requirements
    file: Path
    variant: str  # "" for the default
    checkout: str | None = None  # address of the repository that it is used from
    job: tuple[str, ...] = ()  # tasks that it does as a program of its own
    by_name: bool = False  # it takes part only where it is named


def implementations() -> dict[str, Implementation]:
    """All that can be named, by name; none of them is imported. BadInput where two files take one name."""
    files = sorted(path for path in FOLDER.glob("*.py") if path.stem != "__init__")
    files += _files_of_others(tuple(sys.path))
    known: dict[str, Implementation] = {}
    for each in (each for file in files for each in describe(file)):
        if known.setdefault(each.name, each) is not each:
            raise BadInput(f"{each.file}: the name {each.name!r} is that of {known[each.name].file}; choose another")
    return known


@cache
def _files_of_others(path: tuple[str, ...]) -> list[Path]:
    """The files that packages on this search path name; looked for once, as every installed package is asked."""
    found = (_source_of(entry.module) for entry in importlib.metadata.entry_points(group=ENTRY_POINTS))
    return [file for file in found if file is not None]


def _source_of(module: str) -> Path | None:
    """The file of a module, found without importing the packages that it stands in."""
    top, *inner = module.split(".")
    spec = importlib.util.find_spec(top)
    for name in inner:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, spec.submodule_search_locations)
    return Path(spec.origin) if spec is not None and spec.origin else None


def find(name: str) -> Implementation:
    """The implementation of this name; BadInput with the nearest one if there is none."""
    known = implementations()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise BadInput(f"no implementation is called {name!r}{hint} (known: {', '.join(known)})")
    return known[name]


@per_file
def describe(file: Path) -> list[Implementation]:
    """Read a file's constants and header; one entry for each variant, the default first.

    BadInput where the file is not Python, its header not TOML, or a constant is missing.
    """
    try:
        source = file.read_text(encoding="utf-8")
        constants = {"VARIANTS": {}, "DEVIATIONS": {}, **_constants(source)}
        needed = requirements(source)
    except (SyntaxError, ValueError) as error:
        raise BadInput(f"{file}: not an implementation file: {error}") from error
    missing = [name for name in ("NAME", "TITLE", "CATALOG_ID") if name not in constants]
    if missing:
        raise BadInput(f"{file}: an implementation file must say {', '.join(missing)}")
    return [
        Implementation(
            name=constants["NAME"] + (f":{variant}" if variant else ""),
            title=constants["TITLE"] + (f", {text}" if text else ""),
            catalog_id=constants["CATALOG_ID"],
            deviations=constants["DEVIATIONS"],
            requirements=needed,
            file=file,
            variant=variant,
            checkout=constants.get("CHECKOUT"),
            job=tuple(constants.get("JOB", ())),
            by_name=variant in constants.get("BY_NAME", ()),
        )
        for variant, text in {"": "", **constants["VARIANTS"]}.items()
    ]


def _constants(source: str) -> dict[str, Any]:
    """The constants at a file's top level, with a type annotation or without."""
    constants = {}
    for node in parse(source).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        if isinstance(target, ast.Name) and target.id.isupper():
            try:
                constants[target.id] = ast.literal_eval(node.value)
            except (ValueError, TypeError):
                continue  # a computed constant is the file's own business
    return constants


def requirements(source: str) -> Requirements:
    """What the PEP 723 header of a file asks for; nothing where there is none."""
    block = re.search(r"(?m)^# /// script\n((?:#.*\n)+?)# ///$", source)
    values = tomllib.loads(re.sub(r"(?m)^# ?", "", block[1])) if block else {}
    own = values.get("tool", {}).get("bert-atlas", {})
    return Requirements(
        python=values.get("requires-python", ""),
        packages=tuple(values.get("dependencies", ())),
        no_deps=bool(own.get("no-deps", False)),
        build=tuple(own.get("build", ())),
    )
