"""The project's promise for text at 64 x 64, trained in full: 15 minutes."""

import pytest

from tfmetainit import evaluate, train
from tfmetainit.configs import text


@pytest.mark.slow
def test_text_reaches_its_bar(tmp_path):
    config = text.get_config()
    config.signal.data_dir = str(tmp_path / "data")
    # Of the baselines only tuned Adam from random weights is asked for here.
    config.evaluation.num_fit_steps = 1
    config.evaluation.max_match_steps = 1
    train.train(config, tmp_path / "run")
    (results,) = evaluate.evaluate(tmp_path / "run")["conditions"]
    curves = {row["method"]: row["psnr"] for row in results["rows"]}
    learned = curves["Learned"][2]
    assert results["num_signals"] == 100
    assert learned >= 24.0
    assert learned >= results["constant_psnr"] + 3.0
    assert learned > curves["Standard"][10]
