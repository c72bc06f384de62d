"""The child process in which an implementation runs: ``python -m harness.worker.session FILE``.

It reads requests from standard input and writes answers to standard output, in the format of
``harness.worker.messages``. Whatever an implementation prints goes to standard error, so that it cannot corrupt an
answer. At module level only the standard library and numpy are imported: the environment may contain nothing else.
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
from harness.port.batch import Array, Batch, by_tokens, in_order
from harness.port.model import (
    MASKED_LM,
    Castable,
    HasCompiledFunctions,
    HasComputedPrecision,
    HasPrecision,
    HasProcesses,
    HasTokenBudget,
    ShowsLayers,
    Trainable,
)
from harness.port.process import take_over_pipes
from harness.worker.messages import exactly, receive, send

Answer = tuple[dict[str, Any], dict[str, Array]]
OTHERS_ARE_SHOWN = Path("/proc/self/stat").is_file()  # whether this system shows what other processes use: Linux does


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
        self.rank, self.world = 0, 1  # of the processes that train one model

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
        """Import the implementation and load weights; it may run on the CPUs ``cpus`` only."""
        _pin(cpus)
        if threads:
            _set_threads(threads)
        module = self._import(checkout)
        self.model = self.training = self.kept = None  # frees memory for the new model
        start = time.perf_counter()
        if head == MASKED_LM and not getattr(module, "MASKED_LM", False):
            raise NotImplementedError("it does not predict masked words here, only hidden states")
        with _warnings() as warnings:
            self.model, self.folder = checked(module.load(folder, head, device, precision, variant)), folder
        seconds = time.perf_counter() - start
        if threads:
            _set_threads(threads)
        uncounted = isinstance(self.model, HasProcesses) and not OTHERS_ARE_SHOWN
        note = " (CPU seconds and memory without those of its other processes)" if uncounted else ""
        return {
            "version": self.model.version + note,
            "batching": self.model.batching,
            "trainable": isinstance(self.model, Trainable),
            **self._computation(precision),
            "warnings": warnings,
            "seconds": seconds,
        }, {}

    def _computation(self, asked: str) -> dict[str, Any]:
        """Precision, precision of matrix products, and compiled functions, as far as the model reports them."""
        precision = self.model.precision if isinstance(self.model, HasPrecision) else asked
        computed = self.model.computed if isinstance(self.model, HasComputedPrecision) else precision
        return {"precision": precision, "computed": computed, **self._compiled()}

    def _compiled(self) -> dict[str, Any]:
        return {"compiled": self.model.native} if isinstance(self.model, HasCompiledFunctions) else {}

    def _import(self, checkout: str | None) -> Any:
        """Import the implementation's file, once; ``checkout``, the repository that it uses, goes first on the path."""
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
        """Hidden states of the embeddings and after each layer; none if the model does not show them."""
        if not isinstance(self.model, ShowsLayers):
            return {"layers": 0}, {}
        with _no_gradients():
            layers = self.model.layers(batch)
        return {"layers": len(layers)}, {str(number): layer for number, layer in enumerate(layers)}

    def tokenize(self, texts: list[str]) -> Answer:
        """Word piece ids of each text by the implementation's own tokenizer, None for a text that it fails on.

        ``ids`` is None if the implementation has no tokenizer.
        """
        if not hasattr(self.module, "tokenizer"):
            return {"ids": None}, {}
        tokenize = self.module.tokenizer(self.folder)
        ids: list[list[int] | None] = []
        for text in texts:
            try:
                ids.append(list(map(int, tokenize(text))))
            except Exception:  # a bug of the tokenizer can raise anything
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
        """Run an implementation that is a whole program on a task. Returns version, recipe and predictions by split."""
        _pin(cpus)
        if threads:
            _set_threads(threads)
        module = self._import(checkout)
        arguments = {"checkout": checkout, "weights": weights, "task": task, "splits": splits, "out": out}
        return module.job(**arguments, progress=self.progress), {}

    def predict(self, batch: Batch, kind: str, batch_tokens: int) -> Answer:
        """Logits for every sequence (for some kinds: every token), in the order given.

        They come from the model's own head if it is trainable, otherwise from a head in numpy on its hidden states.
        """
        if isinstance(self.model, Trainable):
            from harness.worker.finetune import predict

            return {}, {"logits": predict(self.model, batch, kind, batch_tokens, self.progress)}
        from harness.worker import heads

        with _no_gradients():
            head = heads.Head(self.folder, kind)
            return {}, {"logits": heads.predict(self.model, head, batch, batch_tokens, self.progress)}

    def log_probabilities(self, batch: Batch, mask_id: int, batch_tokens: int) -> Answer:
        """The logarithm of each token's probability where it alone is masked, [tokens]; 0 for [CLS] and [SEP]."""
        from harness.worker import words

        return {}, {"logarithms": words.log_probabilities(self.model, batch, mask_id, batch_tokens, self.progress)}

    def join(self, meeting: str, rank: int, world: int) -> Answer:
        """Train the model together with other processes of this machine, which meet at the new file ``meeting``.

        This one is number ``rank`` of ``world``. To be called after ``load`` and before ``start_training``.
        """
        from reference.processes import meet

        meet(Path(meeting), rank, world, next(self.model.module.parameters()).device)
        self.rank, self.world = rank, world
        return {}, {}

    def start_training(self, batch: Batch, labels: Array, recipe: dict[str, Any], kind: str, seed: int) -> Answer:
        """Prepare the optimizer; ``train_epoch`` does the work."""
        from harness.worker.finetune import Training

        with _warnings() as warnings:
            self.training = Training(self.model, batch, labels, kind, recipe, seed, self.rank, self.world)
        return {**self._compiled(), "warnings": warnings}, {}

    def train_epoch(self) -> Answer:
        """One pass over the training data. Returns the mean loss, and the seconds it took: wall clock and CPU."""
        start = time.perf_counter(), self._cpu_seconds()
        loss = self.training.epoch(self.progress)
        return {"loss": loss, "wall": time.perf_counter() - start[0], "cpu": self._cpu_seconds() - start[1]}, {}

    def gradients(self, batch: Batch, labels: Array, kind: str) -> Answer:
        """The gradient of every weight on this batch under Hugging Face's names, of the mean loss.

        ``dropout`` says whether training applies dropout to this batch; the gradients are then without it.
        """
        from harness.worker.training_steps import gradients

        loss, drops, found = gradients(self.model, batch, labels, kind)
        return {"loss": loss, "dropout": drops}, found

    def train_steps(self, batch: Batch, labels: Array, kind: str, recipe: dict[str, Any]) -> Answer:
        """Train on this batch for ``recipe["steps"]`` steps, with the optimizer of the implementation's file.

        A file without ``optimizer`` is trained as in fine-tuning. See ``harness.worker.training_steps.steps``.
        """
        from harness.worker.training_steps import steps

        return steps(self.model, getattr(self.module, "optimizer", None), batch, labels, kind, recipe)

    def dropouts(self, batch: Batch) -> Answer:
        """The places at which training applies dropout to this batch, each with how often and the probability."""
        from harness.worker.dropout_places import dropout_places

        return {"places": dropout_places(self.model, batch)}, {}

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
            if isinstance(self.model, Castable):
                self.model.cast(precision)
            else:
                from harness.port.tensors import dtype

                self.model.module.to(dtype(precision))
        return {**self._computation(precision), "warnings": warnings}, {}

    def export(self) -> Answer:
        """All weights under Hugging Face's names."""
        return {}, self.model.export()

    def time(self, batch: Batch, sequences: int | None, tokens: int | None, repeats: int) -> Answer:
        """Wall-clock and CPU seconds of each of ``repeats`` passes over the batch.

        The batch is divided into pieces of ``sequences`` in the order given; for a packed implementation, into pieces
        of up to ``tokens`` tokens (or the number that it prefers). Pieces are prepared before the clock starts. Timed
        is the implementation alone, from the first piece's numpy arrays until the last result is ready on the device.
        """
        lengths = batch.lengths
        if tokens is not None and self.model.batching == "packed":
            order = by_tokens(lengths, self.model.tokens if isinstance(self.model, HasTokenBudget) else tokens)
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

        Queries that have arrived are computed in order, up to ``together`` at once. ``arrivals`` are seconds from the
        start; they follow the clock, so that a slow answer does not delay later arrivals. Stops early once more than
        ``allowed`` queries took longer than ``bound`` seconds. Before the start, one query and a full batch warm up.
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
        """The most that the machine can do (``harness.worker.roofline``). Needs torch, and no model."""
        _pin(cpus)
        _set_threads(threads)
        from harness.worker.roofline import limits
        from reference.frozen import keep_freed_memory

        _set_threads(threads)
        keep_freed_memory()  # as the reference does
        with _no_gradients():
            return dict(limits(config, tokens, precisions, device)), {}

    def memory(self) -> Answer:
        """Peak memory so far in bytes: resident, and on the GPU (None unless this process used one).

        ``resident`` is the sum of the peaks of this process and of those that compute for the model now: an upper
        bound, because they may peak at different times and share pages.
        """
        answer = {"resident": _peak_resident() + sum(map(_peak_resident, self._others())), "gpu": None}
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
            answer["gpu"] = torch.cuda.max_memory_allocated()
        return answer, {}

    def _others(self) -> list[int]:
        """Ids of the other processes that compute for the model; empty if this system does not show what they use."""
        return self.model.processes() if OTHERS_ARE_SHOWN and isinstance(self.model, HasProcesses) else []

    def _cpu_seconds(self) -> float:
        """CPU seconds so far of this process and of the others that compute for the model."""
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
        Session.log_probabilities,
        Session.join,
        Session.start_training,
        Session.train_epoch,
        Session.gradients,
        Session.train_steps,
        Session.dropouts,
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


def checked(model: Any) -> Any:
    """The model that an implementation loaded, unless the harness would misinterpret it.

    ValueError for an unknown ``batching``; TypeError for a model with ``logits`` that is not ``Trainable``.
    """
    if model.batching not in ("packed", "padded"):
        raise ValueError(f"the model's batching is {model.batching!r}; it must be 'packed' or 'padded'")
    if hasattr(model, "logits") and not isinstance(model, Trainable):
        raise TypeError(
            "the model has logits, but not all that harness.port.Trainable asks for: it also needs module and export, "
            "as attributes of an object that is no torch.nn.Module itself"
        )
    return model


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect warnings of ``reference`` for the harness to show: nobody reads a worker's standard error."""
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
    """Run on these CPUs only: some frameworks start a thread for every CPU they see, whatever their settings."""
    if cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cpus)


def _set_threads(threads: int) -> None:
    """Limit the threads of all libraries: by variables for those not yet imported, and directly for torch.

    Call this before and after importing an implementation: torch reads the variables, but uses at most as many threads
    as there are cores. It is not imported here, because its memory would count for implementations without it.
    """
    for library in ("OMP", "MKL", "OPENBLAS", "BLIS", "NUMEXPR"):
        os.environ[f"{library}_NUM_THREADS"] = str(threads)
    os.environ["VECLIB_MAXIMUM_THREADS"] = os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)
    os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)


def _cpu_seconds_of(process: int) -> float:
    """User and system time of another process so far, of all its threads; in clock ticks, usually of 10 ms.

    FileNotFoundError or ProcessLookupError if it has ended.
    """
    times = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[11:13]  # its name may contain spaces
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


def _peak_resident(process: int | None = None) -> int:
    """Peak resident memory of this process, or of another one, in bytes.

    ProcessLookupError if the other one has ended.
    """
    status = Path(f"/proc/{process or 'self'}/status")
    if status.is_file():  # getrusage on Linux includes the memory of the parent before exec
        peak = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if peak is not None:
            return int(peak[1]) * 1024
    if process is not None:
        raise ProcessLookupError(f"process {process} computed for the model and has ended")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _no_gradients() -> Any:
    """torch's inference mode if torch is imported, otherwise nothing."""
    torch = sys.modules.get("torch")
    return torch.inference_mode() if torch is not None else contextlib.nullcontext()


def end_with_harness(requests: BinaryIO) -> None:
    """Kill this process and its children once the harness has closed the pipe, whatever they are doing.

    A killed harness says nothing; only its end of the pipe closes, which a worker that is computing would not notice.
    """

    def wait() -> None:
        pipe = select.poll()
        pipe.register(requests, 0)  # no events: a hang-up is always reported
        pipe.poll()
        time.sleep(1)  # an idle worker ends by itself
        if os.getpgid(0) == os.getpid():  # started by the harness; otherwise the group has other processes
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
    """Answer requests until the harness closes the pipe. An error is an answer too, and the process goes on."""
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
            with contextlib.suppress(OSError):  # the disk of standard error may be full too
                traceback.print_exc()
            send(answers, {"error": (str(ours(error)) if kind == DISK else str(error)) or kind, "kind": kind})


def main(file: str) -> None:
    """Serve over standard input and output until the harness closes the pipe."""
    requests, answers = take_over_pipes()
    end_with_harness(requests)
    serve(Path(file), requests, answers)


if __name__ == "__main__":
    main(sys.argv[1])
