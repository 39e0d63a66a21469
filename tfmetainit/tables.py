"""Tables of PSNR over gradient steps, as text and as Markdown."""

import math


def _number(value, digits: int = 2) -> str:
    """A figure of a table; "nan" for one that is null in a results.json."""
    return f"{math.nan if value is None else value:.{digits}f}"


def _shown_steps(last: int) -> list[int]:
    """The steps that a table of `last` steps has columns for."""
    steps = (0, 1, 2, 3, 4, 6, 8, 10, 16, 25, 50, 100, 200, 500, 1000)
    return [s for s in steps if s < last] + [last]


def in_numbers(curve) -> str:
    """A curve of PSNRs after 0, 1, ... steps at a dozen of them, in a line."""
    steps = _shown_steps(len(curve) - 1)
    return " ".join(_number(curve[step]) for step in steps)


def to_markdown(results: dict) -> str:
    """The results as Markdown tables with a line on how they came about.

    Args:
        results: what `evaluate.evaluate` returns.
    """
    first = results["conditions"][0]
    last = len(first["rows"][0]["psnr"]) - 1
    lines = [
        "PSNR in dB after gradient steps, and SSIM of pictures after the last; "
        f"trained on {results['trained_on']}, mean over "
        f"{first['num_signals']} held-out {results['evaluated_on']} signals. "
        f"The baselines' rates are those of the best PSNR after {last} steps "
        f"on {first['num_tuning_signals']} validation signals.",
        "",
    ]
    for condition in results["conditions"]:
        lines += _table(condition, last)
    if len(results["conditions"]) > 1:
        lines += _summary(results["conditions"], last)
    return "\n".join(lines)


def _table(condition, last):
    """One condition's table: methods by steps."""
    steps = _shown_steps(last)
    rows = [*condition["rows"], *condition["classical"]]
    # Signals that are no pictures have none.
    has_ssim = any(math.isfinite(row["ssim"] or math.nan) for row in rows)

    def ssim(row):
        return f" {_number(row['ssim'], 3)} |" if has_ssim else ""

    lines = [f"### {condition['label']}", ""] if condition["label"] else []
    lines += [
        "| initial weights | optimizer | "
        + " | ".join(str(step) for step in steps)
        + (" | SSIM |" if has_ssim else " |"),
        "|---|---|" + "---:|" * (len(steps) + has_ssim),
    ]
    for row in condition["rows"]:
        values = " | ".join(_number(row["psnr"][step]) for step in steps)
        lines.append(
            f"| {row['method']} | {row['optimizer']} | {values} |{ssim(row)}"
        )
    for row in condition["classical"]:
        lines.append(
            f"| {row['method']} | |"
            + " |" * (len(steps) - 1)
            + f" {_number(row['psnr'])} |{ssim(row)}"
        )
    match = condition["standard_to_match"]
    needed = (
        f"{match['steps']} Adam steps (rate {match['rate']:g})"
        if match["steps"] is not None
        else f"more than {match['max_steps']} Adam steps: its best was "
        f"{_number(match['best_psnr'])} dB"
    )
    return [
        *lines,
        "",
        "The best constant image scores "
        f"{_number(condition['constant_psnr'])} dB, the class's mean image "
        f"{_number(condition['mean_psnr'])} dB. For the "
        f"{_number(match['target'])} dB that the learned weights reach in "
        f"{condition['inner_steps']} steps on {match['num_signals']} of the "
        f"signals, random weights need {needed}.",
        "",
    ]


def _summary(conditions, last):
    """Methods by conditions, after the last step."""
    lines = [
        f"### After {last} steps",
        "",
        "| | " + " | ".join(c["label"] for c in conditions) + " |",
        "|---|" + "---:|" * len(conditions),
    ]
    rows = [
        [(row["method"], row["psnr"][-1]) for row in condition["rows"]]
        + [(row["method"], row["psnr"]) for row in condition["classical"]]
        for condition in conditions
    ]
    for of_method in zip(*rows):
        values = " | ".join(_number(psnr) for _, psnr in of_method)
        lines.append(f"| {of_method[0][0]} | {values} |")
    # Other signals than above, if fewer: the learned weights on the same.
    matches = [condition["standard_to_match"] for condition in conditions]
    count, limit = matches[0]["num_signals"], matches[0]["max_steps"]
    for label, key in (
        ("Learned", "learned_psnr"),
        (f"Standard, at its best of {limit} Adam steps", "best_psnr"),
    ):
        values = " | ".join(_number(match[key]) for match in matches)
        lines.append(f"| {label} (on {count} of the signals) | {values} |")
    return [*lines, ""]
