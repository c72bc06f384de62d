"""Reports the variables that libraries read."""

import os
import re
from typing import Any

NAME = "variables"
TITLE = "Variables"
CATALOG_ID = "variables"
ASKED = "MP_|TF32|FPMATH|VERBOSE|BLOCKING|DYNAMO|PYTHONMALLOC|SOME_SETTING"


class Model:
    batching = "packed"
    version = " ".join(sorted(f"{name}={value}" for name, value in os.environ.items() if re.search(ASKED, name)))


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Any:
    return Model()
