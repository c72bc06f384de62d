"""The CPUs that this process was started with, noted before any library can narrow them.

Where variables ask OpenMP to bind its threads, as some clusters set them for everybody, its runtime binds the thread
that loads it to one CPU. Asked afterwards, the system shows that one CPU, and processes started then get no other. So
the package notes the CPUs when it is imported, and takes these variables out of the environment: which CPUs compute is
for the harness to say. Only the standard library is imported here.
"""

import os

BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY", "KMP_HW_SUBSET", "KMP_PLACE_THREADS")


def _allowed() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


CPUS = _allowed()
for _name in BINDING:
    os.environ.pop(_name, None)
