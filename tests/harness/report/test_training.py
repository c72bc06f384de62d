"""The page of a pre-training: its curves, its numbers, and text that stays text."""

import re

from harness.report.training import MOST, training_page


def log(steps: int = 30) -> list[dict[str, object]]:
    """A run that was measured twice."""
    start = {"step": 0, "event": "start", "unigram_loss": 7.07, "unigram_accuracy": 0.047, "bigram_loss": 5.29}
    lines = [
        {
            "step": n,
            "tokens": n * 1000,
            "mlm_loss": 9 - n / steps,
            "masked_accuracy": 0.1,
            "flop": 1e9 * n,
            "seconds": n,
        }
        for n in range(1, steps + 1)
    ]
    measured = [
        {"step": n, "tokens": n * 1000, "event": "held out", "held_out_loss": 8.123, "held_out_accuracy": 0.05}
        for n in (steps // 2, steps)
    ]
    return [start, *lines, *measured]


def test_the_page_has_curves_levels_and_numbers_and_needs_no_other_file() -> None:
    page = training_page("<mine>", log())
    assert "&lt;mine&gt;" in page
    assert "<mine>" not in page
    assert page.count("<svg") == 2  # no next sentences: the run had none
    assert "by frequency: 7.070" in page
    assert "from the piece before: 5.290" in page
    assert "<td>8.123</td>" in page
    assert not re.search(r"(src|href)=", page)


def test_a_long_run_is_drawn_by_means() -> None:
    page = training_page("mine", log(5 * MOST))
    (first,) = re.findall(r'class="mark named">.*?d="M([^"]+)"', page)[:1]
    assert len(first.split("L")) == MOST


def test_a_run_without_a_step_or_held_out_text_has_a_page() -> None:
    assert "no step yet" in training_page("mine", [{"step": 0, "event": "start"}])
    assert "On held-out text" not in training_page("mine", log()[:-2])
