"""Flags that name a config file."""

import pytest

from tfmetainit.cli import config_files


def test_only_a_flag_is_followed_by_its_value():
    """A folder may be called as a flag is."""
    argv = ["train", "--workdir", "config", "--config", "nowhere/a.py"]
    expected = ["train", "--workdir", "config", "--config=nowhere/a.py"]
    assert config_files.find_configs(argv) == expected


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("x = 1\n", "get_config"),
        ("def get_config():\n    return {}\n", "dict"),
    ],
)
def test_a_config_file_that_makes_no_config(
    tmp_path, run_command, assert_one_sentence, content, part
):
    (tmp_path / "mine.py").write_text(content)
    result = run_command(
        *("train", f"--config={tmp_path}/mine.py", f"--workdir={tmp_path}/run")
    )
    assert_one_sentence(result, part)
    assert not (tmp_path / "run").exists()
