"""AdamW in mixed precision computes what autocast, clipping and torch's AdamW compute together."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from reference.adamw import MixedAdamW, library
from reference.compile import compiled

needs_it = pytest.mark.skipif(not MixedAdamW.available(), reason="cannot be compiled here: no compiler")
RATE, DECAY, NORM = 1e-2, 0.1, 0.5


class Net(nn.Module):
    """A module with matrices and other parameters, some of them larger than a chunk of 16,384 elements."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.up, self.down = nn.Embedding(50, 96), nn.Linear(96, 400), nn.Linear(400, 3)
        self.norm, self.unused = nn.LayerNorm(96), nn.Linear(5, 5)

    def forward(self, ids: Tensor) -> Tensor:
        hidden: Tensor = self.down(torch.tanh(self.up(self.norm(self.table(ids)))))
        return hidden.float()


def groups(module: nn.Module) -> list[dict[str, object]]:
    parameters = list(module.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": DECAY},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def loss(module: nn.Module, step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    ids, right = (torch.randint(0, most, (64,), generator=generator) for most in (50, 3))
    with torch.autocast("cpu", torch.bfloat16):
        return nn.functional.cross_entropy(module(ids), right)


def ours(steps: int) -> Net:
    module = Net()
    optimizer = MixedAdamW(module, groups(module), RATE, NORM)
    for step in range(steps):
        with optimizer.rounded():
            optimizer.zero_grad()
            loss(module, step).backward()
            optimizer.step()
    return module


def torchs(steps: int) -> Net:
    module = Net()
    optimizer = torch.optim.AdamW(groups(module), lr=RATE)
    for step in range(steps):
        optimizer.zero_grad()
        loss(module, step).backward()
        assert torch.nn.utils.clip_grad_norm_(module.parameters(), NORM) > NORM, "so that clipping is tested"
        optimizer.step()
    return module


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@needs_it
@pytest.mark.parametrize(("steps", "tolerance"), [(1, 1e-6), (5, RATE / 20)])
def test_it_learns_what_torch_does(steps: int, tolerance: float) -> None:
    """After the first step, a weight may round to the other neighbour, which changes all later gradients."""
    learned, expected = ours(steps), torchs(steps)
    for (name, one), other in zip(learned.named_parameters(), expected.parameters(), strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=1e-5, atol=tolerance, msg=lambda said, n=name: f"{n}: {said}")
    assert not torch.equal(learned.up.weight, Net().up.weight)
    assert torch.equal(learned.unused.weight, Net().unused.weight), "without a gradient nothing decays either"


@needs_it
def test_matrices_are_rounded_within_and_the_modules_own_afterwards() -> None:
    module = Net()
    own = dict(module.named_parameters())
    optimizer = MixedAdamW(module, groups(module), RATE, NORM)
    with optimizer.rounded():
        assert module.up.weight.dtype == torch.bfloat16
        assert module.up.bias.dtype == module.table.weight.dtype == torch.float32
        optimizer.zero_grad()
        loss(module, 0).backward()
        assert own["up.weight"].grad is None
        optimizer.step()
        assert torch.equal(module.up.weight, own["up.weight"].bfloat16())
        optimizer.zero_grad()
        assert module.up.weight.grad is None
    assert all(parameter is own[name] for name, parameter in module.named_parameters())
    with pytest.raises(ZeroDivisionError), optimizer.rounded():
        raise ZeroDivisionError
    assert module.up.weight is own["up.weight"]


@needs_it
@pytest.mark.parametrize("value", [0.0, -0.0, 1.00390625, 1.01171875, 3.3895314e38, 1e-40, float("inf"), float("nan")])
def test_rounding_is_torchs(value: float) -> None:
    """To the nearest, and ties to even: 1.00390625 is halfway between 1 and 1.0078125."""
    module = nn.Linear(40, 1, bias=False)
    own = module.weight
    optimizer = MixedAdamW(module, [{"params": [own]}], 0.0, NORM)
    with optimizer.rounded():
        own.data.fill_(value)
        module.weight.grad = torch.zeros_like(module.weight)
        optimizer.step()
        expected = torch.full((1, 40), value).bfloat16()
        torch.testing.assert_close(module.weight.detach(), expected, rtol=0, atol=0, equal_nan=True)


@needs_it
def test_what_is_not_a_number_is_seen() -> None:
    module = Net()
    optimizer = MixedAdamW(module, groups(module), RATE, NORM)
    with optimizer.rounded():
        loss(module, 0).backward()
        assert module.down.bias.grad is not None
        module.down.bias.grad[0] = torch.nan
        optimizer.step()
    assert module.up.weight.isnan().all(), "as clip_grad_norm_ makes of it"


@needs_it
def test_how_many_threads_there_are_changes_nothing(threads: None) -> None:
    learned = []
    for number in (1, 3):
        module = Net()
        torch.set_num_threads(1)
        optimizer = MixedAdamW(module, groups(module), RATE, NORM)
        with optimizer.rounded():
            loss(module, 0).backward()
            torch.set_num_threads(number)
            optimizer.step()
        learned.append(copy.deepcopy(module.state_dict()))
    assert all(torch.equal(one, other) for one, other in zip(*(each.values() for each in learned), strict=True))


def test_without_a_compiler_it_is_not_available(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BERT_ATLAS_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    for each in (compiled, library):
        each.cache_clear()
    try:
        assert not MixedAdamW.available()
    finally:
        for each in (compiled, library):
            each.cache_clear()
