"""Tables of results, by hand."""

import numpy as np
import pytest

from tfmetainit.evaluation import tables


def _condition(label, steps):
    return {
        "label": label,
        "num_signals": 3,
        "num_tuning_signals": 2,
        "inner_steps": 2,
        "step_on": "halves",
        "constant_psnr": 10.0,
        "mean_psnr": 11.0,
        "classical": [{"method": "FBP", "psnr": 12.0, "ssim": 0.25}],
        "rows": [
            {
                "method": "Learned",
                "optimizer": "SGD",
                "psnr": [float(step) for step in range(13)],
                "ssim": 0.5,
            }
        ],
        "standard_to_match": {
            "target": 2.0,
            "num_signals": 1,
            "rate": 1e-3,
            "steps": steps,
            "max_steps": 20,
            "best_psnr": 1.5,
            "learned_psnr": 9.0,
        },
    }


def _lines(*conditions):
    return tables.to_markdown(
        {
            "trained_on": "text",
            "evaluated_on": "sdf",
            "conditions": list(conditions),
        }
    ).splitlines()


def test_one_condition():
    lines = _lines(_condition("", 7))
    assert "trained on text, mean over 3 held-out sdf signals" in lines[0]
    assert (
        "| initial weights | optimizer | 0 | 1 | 2 | 3 | 4 | 6 | 8 | 10 |"
        in (lines[2])
    )
    assert lines[4].startswith("| Learned | SGD | 0.00 | 1.00 | 2.00 | 3.00")
    assert lines[4].endswith("10.00 | 12.00 | 0.500 |")
    assert lines[5].count("|") == lines[4].count("|")
    assert lines[5].endswith(" 12.00 | 0.250 |")
    assert "random weights need 7 Adam steps (rate 0.001)." in lines[7]
    assert "in 2 steps on half of the pixels each, on 1 of" in lines[7]


def test_conditions_are_summed_up():
    lines = _lines(
        _condition("1 projection", 7), _condition("2 projections", None)
    )
    assert any("need more than 20 Adam steps: its best" in x for x in lines)
    assert "### After 12 steps" in lines
    assert "|  | 1 projection | 2 projections |" in lines
    assert "| Learned | 12.00 | 12.00 |" in lines
    assert "| FBP | 12.00 | 12.00 |" in lines
    assert lines[-2] == "| Learned (on 1 of the signals) | 9.00 | 9.00 |"
    assert lines[-1].endswith(
        "of 20 Adam steps (on 1 of the signals) | 1.50 | 1.50 |"
    )


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_what_is_no_number(missing):
    """As JSON has it, and as it was before."""
    condition = _condition("", None)
    condition["rows"][0]["ssim"] = missing
    condition["rows"][0]["psnr"][12] = missing
    condition["classical"][0]["ssim"] = missing
    condition["standard_to_match"]["best_psnr"] = missing
    lines = _lines(condition)
    assert "SSIM" not in lines[2]  # signals that are no pictures have none
    assert lines[4].endswith(" | 10.00 | nan |")
    assert lines[5].endswith(" | 12.00 |")
    assert len({line.count("|") for line in lines[2:6]}) == 1


@pytest.mark.parametrize(("last", "shown"), [(0, 1), (2, 3), (12, 9)])
def test_a_curve_in_a_line(last, shown):
    numbers = tables.in_numbers([1.0] * (last + 1)).split()
    assert numbers == ["1.00"] * shown


def test_scored_steps():
    assert tables.scored_steps(12) == set(range(13))
    steps = sorted(tables.scored_steps(1000))
    assert steps[:33] == list(range(33))
    assert {50, 100, 200, 300, 500, 1000} <= set(steps)
    ratios = np.array(steps[33:]) / steps[32:-1]
    assert ratios.max() < 1.08
    assert len(steps) < 120
