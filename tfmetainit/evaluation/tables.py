"""Tables of PSNR over gradient steps, as text and as Markdown."""

import math
from collections.abc import Sequence


def markdown_table(
    titles: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1
) -> str:
    """A Markdown table.

    Args:
        titles: titles of the columns.
        rows: the cells; each row has one for each title.
        text_columns: number of leading columns that are aligned left; the
            others are aligned right.
    """
    aligned = ["---"] * text_columns + ["---:"] * (len(titles) - text_columns)
    lines = [f"| {' | '.join(cells)} |" for cells in (titles, *rows)]
    return "\n".join([lines[0], f"|{'|'.join(aligned)}|", *lines[1:]])


def _number(value, digits: int = 2) -> str:
    """Formats a number; "nan" for None, which results.json stores as null."""
    return f"{math.nan if value is None else value:.{digits}f}"


def _shown_steps(last: int) -> list[int]:
    """The steps that have a column in a table of `last` steps."""
    steps = (0, 1, 2, 3, 4, 6, 8, 10, 16, 25, 50, 100, 200, 300, 500, 1000)
    return [s for s in steps if s < last] + [last]


def scored_steps(last: int) -> set[int]:
    """The steps after which a fit of `last` steps is scored.

    These are all of the first 32, then 16 for each doubling, and those that
    have a column in a table: scoring a whole view takes longer than a step.
    """
    sixteenths = {
        step
        for step in range(last)
        if step % max(1, 2 ** step.bit_length() // 32) == 0
    }
    return sixteenths.union(_shown_steps(last))


def in_numbers(curve) -> str:
    """A curve of PSNRs after 0, 1, ... steps as one line, at a dozen steps."""
    steps = _shown_steps(len(curve) - 1)
    return " ".join(_number(curve[step]) for step in steps)


def in_words(step_on: str) -> str:
    """What messages say behind a number of steps, by `learner.step_on`."""
    return " on half of the pixels each" if step_on == "halves" else ""


def to_markdown(results: dict) -> str:
    """The results as Markdown tables, with a line on how they were measured.

    Args:
        results: as returned by `evaluate.evaluate`.
    """
    first = results["conditions"][0]
    last = len(first["rows"][0]["psnr"]) - 1
    lines = [
        "PSNR in dB after gradient steps, and SSIM of pictures after the last; "
        f"trained on {results['trained_on']}, mean over "
        f"{first['num_signals']} held-out {results['evaluated_on']} signals. "
        f"The baselines' rates are those with the best PSNR after {last} steps "
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
    # Signals without pictures have no SSIM.
    has_ssim = any(math.isfinite(row["ssim"] or math.nan) for row in rows)

    def ssim(row):
        return [_number(row["ssim"], 3)] if has_ssim else []

    cells = [
        [
            row["method"],
            row["optimizer"],
            *(_number(row["psnr"][step]) for step in steps),
            *ssim(row),
        ]
        for row in condition["rows"]
    ]
    for row in condition["classical"]:
        empty = [""] * len(steps)
        cells.append([row["method"], *empty, _number(row["psnr"]), *ssim(row)])
    titles = ["initial weights", "optimizer", *map(str, steps)]
    titles += ["SSIM"] * has_ssim
    match = condition["standard_to_match"]
    needed = (
        f"{match['steps']} Adam steps (rate {match['rate']:g})"
        if match["steps"] is not None
        else f"more than {match['max_steps']} Adam steps: its best was "
        f"{_number(match['best_psnr'])} dB"
    )
    return [
        *([f"### {condition['label']}", ""] if condition["label"] else []),
        markdown_table(titles, cells, text_columns=2),
        "",
        "The best constant image scores "
        f"{_number(condition['constant_psnr'])} dB, the class's mean image "
        f"{_number(condition['mean_psnr'])} dB. For the "
        f"{_number(match['target'])} dB that the learned weights reach in "
        f"{condition['inner_steps']} steps{in_words(condition['step_on'])}, on "
        f"{match['num_signals']} of the signals, random weights need {needed}.",
        "",
    ]


def _summary(conditions, last):
    """Methods by conditions, after the last step."""
    by_condition = [
        [(row["method"], row["psnr"][-1]) for row in condition["rows"]]
        + [(row["method"], row["psnr"]) for row in condition["classical"]]
        for condition in conditions
    ]
    rows = [
        [of_method[0][0], *(_number(psnr) for _, psnr in of_method)]
        for of_method in zip(*by_condition)
    ]
    # Fewer signals than above, so the learned weights are scored on them, too.
    matches = [condition["standard_to_match"] for condition in conditions]
    count, limit = matches[0]["num_signals"], matches[0]["max_steps"]
    for label, key in (
        ("Learned", "learned_psnr"),
        (f"Standard, at its best of {limit} Adam steps", "best_psnr"),
    ):
        values = [_number(match[key]) for match in matches]
        rows.append([f"{label} (on {count} of the signals)", *values])
    titles = ["", *(condition["label"] for condition in conditions)]
    return [f"### After {last} steps", "", markdown_table(titles, rows), ""]
