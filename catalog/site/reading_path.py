"""The reading path: twenty works for a beginner, in order, with the reason for each."""

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from catalog.errors import BadInput

FILE = Path(__file__).parents[1] / "reading-path.yaml"


class Work(BaseModel):
    """An entry on the path, and why it comes there."""

    model_config = ConfigDict(extra="forbid")

    id: str
    en: str
    zh: str


def read_path(file: Path = FILE) -> list[Work]:
    """The works in order. BadInput for a file of another form."""
    try:
        return TypeAdapter(list[Work]).validate_python(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise BadInput(f"{file}: {error}") from error
