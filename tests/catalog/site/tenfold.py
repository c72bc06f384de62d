"""Builds the site from ten times the published results: ``python tests/catalog/site/tenfold.py``.

Prints the CPU seconds of each step and the largest pages; exit code 1 if together the steps take more than LIMIT, or a
page of results more than BYTES. CPU time, because it hardly depends on what else the machine does.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import Any

ROOT = Path(__file__).parents[3]
TIMES = 10
LIMIT = 90.0  # CPU seconds for the pages and both languages
BYTES = 200_000
RESULTS = ("boards/*", "tasks/*", "entries/*", "records*", "index", "leaderboard", "training", "quality")


def enlarged(index: dict[str, Any]) -> dict[str, Any]:
    """The index with each record and score on TIMES machines, which differ in name, and as many commits."""
    records, scores = [], []
    for number in range(TIMES):
        for each in index["records"]:
            key, commit = (hashlib.sha256(f"{number}{each[name]}".encode()).hexdigest() for name in ("key", "commit"))
            machine = {**each["machine"], "cpu": f"{each['machine']['cpu']} no. {number}"}
            hardware = f"{each['hardware']} no. {number}"
            records.append({**each, "key": key, "commit": commit[:40], "machine": machine, "hardware": hardware})
        scores += [{**each, "hardware": f"{each['hardware']} no. {number}"} for each in index["scores"]]
    against = [
        {**each, "hardware": f"{each['hardware']} no. {number}"} for number in range(TIMES) for each in index["against"]
    ]
    return {**index, "records": records, "scores": scores, "against": against}


def main() -> int:
    """Build, print what each step took, and compare the sum with the limit."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        index = folder / "index.json"
        subprocess.run([sys.executable, "-m", "harness", "index", "--output", index], cwd=ROOT, check=True)
        index.write_text(json.dumps(enlarged(json.loads(index.read_text("utf-8")))), "utf-8")
        pages = ["catalog", "build", "--results", index, "--output", folder / "docs"]
        steps: list[list[Any]] = [pages]
        for language, file in (("en", "mkdocs.yml"), ("zh", "mkdocs.zh.yml")):
            config = folder / file
            text = f"INHERIT: {ROOT / file}\ndocs_dir: {folder / 'docs' / language}\n"
            theme = f"theme: {{custom_dir: {ROOT / 'docs/overrides'}}}\n"
            config.write_text(f"{text}site_dir: {folder / 'site' / language}\n{theme}", "utf-8")
            steps.append(["mkdocs", "build", "--quiet", "--strict", "--config-file", config])
        total = 0.0
        for step in steps:
            before = getrusage(RUSAGE_CHILDREN)
            environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
            subprocess.run([sys.executable, "-m", *map(str, step)], cwd=ROOT, env=environment, check=True)
            after = getrusage(RUSAGE_CHILDREN)
            took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            total += took
            print(f"{took:5.1f} s  {' '.join(map(str, step))}", flush=True)
        sizes = {path: path.stat().st_size for name in RESULTS for path in (folder / "site").glob(f"*/{name}.html")}
        for path in sorted(sizes, key=lambda path: -sizes[path])[:5]:
            print(f"{sizes[path]:9,} bytes  {path.relative_to(folder / 'site')}")
    print(f"{total:5.1f} s of CPU time; the limit is {LIMIT:.0f} s")
    return int(total > LIMIT or max(sizes.values()) > BYTES)


if __name__ == "__main__":
    sys.exit(main())
