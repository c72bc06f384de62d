"""The harness's side of a worker: starts the child process, sends it commands, waits for answers, and cleans up.

``harness.worker.session.Session`` is the other side. Waiting sleeps in the kernel, so that it costs no CPU time.
"""

import contextlib
import logging
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, NamedTuple, NotRequired, Self, TypedDict, TypeVar, cast

import numpy as np

from harness.errors import DISK, MEMORY, Failure
from harness.port.batch import Array, Batch
from harness.port.process import command
from harness.records.machine import cpus_for
from harness.registry.implementations import Implementation
from harness.worker.messages import ProtocolError, receive, send

ROOT = Path(__file__).parents[2]
# Variables that a shell or a cluster may have set for other work, and that no record shows: the number of threads,
# their CPUs and how they wait (``Session.load`` sets the threads, and replaces OMP_NUM_THREADS); float32 products in
# lower precision; code that is not compiled, that waits for each kernel, or that is traced.
OURS = re.compile(
    r"(?!OMP_NUM_THREADS$|KMP_DUPLICATE_LIB_OK$)(OMP|GOMP|KMP)_|(MKL_(DYNAMIC|DOMAIN_NUM_THREADS|VERBOSE)"
    r"|(ONEDNN|DNNL)_(DEFAULT_FPMATH_MODE|VERBOSE)|NVIDIA_TF32_OVERRIDE|TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"
    r"|TORCHDYNAMO_DISABLE|PYTORCH_JIT|PYTORCH_NO_CUDA_MEMORY_CACHING|CUDA_LAUNCH_BLOCKING|TF_ENABLE_ONEDNN_OPTS"
    r"|PYTHON(DEVMODE|MALLOC|TRACEMALLOC))$"
)
LOAD_TIMEOUT = 600.0  # seconds; a cold import of a large framework from a slow disk takes minutes
GRACE = 2.0  # seconds in which the processes that train one model may all report why they failed
Progress = Callable[..., None]
T = TypeVar("T")


class Loaded(TypedDict):
    """What a worker says of the model that it has loaded."""

    version: str  # of the package that computes
    batching: Literal["packed", "padded"]
    trainable: bool
    precision: str
    computed: str  # the precision of matrix products
    compiled: NotRequired[dict[str, Any]]  # its compiled functions, compiler, and the reason where there are none
    seconds: float  # that loading took


class Encoded(NamedTuple):
    hidden: Array  # [tokens, hidden]
    pooled: Array | None  # [sequences, hidden]; None without a pooler


class Seconds(NamedTuple):
    wall: Array  # [repeats]
    cpu: Array  # [repeats]


class Epoch(NamedTuple):
    loss: float  # mean
    wall: float  # seconds
    cpu: float  # seconds


class Gradients(NamedTuple):
    loss: float  # mean
    dropout: bool  # whether training applies dropout to the batch
    arrays: dict[str, Array]  # by Hugging Face's names


class Trace(NamedTuple):
    """Some entries of every weight while an implementation's optimizer trains (``harness.worker.training_steps``)."""

    weights: dict[str, tuple[int, int]]  # number of entries and of dimensions, by name, in order
    entries: Array  # [steps + 1, n] before each step, and after the last
    gradients: Array  # [steps, n]
    norm: Array  # [steps] of all gradients together
    norms: Array  # [steps, weights] of each weight's gradient


class Trained(NamedTuple):
    weights: dict[str, Array]  # by Hugging Face's names
    losses: list[float]  # before each step
    trace: Trace | None  # None for an implementation without an optimizer, which is trained as in fine-tuning


class Job(NamedTuple):
    version: str
    recipe: Any
    predictions: dict[str, list[Any]]  # by split


_living: "set[Worker]" = set()  # started and not yet closed


class WorkerError(Exception):
    """An implementation failed. ``kind`` says how, ``stderr`` has its last lines, ``doing`` is the command."""

    def __init__(self, message: str, kind: str, stderr: str = "", doing: str = "") -> None:
        super().__init__(message)
        self.kind, self.stderr, self.doing = kind, stderr, doing

    @property
    def state(self) -> str:
        """The state of the record: "skipped" if ``load`` raised NotImplementedError, else "failed".

        Later a NotImplementedError is a failure: PyTorch raises it for missing kernels.
        """
        return "skipped" if self.doing == "load" and self.kind == "NotImplementedError" else "failed"

    @property
    def out_of_memory(self) -> bool:
        return self.kind == MEMORY


class Worker:
    """The child process of one implementation, in our interpreter or another. Use it in a ``with`` block."""

    def __init__(
        self,
        implementation: Implementation,
        python: str | Path = sys.executable,
        checkout: Path | None = None,
        beside_others: bool = False,
    ) -> None:
        """Start the process. ``beside_others``: it shares its cores, so its threads must not spin while they wait."""
        self.implementation, self.checkout = implementation, checkout
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        try:
            self._process = subprocess.Popen(
                _command(str(python), implementation.file),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=_variables(str(python)) | ({"OMP_WAIT_POLICY": "passive"} if beside_others else {}),
                start_new_session=True,  # Ctrl-C reaches the harness, which then ends the worker
            )
        except OSError as error:
            self._stderr.close()
            said = f"{python} could not be started: {error.strerror}; create its environment again with `env create`"
            raise WorkerError(f"{implementation.name}: {said}", "environment") from error
        assert self._process.stdin is not None
        self._requests = cast(BinaryIO, self._process.stdin)
        self._interrupted = False
        self.rank, self.world = 0, 1  # of the processes that train one model
        _living.add(self)
        self.info = cast(Loaded, {})  # filled by ``load``

    @property
    def alive(self) -> bool:
        """Whether it can still be given commands."""
        return not self._stderr.closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def load(self, folder: Path, head: str | None, device: str, precision: str, threads: int | None) -> None:
        """Load weights, with a head of kind ``head`` or none; ``info`` then says what is loaded."""
        answer, _ = self._ask(
            "load",
            timeout=LOAD_TIMEOUT,
            folder=str(folder),
            head=head,
            device=device,
            precision=precision,
            variant=self.implementation.variant,
            threads=threads,
            cpus=self._cpus(threads),
            checkout=self._checkout,
        )
        self.info = cast(Loaded, answer)

    def encode(self, batch: Batch) -> Encoded:
        """Hidden states of the last layer, and the pooler's output."""
        _, arrays = self._ask("encode", batch=batch)
        return Encoded(arrays["hidden"], arrays.get("pooled"))

    def layers(self, batch: Batch) -> list[Array]:
        """Hidden states [tokens, hidden] of the embeddings and after each layer; empty if the model hides them."""
        answer, arrays = self._ask("layers", batch=batch)
        return [arrays[str(number)] for number in range(answer["layers"])]

    def tokenize(self, texts: list[str]) -> list[list[int] | None] | None:
        """Word piece ids of each text, None for a text that the tokenizer fails at; None without a tokenizer."""
        answer, _ = self._ask("tokenize", texts=texts)
        ids: list[list[int] | None] | None = answer["ids"]
        return ids

    def job(
        self,
        weights: Path,
        task: dict[str, Any],
        splits: dict[str, list[dict[str, Any]]],
        out: Path,
        threads: int | None,
        on_progress: Progress,
    ) -> Job:
        """Run the program on a task; ``on_progress(what, done, total)``."""
        answer, _ = self._ask(
            "job",
            on_progress,
            weights=str(weights),
            task=task,
            splits=splits,
            out=str(out),
            threads=threads,
            cpus=cpus_for(threads),
            checkout=self._checkout,
        )
        return Job(answer["version"], answer["recipe"], answer["predictions"])

    def predict(self, batch: Batch, kind: str, batch_tokens: int, on_progress: Progress | None = None) -> Array:
        """Logits [sequences, labels], or [tokens, labels] for kinds in ``OF_TOKENS``.

        ``on_progress(done, total)`` counts sequences.
        """
        return self._ask("predict", on_progress, batch=batch, kind=kind, batch_tokens=batch_tokens)[1]["logits"]

    def log_probabilities(
        self, batch: Batch, mask_id: int, batch_tokens: int, on_progress: Progress | None = None
    ) -> Array:
        """The logarithm of each token's probability where it alone is masked, [tokens]; 0 for [CLS] and [SEP].

        The model must be loaded with the head "masked-lm". ``on_progress(done, total)`` counts sequences.
        """
        _, arrays = self._ask("log_probabilities", on_progress, batch=batch, mask_id=mask_id, batch_tokens=batch_tokens)
        return arrays["logarithms"]

    def join(self, meeting: Path, rank: int, world: int) -> None:
        """Train together with the other workers that meet at this file; see ``DataParallel``."""
        self._ask("join", meeting=str(meeting), rank=rank, world=world)

    def start_training(
        self, batch: Batch, labels: Array, recipe: dict[str, Any], kind: str, seed: int
    ) -> dict[str, Any] | None:
        """Prepare the optimizer. Returns the compiled functions that training uses, None if the model has none."""
        answer, _ = self._ask("start_training", batch=batch, labels=labels, recipe=recipe, kind=kind, seed=seed)
        return answer.get("compiled")

    def train_epoch(self, on_progress: Progress | None = None) -> Epoch:
        """Train on every example once; ``on_progress(done, total, loss)`` in steps."""
        answer, _ = self._ask("train_epoch", on_progress)
        return Epoch(answer["loss"], answer["wall"], answer["cpu"])

    def gradients(self, batch: Batch, labels: Array, kind: str) -> Gradients:
        """The gradient of every weight on this batch."""
        answer, arrays = self._ask("gradients", batch=batch, labels=labels, kind=kind)
        return Gradients(answer["loss"], answer["dropout"], arrays)

    def train_steps(self, batch: Batch, labels: Array, kind: str, recipe: dict[str, Any]) -> Trained:
        """Train on this batch for ``recipe["steps"]`` steps."""
        answer, arrays = self._ask("train_steps", batch=batch, labels=labels, kind=kind, recipe=recipe)
        weights = {name.partition(":")[2]: each for name, each in arrays.items() if name.startswith("weights:")}
        if not answer["own"]:
            return Trained(weights, [], None)
        traced = {name: (entries, dimensions) for name, (entries, dimensions) in answer["traced"].items()}
        found = {name: arrays[f"trace:{name}"] for name in ("entries", "gradients", "norm", "norms")}
        return Trained(weights, answer["losses"], Trace(traced, **found))

    def dropouts(self, batch: Batch) -> dict[str, tuple[int, float | None]]:
        """By place, how often training applies dropout to this batch, and with which probability, if that is seen."""
        found = self._ask("dropouts", batch=batch)[0]["places"]
        return {place: (count, probability) for place, (count, probability) in found.items()}

    def keep(self) -> None:
        """Remember the weights as they are now."""
        self._ask("keep")

    def restore(self) -> None:
        """Go back to the weights that ``keep`` remembered."""
        self._ask("restore")

    def cast(self, precision: str) -> str:
        """Compute in this precision from now on. Returns the one that matrix products are really computed in."""
        computed: str = self._ask("cast", precision=precision)[0]["computed"]
        return computed

    def export(self) -> dict[str, Array]:
        """All weights under Hugging Face's names, float32."""
        return self._ask("export")[1]

    def time(self, batch: Batch, sequences: int | None, tokens: int | None, repeats: int) -> Seconds:
        """Time ``repeats`` passes over the batch; see ``Session.time`` for how the batch is divided."""
        _, arrays = self._ask("time", batch=batch, sequences=sequences, tokens=tokens, repeats=repeats)
        return Seconds(arrays["wall"], arrays["cpu"])

    def serve(self, batch: Batch, arrivals: Array, picks: Array, together: int, bound: float, allowed: int) -> Array:
        """Latencies [queries] in seconds; see ``Session.serve``. Fewer than asked if it stopped early."""
        _, arrays = self._ask(
            "serve", batch=batch, arrivals=arrivals, picks=picks, together=together, bound=bound, allowed=allowed
        )
        return arrays["latencies"]

    def limits(
        self, config: dict[str, Any], tokens: int, precisions: list[str], device: str, threads: int
    ) -> dict[str, dict[str, Any]]:
        """The most that the machine can do in each precision; see ``harness.worker.roofline.limits``."""
        answer, _ = self._ask(
            "limits",
            config=config,
            tokens=tokens,
            precisions=precisions,
            device=device,
            threads=threads,
            cpus=cpus_for(threads),
        )
        return answer

    def memory(self) -> dict[str, int | None]:
        """Peak memory so far in bytes: ``resident``, and ``gpu``, which is None if no GPU was used."""
        return self._ask("memory")[0]

    def _cpus(self, threads: int | None) -> list[int] | None:
        """CPUs for this many threads: other ones for each of the processes that train one model."""
        cpus = cpus_for(threads and threads * self.world)
        return (cpus and threads and cpus[self.rank * threads : (self.rank + 1) * threads]) or None

    @property
    def _checkout(self) -> str | None:
        return str(self.checkout) if self.checkout else None

    def _ask(
        self, name: str, on_progress: Progress | None = None, timeout: float | None = None, **arguments: Any
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """Send a command and wait for the answer. Raises WorkerError if the worker fails, dies, hangs or sends garbage.

        A batch is sent as its three arrays, an array as it is, every other argument as JSON.
        """
        if self._stderr.closed:
            raise WorkerError("the worker has ended", "ended", self.stderr_tail())
        deadline = None if timeout is None else time.monotonic() + timeout
        batch: Batch | None = arguments.pop("batch", None)
        arrays = {key: value for key, value in arguments.items() if isinstance(value, np.ndarray)}
        plain = {key: value for key, value in arguments.items() if key not in arrays}
        try:
            send(self._requests, {"command": name, **plain}, arrays | ({} if batch is None else batch._asdict()))
            while True:
                message, results = receive(lambda size: self._read(size, deadline))
                if message.get("kind") == DISK:  # not the implementation's fault, and nothing else can go on
                    raise Failure(message["error"])
                if "error" in message:
                    text = message["error"]
                    if message["kind"] == KeyError.__name__:  # its text is the key alone
                        text = f"{message['kind']}: {text}"
                    raise WorkerError(text, message["kind"], self.stderr_tail(), name)
                if "progress" not in message:
                    for text in message.pop("warnings", ()):
                        _say_once(f"{self.implementation.name}: {text}")
                    return message, results
                if on_progress is not None:
                    on_progress(**message["progress"])
        except (BrokenPipeError, EOFError) as error:
            if self._interrupted:
                raise KeyboardInterrupt from error
            raise self._how_it_died() from error
        except ProtocolError as error:
            tail = self.stderr_tail()  # before it complains about the closed pipe
            self.close()
            raise WorkerError(f"the worker sent an invalid answer: {error}", "protocol", tail) from error

    def _read(self, size: int, deadline: float | None) -> bytes:
        """Exactly ``size`` bytes of the answer; sleeps in the kernel until they are there."""
        assert self._process.stdout is not None
        descriptor, data = self._process.stdout.fileno(), bytearray()
        while len(data) < size:
            wait = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([descriptor], [], [], wait)[0]:
                self.close()
                raise WorkerError("the worker did not answer in time and was killed", "timeout", self.stderr_tail())
            piece = os.read(descriptor, min(size - len(data), 1 << 20))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)

    def _how_it_died(self) -> WorkerError:
        try:
            code = self._process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            code = None
        self.close()
        tail = self.stderr_tail()
        if code is None:
            return WorkerError("the worker closed its pipe but kept running, so it was killed", "died", tail)
        if code == -signal.SIGKILL:
            return WorkerError("the worker was killed; usually the machine has run out of memory", MEMORY, tail)
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        last = tail.strip().splitlines()[-1:] or ["no output"]
        return WorkerError(f"the worker ended {how}: {last[0]}", "died", tail)

    def stderr_tail(self, lines: int = 20) -> str:
        """The last lines that the implementation wrote to standard error, or printed."""
        if self._stderr.closed:
            return self._tail
        end = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, end - 16384))
        return "\n".join(self._stderr.read().decode(errors="replace").splitlines()[-lines:])

    def interrupt(self) -> None:
        """Kill the process, from another thread than the one that uses it; a call in progress is interrupted."""
        self._interrupted = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the process and its children: close its pipes, wait a second, then kill them."""
        if self._stderr.closed:
            return
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue  # it has ended already
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=1)
        finally:  # a second Ctrl-C leaves no process behind either
            with contextlib.suppress(ProcessLookupError):  # it has ended, and so have its children
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        _living.discard(self)
        self._tail = self.stderr_tail()
        self._stderr.close()


class DataParallel(Worker):
    """Several workers that train one model, each on a part of every batch; for all else there is only the first."""

    def __init__(self, implementation: Implementation, python: str | Path, checkout: Path | None, world: int) -> None:
        """Start ``world`` processes."""
        super().__init__(implementation, python, checkout)
        self._folder = tempfile.TemporaryDirectory(prefix="bert-atlas-meeting-")
        self.others: list[Worker] = []
        self.world = world
        try:
            for rank in range(1, world):
                other = Worker(implementation, python, checkout)
                other.rank, other.world = rank, world
                self.others.append(other)
        except BaseException:
            self.close()
            raise

    def load(self, folder: Path, head: str | None, device: str, precision: str, threads: int | None) -> None:
        """Load into all of them. They divide the ``threads``; with GPUs, each uses another one."""
        each = threads and threads // self.world

        def load(worker: Worker) -> None:
            own = f"{device}:{worker.rank}" if device == "cuda" else device
            Worker.load(worker, folder, head, own, precision, each)

        self._all(load)
        meeting = Path(self._folder.name) / "meeting"
        self._all(lambda worker: Worker.join(worker, meeting, worker.rank, worker.world))

    def start_training(
        self, batch: Batch, labels: Array, recipe: dict[str, Any], kind: str, seed: int
    ) -> dict[str, Any] | None:
        """Prepare all of them for the same data."""
        return self._all(lambda worker: Worker.start_training(worker, batch, labels, recipe, kind, seed))[0]

    def train_epoch(self, on_progress: Progress | None = None) -> Epoch:
        """Train together. Seconds of the wall clock are those of the slowest, those of the CPU the sum."""
        epochs = self._all(lambda worker: Worker.train_epoch(worker, on_progress if worker is self else None))
        return Epoch(epochs[0].loss, max(each.wall for each in epochs), sum(each.cpu for each in epochs))

    def memory(self) -> dict[str, int | None]:
        """Peak memory of all of them together."""
        found = self._all(Worker.memory)
        return {name: sum(each[name] or 0 for each in found) or None for name in found[0]}

    def close(self) -> None:
        """End all of them."""
        for other in self.others:
            other.close()
        super().close()
        self._folder.cleanup()

    def _all(self, call: "Callable[[Worker], T]") -> "list[T]":
        """The results of a call for every worker, at the same time. If one fails, the others are killed.

        They would wait for it. Of several errors, lack of memory is the cause; then the death of a process.
        """
        workers = [self, *self.others]
        with ThreadPoolExecutor(self.world) as pool:
            begun = [pool.submit(call, worker) for worker in workers]
            try:
                if wait(begun, return_when=FIRST_EXCEPTION).not_done:
                    wait(begun, timeout=GRACE)  # so that the cause arrives before its effects are cut off
            finally:
                for worker, work in zip(workers, begun, strict=True):
                    if not work.done():
                        worker.interrupt()
        errors = [error for error in (work.exception() for work in begun) if error is not None]
        for error in sorted(errors, key=_blame):
            raise error
        return [work.result() for work in begun]


def _blame(error: BaseException) -> int:
    if not isinstance(error, WorkerError):
        return 3  # of one that was interrupted because another failed
    return 0 if error.out_of_memory else 1 if error.kind == "died" else 2


@cache
def _say_once(text: str) -> None:
    logging.getLogger(__name__).warning(text)


def interrupt_all() -> None:
    """Kill all workers; see ``Worker.interrupt``."""
    for worker in list(_living):
        worker.interrupt()


def _command(python: str, file: Path) -> list[str]:
    if python == sys.executable:
        return [python, "-m", "harness.worker.session", str(file)]
    return command(python, "harness.worker.session", "main", str(file))


def _variables(python: str) -> dict[str, str]:
    """Our environment variables, without those by which Python finds packages, and without ``OURS``."""
    private = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    variables = {name: value for name, value in os.environ.items() if name not in private and not OURS.match(name)}
    if python == sys.executable:  # so that it finds the same ``harness`` and ``reference``
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return variables | {"PYTHONUNBUFFERED": "1"}
