"""Fits on ARM64 under qemu: `make test-arm`.

Runs the same fits on this machine and on an emulated ARM64 processor, with the
aarch64 wheels of LiteRT, NumPy and Pillow, Debian's Python, and the C client,
cross-compiled. Their weights and pictures must be equal but for rounding. It
needs Linux, Debian's apt, qemu-user-static and gcc-aarch64-linux-gnu. Without
these it prints what is missing and stops. Downloads of 60 MB are kept in the
folder given as --folder.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
from PIL import Image

_ROOT = pathlib.Path(__file__).parents[1]
_QEMU = "qemu-aarch64-static"
_COMPILER = "aarch64-linux-gnu-gcc"
_GLIBC = ("2_17", "2_27", "2_28", "2_34", "2_35")  # of aarch64 wheels
_STEPS = 2
_SIDE = 24  # pixels of the picture: emulation is slow
# Differences of weights and of predicted values, which are in [0, 1].
_TOLERANCE = 1e-4
# XNNPACK reads this file; without it, it sees the x86 of the host and crashes.
_CPUINFO = """processor\t: 0
BogoMIPS\t: 48.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3
"""
# Runs on both machines.
_FIT = """
import sys, numpy as np
from tfmetainit.geometry import pixel_coords
from tfmetainit.io import read_image
from tfmetainit.litert import LiteArtifact

artifact, picture, output, steps = sys.argv[1:]
artifact = LiteArtifact(artifact)
image = read_image(picture)
coords = pixel_coords(*image.shape[:2])
theta, losses = artifact.adapt(
    artifact.init(), coords, image.reshape(-1, 3), int(steps)
)
np.savez(
    output, theta=theta, losses=losses, values=artifact.predict(theta, coords)
)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--folder", type=pathlib.Path, default=_ROOT / "build" / "arm"
    )
    folder = parser.parse_args().folder.resolve()
    missing = [
        name
        for name in (_QEMU, _COMPILER, "apt-get", "dpkg-deb")
        if shutil.which(name) is None
    ]
    if missing:
        print(f"Skipped: {', '.join(missing)} not found.")
        return
    folder.mkdir(parents=True, exist_ok=True)
    try:
        root, python = _debian(folder)
        packages = _wheels(folder, python)
    except subprocess.CalledProcessError as error:
        print(f"Skipped: cannot download what is needed.\n{error.stderr}")
        return
    model, picture = _inputs(folder)
    emulated = [_QEMU, "-L", root]

    on_arm = [*emulated, root / "usr" / "bin" / python]
    environment = {
        **os.environ,
        "PYTHONHOME": str(root / "usr"),
        "PYTHONPATH": os.pathsep.join(map(str, (_ROOT, packages))),
    }
    arguments = [model, picture]
    _run(sys.executable, "-c", _FIT, *arguments, folder / "x86.npz", _STEPS)
    _run(
        *(*on_arm, "-c", _FIT, *arguments, folder / "arm.npz", _STEPS),
        env=environment,
    )
    _compare("LiteArtifact", folder / "x86.npz", folder / "arm.npz")

    flags = [f"--artifact={model}", f"--input={picture}", f"--steps={_STEPS}"]
    flags.append(f"--resolution={_SIDE}")
    command = ["-m", "tfmetainit.fit", *flags]
    _run(sys.executable, *command, f"--output={folder / 'x86.png'}")
    _run(
        *(*on_arm, *command, f"--output={folder / 'arm.png'}"), env=environment
    )
    _compare("fit --artifact", folder / "x86.png", folder / "arm.png")

    library = packages / "ai_edge_litert" / "libLiteRt.so"
    program = folder / "fit"
    _run(
        *(_COMPILER, "-std=c11", "-O2", "-Wall", "-Wextra", "-o", program),
        *(_ROOT / "examples" / "c" / "fit.c", library, "-lm"),
        f"-Wl,-rpath,{library.parent}",
        "-Wl,--unresolved-symbols=ignore-in-shared-libs",
    )
    _run(*emulated, program, model, picture, folder / "arm.ppm", _STEPS)
    # The command renders what it fitted at 64 x 64; the client, the picture.
    with np.load(folder / "x86.npz") as fitted:
        pixels = np.uint8(np.rint(255.0 * np.clip(fitted["values"], 0.0, 1.0)))
    Image.fromarray(pixels.reshape(_SIDE, _SIDE, 3)).save(folder / "x86.png")
    _compare("examples/c/fit.c", folder / "x86.png", folder / "arm.ppm")
    print("ARM64 fits as x86 does.")


def _debian(folder):
    """Debian's Python for ARM64, unpacked: its root and its program's name."""
    root = folder / "root"
    found = sorted((root / "usr" / "bin").glob("python3.[0-9]*"))
    if not found:
        apt = folder / "apt"
        for part in ("lists/partial", "archives/partial"):
            (apt / part).mkdir(parents=True, exist_ok=True)
        (apt / "status").touch()
        options = {
            "APT::Architecture": "arm64",
            "APT::Architectures": "arm64",
            "Dir::State::lists": apt / "lists",
            "Dir::State::status": apt / "status",
            "Dir::Cache::archives": apt / "archives",
            "Debug::NoLocking": "true",
            "APT::Install-Recommends": "false",
        }
        flags = [f"-o{name}={value}" for name, value in options.items()]
        _run("apt-get", *flags, "-qq", "update")
        names = ["python3-minimal", "libpython3-stdlib", "libstdc++6"]
        _run("apt-get", *flags, "-qq", "--download-only", "install", *names)
        for package in sorted((apt / "archives").glob("*.deb")):
            _run("dpkg-deb", "--extract", package, root)
        found = sorted((root / "usr" / "bin").glob("python3.[0-9]*"))
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc" / "cpuinfo").write_text(_CPUINFO)
    return root, found[0].name


def _wheels(folder, python):
    """The packages that `fit --artifact` needs, for ARM64."""
    packages = folder / f"packages-{python}"
    if not packages.is_dir():
        _run(
            *(sys.executable, "-m", "pip", "install", "--quiet"),
            *("--target", packages, "--only-binary=:all:"),
            f"--python-version={python.removeprefix('python')}",
            *(f"--platform=manylinux_{v}_aarch64" for v in _GLIBC),
            *("ai-edge-litert", "numpy", "pillow", "absl-py"),
        )
    return packages


def _inputs(folder):
    """An artifact of `text_64`, and a picture."""
    model, picture = folder / "exported" / "model.tflite", folder / "in.ppm"
    rows, columns = np.mgrid[0:_SIDE, 0:_SIDE] / _SIDE
    waves = np.stack(
        [np.sin(9.0 * rows), np.cos(7.0 * columns), rows * columns], axis=-1
    )
    Image.fromarray(np.uint8(127.5 * (waves + 1.0))).save(picture)
    _run(
        *(sys.executable, "-m", "tfmetainit.export", "--workdir=text_64"),
        *(f"--output_dir={model.parent}", "--formats=tflite"),
    )
    return model, picture


def _compare(name, one, other):
    """Raises SystemExit unless two results are equal but for rounding."""
    differences = {}
    if one.suffix == ".npz":
        with np.load(one) as a, np.load(other) as b:
            differences = {n: np.abs(a[n] - b[n]).max() for n in a.files}
        tolerance = _TOLERANCE
    else:
        a, b = (np.asarray(Image.open(p), np.int16) for p in (one, other))
        differences = {"levels of 255": np.abs(a - b).max()}
        tolerance = 1
    shown = ", ".join(f"{n} {value:.2g}" for n, value in differences.items())
    print(f"{name}: largest differences: {shown}")
    # NumPy's maximum keeps NaN, which is not more than the tolerance either.
    if not np.max(list(differences.values())) <= tolerance:
        sys.exit(f"{name} on ARM64 differs from x86 by more than {tolerance}.")


def _run(*command, **options):
    result = subprocess.run(
        list(map(str, command)), text=True, capture_output=True, **options
    )
    if result.returncode:
        print(result.stdout, result.stderr, sep="\n", file=sys.stderr)
    result.check_returncode()
    return result


if __name__ == "__main__":
    main()
