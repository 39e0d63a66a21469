"""Which split a file of a folder belongs to."""

import itertools
import os

import numpy as np
import pytest

from tfmetainit.io.errors import InputError
from tfmetainit.signals.base import layouts
from tfmetainit.signals.base.pipeline import SPLITS


def _write(root, *names):
    """Files that differ in their contents."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def _find(root):
    """The names of files by split, and the rest of the layout."""
    layout = layouts.find_layout(root, [".png"])
    names = {
        split: [path.relative_to(root).as_posix() for path in paths]
        for split, paths in layout.paths.items()
    }
    return names, layout


def test_a_file_keeps_its_split():
    names = [f"photo_{i}.jpg" for i in range(2000)]
    share = {
        split: sum(layouts.split_of(n) == split for n in names) / 2000
        for split in SPLITS
    }
    np.testing.assert_allclose(
        [share[s] for s in SPLITS], [0.8, 0.1, 0.1], atol=0.03
    )
    # Of a name that is not UTF-8, as Python has it, too.
    assert layouts.split_of(os.fsdecode(b"caf\xe9.png")) in SPLITS


@pytest.mark.parametrize(
    "folders",
    [
        ("train", "validation", "test"),
        ("Train", "Val", "Test"),
        ("imagenette/train", "imagenette/valid", "imagenette/test"),
        ("cats/train", "cats/dev", "cats/testing"),
        ("training/0", "validation/1", "test/2"),
        ("cars_train/1", "cars-val/2", "my cars_test/3"),
    ],
)
def test_folders_are_splits(tmp_path, folders):
    for folder in folders:
        _write(tmp_path, f"{folder}/a.png", f"{folder}/b/c.png")
    _write(tmp_path, "elsewhere.png", "notes.txt", "README")
    names, layout = _find(tmp_path)
    for split, folder in zip(SPLITS, folders):
        assert names[split] == [f"{folder}/a.png", f"{folder}/b/c.png"]
    assert layout.ignored == {".txt": 1, "": 1}


@pytest.mark.parametrize(
    ("held_out", "split", "other", "source"),
    [
        ("val", "validation", "test", "validation"),
        ("test", "test", "validation", "train"),
    ],
)
def test_a_split_without_a_folder_is_a_part_of_another(
    tmp_path, held_out, split, other, source
):
    for folder in ("train", held_out):
        _write(tmp_path, *(f"{folder}/{i}.png" for i in range(40)))
    names, layout = _find(tmp_path)
    assert f"{other} is a part of {source}" in layout.how
    folder = "train" if source == "train" else held_out
    assert all(names[s] for s in (other, source, split))
    assert all(name.startswith(f"{folder}/") for name in names[other])
    assert sum(map(len, names.values())) == 80


@pytest.mark.parametrize("count", [3, 4, 10, 24])
def test_a_small_folder_has_every_split(tmp_path, count):
    _write(tmp_path, *(f"{i}.png" for i in range(count)))
    names, _ = _find(tmp_path)
    assert all(names.values())
    assert sorted(itertools.chain(*names.values())) == sorted(
        f"{i}.png" for i in range(count)
    )


def test_classes_with_the_name_of_a_split_are_classes(tmp_path):
    """There are no splits without a folder for training."""
    _write(tmp_path, *(f"test/{i}.png" for i in range(30)))
    _write(tmp_path, *(f"0/{i}.png" for i in range(30)))
    names, layout = _find(tmp_path)
    assert "hash" in layout.how
    assert sum(map(len, names.values())) == 60


def test_a_list_of_splits(tmp_path, raises_with):
    _write(tmp_path, *(f"img_align_celeba/{i}.png" for i in range(4)))
    path = tmp_path / "list_eval_partition.txt"
    path.write_text("0.png 0\n1.png 1\n2.png 2\nmissing.png 0\n")
    names, layout = _find(tmp_path)
    folder = "img_align_celeba"
    assert names == {
        "train": [f"{folder}/0.png"],
        "validation": [f"{folder}/1.png"],
        "test": [f"{folder}/2.png"],
    }
    assert path.name in layout.how
    path.write_text("0.png 0\n1.png 7\n")
    with raises_with(InputError, path, "1.png 7"):
        _find(tmp_path)
    path.unlink()
    (tmp_path / "splits.csv").write_text(
        f"file,split\n{folder}/0.png,test\n{folder}/3.png,train\n"
    )
    names, _ = _find(tmp_path)
    assert names["test"] == [f"{folder}/0.png"]
    assert names["train"] == [f"{folder}/3.png"]


def test_equal_contents_are_in_one_split(tmp_path):
    _write(tmp_path, *(f"{i}.png" for i in range(200)))
    before, _ = _find(tmp_path)
    kept, copied = before["test"][0], before["train"][:3]
    for name in copied:
        (tmp_path / name).write_bytes((tmp_path / kept).read_bytes())
    after, layout = _find(tmp_path)
    found = [s for s in SPLITS for n in (kept, *copied) if n in after[s]]
    assert len(found) == 4
    assert len(set(found)) == 1
    assert layout.repeated in (1, 3)
    # Folders for splits are the user's own decision.
    _write(tmp_path / "own", "train/1.png", "val/1.png", "test/1.png")
    for split in ("train", "val", "test"):
        (tmp_path / "own" / split / "1.png").write_text("same")
    after, layout = _find(tmp_path / "own")
    assert all(after.values())
    assert layout.repeated == 2


def test_lists_as_people_write_them(tmp_path):
    """A byte order mark, ./, backslashes, blanks in names; what is left out."""
    _write(tmp_path, "my a.png", "b/c.png", "d/e.png", "f.png", "g.png")
    (tmp_path / "splits.txt").write_bytes(
        b"\xef\xbb\xbf./my a.png train\nb\\c.png val\n"
        b"e.png TEST\ngone.png test\n"
    )
    names, layout = _find(tmp_path)
    assert names == {
        "train": ["my a.png"],
        "validation": ["b/c.png"],
        "test": ["d/e.png"],
    }
    assert "1 files that are not there" in layout.how
    assert "2 images" in layout.how


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("a.png train\na.png test\n", "second split"),
        ("c.png train\n", "several"),
        ("a.png\n", "line 1"),
        ("a.png north\n", "line 1"),
        ("name split\na.png north\n", "line 2"),
    ],
)
def test_lists_that_contradict_themselves(
    tmp_path, content, named, raises_with
):
    _write(tmp_path, "a.png", "b/c.png", "d/c.png")
    (tmp_path / "splits.txt").write_text(content)
    with raises_with(InputError, tmp_path / "splits.txt", named):
        _find(tmp_path)


def test_lists_that_are_none(tmp_path, raises_with):
    _write(tmp_path, "a.png")
    (tmp_path / "splits.csv").write_text('"' + "x,train\n" * 30_000)
    with raises_with(InputError, tmp_path / "splits.csv"):
        _find(tmp_path)
    (tmp_path / "splits.txt").write_text("a.png train\n")
    with raises_with(InputError, "splits.csv", "splits.txt"):
        _find(tmp_path)


def test_images_outside_of_the_folders_of_splits_are_counted(tmp_path):
    _write(tmp_path, "train/a.png", "test/b.png", "train/c.png", "d.png")
    assert "1 in no such folder" in _find(tmp_path)[1].how


def test_folders_for_testing_need_one_for_training(tmp_path, raises_with):
    _write(tmp_path, "val/a.png", "test/b.png", "test/c.png")
    with raises_with(InputError, tmp_path, "train"):
        _find(tmp_path)
