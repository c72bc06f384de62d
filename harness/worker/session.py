"""The child process in which an implementation runs: ``python -m harness.worker.session FILE``.

Reads requests from standard input and answers on standard output, in the form of ``harness.worker.messages``.
Whatever an implementation prints goes to standard error, so that it cannot corrupt an answer.
At module level only the standard library and numpy: a worker may live in an environment that has no more.
"""

import contextlib
import importlib.util
import logging
import os
import re
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from harness.errors import DISK, kind_of, ours
from harness.port.batch import Batch, by_tokens, in_order
from harness.worker.messages import Array, exactly, receive, send

Answer = tuple[dict[str, Any], dict[str, Array]]
OTHERS_ARE_SHOWN = Path("/proc/self/stat").is_file()  # what other processes need: Linux tells, other systems do not


class Session:
    """What the worker process knows: the implementation, its loaded model and its training.

    ``COMMANDS``, below, lists the methods that a request can name. Each returns a JSON object and named arrays.
    ``harness.measure.client.Worker`` is the other side: it starts the process and has one method for each command.
    """

    def __init__(self, file: Path, progress: Callable[..., None]) -> None:
        self.file, self.progress = file, progress
        self.module: Any = None  # the implementation's file, once imported
        self.model: Any = None
        self.folder = ""
        self.training: Any = None
        self.kept: Any = None

    def load(
        self,
        folder: str,
        head: str | None,
        device: str,
        precision: str,
        variant: str,
        threads: int | None,
        cpus: list[int] | None = None,
        checkout: str | None = None,
    ) -> Answer:
        """Import the implementation and load its weights; ``cpus`` are those that it may run on."""
        _pin(cpus)
        if threads:
            _set_threads(threads)
        module = self._import(checkout)
        self.model = self.training = self.kept = None  # the memory is needed for the new one
        start = time.perf_counter()
        with _warnings() as warnings:
            self.model, self.folder = module.load(folder, head, device, precision, variant), folder
        seconds = time.perf_counter() - start
        if threads:
            _set_threads(threads)
        uncounted = hasattr(self.model, "processes") and not OTHERS_ARE_SHOWN
        note = " (CPU seconds and memory without those of its other processes)" if uncounted else ""
        return {
            "version": self.model.version + note,
            "batching": self.model.batching,
            "trainable": hasattr(self.model, "logits"),
            "precision": getattr(self.model, "precision", precision),
            **self._computed(precision),
            "warnings": warnings,
            "seconds": seconds,
        }, {}

    def _computed(self, precision: str) -> dict[str, Any]:
        """What products are computed in, and with which of its compiled functions, where the model tells."""
        said = {"computed": getattr(self.model, "computed", getattr(self.model, "precision", precision))}
        return said | ({"compiled": self.model.native} if hasattr(self.model, "native") else {})

    def _import(self, checkout: str | None) -> Any:
        """The implementation's file as a module, once; its repository, where it has one, is first on the path."""
        if self.module is None:
            if checkout:
                sys.path.insert(0, checkout)
            spec = importlib.util.spec_from_file_location(f"harness.implementations.{self.file.stem}", self.file)
            if spec is None or spec.loader is None:
                raise ImportError(f"{self.file} cannot be imported")
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module  # dataclasses and pickle look a class's module up there
            spec.loader.exec_module(module)
            self.module = module
        return self.module

    def encode(self, batch: Batch) -> Answer:
        """Hidden states of the last layer and pooled output."""
        with _no_gradients():
            encoded = self.model.encode(batch)
            hidden, pooled = self.model.fetch(encoded, batch), self.model.pooled(encoded, batch)
        return {}, {"hidden": hidden} | ({} if pooled is None else {"pooled": pooled})

    def layers(self, batch: Batch) -> Answer:
        """Hidden states of the embeddings and after each layer; none from a model that does not show them."""
        if not hasattr(self.model, "layers"):
            return {"layers": 0}, {}
        with _no_gradients():
            layers = self.model.layers(batch)
        return {"layers": len(layers)}, {str(number): layer for number, layer in enumerate(layers)}

    def tokenize(self, texts: list[str]) -> Answer:
        """Word piece ids of each text by the implementation's own tokenizer, None for a text that it fails at.

        None instead of the list where it has no tokenizer.
        """
        if not hasattr(self.module, "tokenizer"):
            return {"ids": None}, {}
        tokenize = self.module.tokenizer(self.folder)
        ids: list[list[int] | None] = []
        for text in texts:
            try:
                ids.append(list(map(int, tokenize(text))))
            except Exception:  # whatever class its authors did not foresee
                traceback.print_exc()
                ids.append(None)
        return {"ids": ids}, {}

    def job(
        self,
        weights: str,
        task: dict[str, Any],
        splits: dict[str, list[dict[str, Any]]],
        out: str,
        threads: int | None,
        cpus: list[int] | None,
        checkout: str | None,
    ) -> Answer:
        """Run the program that the implementation is, on a task; its predictions by split."""
        _pin(cpus)
        if threads:
            _set_threads(threads)
        module = self._import(checkout)
        arguments = {"checkout": checkout, "weights": weights, "task": task, "splits": splits, "out": out}
        return module.job(**arguments, progress=self.progress), {}

    def predict(self, batch: Batch, kind: str, batch_tokens: int) -> Answer:
        """Logits of the head for every sequence (or token), in the order given.

        The model's own head where it can be trained, else one in numpy over its hidden states.
        """
        if hasattr(self.model, "logits"):
            from harness.worker.finetune import predict

            return {}, {"logits": predict(self.model, batch, kind, batch_tokens, self.progress)}
        from harness.worker import heads

        with _no_gradients():
            head = heads.Head(self.folder, kind)
            return {}, {"logits": heads.predict(self.model, head, batch, batch_tokens, self.progress)}

    def start_training(self, batch: Batch, labels: Array, recipe: dict[str, Any], kind: str, seed: int) -> Answer:
        """Prepare the optimizer; ``train_epoch`` does the work."""
        from harness.worker.finetune import Training

        with _warnings() as warnings:
            self.training = Training(self.model, batch, labels, kind, recipe, seed)
        said = {"compiled": self.model.native} if hasattr(self.model, "native") else {}
        return {**said, "warnings": warnings}, {}

    def train_epoch(self) -> Answer:
        """One pass over the training data; its mean loss, and how many seconds it took: wall clock and CPU."""
        start = time.perf_counter(), self._cpu_seconds()
        loss = self.training.epoch(self.progress)
        return {"loss": loss, "wall": time.perf_counter() - start[0], "cpu": self._cpu_seconds() - start[1]}, {}

    def keep(self) -> Answer:
        """Remember the weights as they are now."""
        self.kept = {name: tensor.clone() for name, tensor in self.model.module.state_dict().items()}
        return {}, {}

    def restore(self) -> Answer:
        """Go back to the weights that ``keep`` remembered."""
        self.model.module.load_state_dict(self.kept)
        return {}, {}

    def cast(self, precision: str) -> Answer:
        """Compute in this precision from now on."""
        self.training = self.kept = None
        with _warnings() as warnings:
            if hasattr(self.model, "cast"):
                self.model.cast(precision)
            else:
                from harness.port.tensors import dtype

                self.model.module.to(dtype(precision))
        return {**self._computed(precision), "warnings": warnings}, {}

    def export(self) -> Answer:
        """All weights under Hugging Face's names."""
        return {}, self.model.export()

    def time(self, batch: Batch, sequences: int | None, tokens: int | None, repeats: int) -> Answer:
        """Seconds that ``repeats`` passes over the batch take, one by one: wall clock and CPU.

        The batch goes in pieces: of ``sequences`` in the order given, or, for a packed implementation, of up to
        ``tokens`` together or as many as it says suit it. They are made before the clock starts: what is timed is the
        implementation, from the first piece's numpy arrays until the last result is ready on the device.
        """
        lengths = batch.lengths
        if tokens is not None and self.model.batching == "packed":
            order = by_tokens(lengths, getattr(self.model, "tokens", tokens))
        else:
            order = in_order(lengths, sequences or len(lengths))
        pieces = [batch.select(piece) for piece in order]
        wall, cpu = [], []
        with _no_gradients():
            for _ in range(repeats):
                cpu_before, start = self._cpu_seconds(), time.perf_counter()
                for piece in pieces:
                    self.model.encode(piece)
                self.model.synchronize()
                wall.append(time.perf_counter() - start)
                cpu.append(self._cpu_seconds() - cpu_before)
        return {}, {"wall": np.array(wall), "cpu": np.array(cpu)}

    def serve(self, batch: Batch, arrivals: Array, picks: Array, together: int, bound: float, allowed: int) -> Answer:
        """Seconds from each query's arrival until its result is ready; query ``i`` is the sequence ``picks[i]``.

        What has arrived meanwhile is computed in order, up to ``together`` queries at once. ``arrivals`` are seconds
        from the start, kept by the clock whatever is being computed, so that a slow answer delays no arrival. Ends
        early once more than ``allowed`` took longer than ``bound``. One query and a full batch warm up.
        """
        latencies, done, over = np.empty(len(arrivals)), 0, 0
        with _no_gradients():
            for size in (1, together):
                self.model.encode(batch.select(picks[:size]))
            self.model.synchronize()
            start = time.perf_counter()
            while done < len(arrivals) and over <= allowed:
                time.sleep(max(0.0, arrivals[done] - (time.perf_counter() - start)))
                arrived = int(np.searchsorted(arrivals, time.perf_counter() - start, "right"))
                now = slice(done, max(done + 1, min(arrived, done + together)))
                self.model.encode(batch.select(picks[now]))
                self.model.synchronize()
                latencies[now] = time.perf_counter() - start - arrivals[now]
                over += int((latencies[now] > bound).sum())
                done = now.stop
        return {}, {"latencies": latencies[:done]}

    def limits(
        self,
        config: dict[str, Any],
        tokens: int,
        precisions: list[str],
        device: str,
        threads: int,
        cpus: list[int] | None,
    ) -> Answer:
        """The most that the machine can do (``harness.worker.roofline``), for a worker that has torch and no model."""
        _pin(cpus)
        _set_threads(threads)
        from harness.worker.roofline import limits
        from reference.kernels import keep_freed_memory

        _set_threads(threads)
        keep_freed_memory()  # as where the reference computes
        with _no_gradients():
            return dict(limits(config, tokens, precisions, device)), {}

    def memory(self) -> Answer:
        """Peak memory so far, in bytes: resident, and on the GPU where one was used by this process.

        Resident is the sum of the peaks of this process and of those that compute for the model now. That is more
        than was ever in use at once where they peak at different times, or share pages.
        """
        answer = {"resident": _peak_resident() + sum(map(_peak_resident, self._others())), "gpu": None}
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
            answer["gpu"] = torch.cuda.max_memory_allocated()
        return answer, {}

    def _others(self) -> list[int]:
        """Ids of the processes that compute for the model besides this one, where the system shows what they need."""
        return self.model.processes() if OTHERS_ARE_SHOWN and hasattr(self.model, "processes") else []

    def _cpu_seconds(self) -> float:
        """CPU seconds so far of this process and of those that compute for the model."""
        return time.process_time() + sum(map(_cpu_seconds_of, self._others()))


COMMANDS: dict[str, Callable[..., Answer]] = {
    method.__name__: method
    for method in (
        Session.load,
        Session.encode,
        Session.layers,
        Session.tokenize,
        Session.job,
        Session.predict,
        Session.start_training,
        Session.train_epoch,
        Session.keep,
        Session.restore,
        Session.cast,
        Session.export,
        Session.time,
        Session.serve,
        Session.limits,
        Session.memory,
    )
}


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What ``reference`` warns of meanwhile, for the harness to show: nobody reads a worker's standard error."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("reference")
    log.addHandler(handler)
    try:
        yield said
    finally:
        log.removeHandler(handler)


def _pin(cpus: list[int] | None) -> None:
    """Run on these CPUs only: some frameworks start a thread for every CPU that they see, whatever they are told."""
    if cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cpus)


def _set_threads(threads: int) -> None:
    """Bound the threads of whatever computes: variables for libraries still to come, and torch if it is here.

    To be called before an implementation is imported, and after: torch takes no more from the variables than
    there are cores, and is not imported here, as its memory would count for one that does not use it.
    """
    for library in ("OMP", "MKL", "OPENBLAS", "BLIS", "NUMEXPR"):
        os.environ[f"{library}_NUM_THREADS"] = str(threads)
    os.environ["VECLIB_MAXIMUM_THREADS"] = os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)
    os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)


def _cpu_seconds_of(process: int) -> float:
    """User and system time of another process so far, of all its threads; in steps of the clock, most often of 10 ms.

    FileNotFoundError or ProcessLookupError where it has ended.
    """
    times = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[11:13]  # its name may hold anything
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def _peak_resident(process: int | None = None) -> int:
    """The most memory that this process had resident, or another one, in bytes.

    ProcessLookupError where the other one has ended.
    """
    status = Path(f"/proc/{process or 'self'}/status")
    if status.is_file():  # on Linux, getrusage still shows the memory of the parent that started us
        peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if peak is not None:
            return int(peak[1]) * 1024
    if process is not None:
        raise ProcessLookupError(f"process {process} computed for the model and has ended")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _no_gradients() -> Any:
    """torch's inference mode where torch computes, nothing elsewhere."""
    torch = sys.modules.get("torch")
    return torch.inference_mode() if torch is not None else contextlib.nullcontext()


def take_over_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The request and answer pipes; afterwards file descriptor 1 is standard error."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor is wanted, not a path
        os.dup2(nothing.fileno(), 0)
    return requests, answers


def end_with_harness(requests: BinaryIO) -> None:
    """End this process and what it started once nobody is left to ask, whatever it is busy with.

    Of a harness that was killed nothing is heard but that its pipe hangs up, which one who loads weights does not see.
    """

    def wait() -> None:
        pipe = select.poll()
        pipe.register(requests, 0)  # for nothing: hanging up is told in any case
        pipe.poll()
        time.sleep(1)  # one that is idle ends by itself
        if os.getpgid(0) == os.getpid():  # as the harness starts it; else others are in the group
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def answer(session: Session, request: dict[str, Any], arrays: dict[str, Array]) -> Answer:
    """Carry out the command that a request names; the arrays of a batch become one ``Batch``.

    ValueError for an unknown command, TypeError for wrong arguments.
    """
    name = request.pop("command", None)
    if name not in COMMANDS:
        raise ValueError(f"unknown command {name!r}; the commands are {', '.join(COMMANDS)}")
    named: dict[str, Any] = dict(arrays)
    if named.keys() >= set(Batch._fields):
        named["batch"] = Batch(*(named.pop(field) for field in Batch._fields))
    return COMMANDS[name](session, **request, **named)


def serve(file: Path, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until the harness closes the pipe. An error is an answer too; the process lives on."""
    session = Session(file, lambda **what: send(answers, {"progress": what}))
    while True:
        try:
            request, arrays = receive(exactly(requests))
        except EOFError:
            return
        try:
            send(answers, *answer(session, request, arrays))
        except Exception as error:
            kind = kind_of(error)
            with contextlib.suppress(OSError):  # where that goes may be full too
                traceback.print_exc()
            send(answers, {"error": (str(ours(error)) if kind == DISK else str(error)) or kind, "kind": kind})


def main(file: str) -> None:
    """Serve over standard input and output until the harness closes the pipe."""
    requests, answers = take_over_pipes()
    end_with_harness(requests)
    serve(Path(file), requests, answers)


if __name__ == "__main__":
    main(sys.argv[1])
