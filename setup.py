"""Compiles our C++ into a wheel, once for each level of the processor, so that its users need no compiler.

``pip wheel .`` with g++, or the compiler in ``CXX``, gives a wheel for this system. Without a compiler, and on systems
that have no compiled code, it gives one for all systems, which compiles on first use where there is a compiler. Nothing
is compiled for an editable installation, whose source may change.
"""

import platform
import subprocess
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))

from reference.compile import IN_WHEEL, LEVEL_OPTIONS, OPTIONS, X86_OPTIONS, NotCompiled, compiler  # noqa: E402

SOURCES = ("native_layers.cpp", "adamw.cpp")


def compiler_here() -> tuple[list[str], str] | None:
    """The command of the compiler and its name; None without one, or where our code is not made for the processor."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return None
    try:
        return compiler()
    except NotCompiled:
        return None


class BuildWithLibraries(build_py):
    """Adds the libraries to the packages."""

    def run(self) -> None:
        super().run()
        found = compiler_here()
        if found is None or self.editable_mode:
            return
        command, name = found
        folder = Path(self.build_lib) / IN_WHEEL.relative_to(ROOT)
        folder.mkdir(parents=True, exist_ok=True)
        for level, options in LEVEL_OPTIONS.items():
            for source in SOURCES:
                target = folder / f"{Path(source).stem}-{level}.so"
                done = subprocess.run(
                    [*command, *OPTIONS, *X86_OPTIONS, *options, str(ROOT / "reference" / source), "-o", str(target)]
                )
                if done.returncode != 0:
                    print(
                        f"{name} does not compile {source} for {level}; the wheel is made without it", file=sys.stderr
                    )
                    target.unlink(missing_ok=True)
        (folder / "compiler.txt").write_text(f"{name}\n", encoding="utf-8")


class WithLibraries(Distribution):
    """A distribution for this system alone, if it has libraries."""

    def has_ext_modules(self) -> bool:
        return compiler_here() is not None


class ForAnyPython(bdist_wheel):
    """The libraries do not depend on the version of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        return ("py3", "none", super().get_tag()[2])


setup(
    cmdclass={"build_py": BuildWithLibraries, "bdist_wheel": ForAnyPython},
    distclass=WithLibraries,
)
