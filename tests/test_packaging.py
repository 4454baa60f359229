"""The presets and the package are found alike from checkout, editable install, wheel and sdist."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from easyseg.plan.presets import list_domains, list_presets
from easyseg.study.reading import list_studies

ROOT = Path(__file__).resolve().parent.parent
SKIPPED = shutil.ignore_patterns(".git", ".venv", "*cache*", ".hypothesis", "easyseg-*", "dist")

WHERE = (
    "import easyseg, pathlib; from easyseg.plan import presets; "
    "print(pathlib.Path(easyseg.__file__).resolve().parent); "
    "print(presets.presets_folder()); "
    "print(*presets.list_presets(), *presets.list_domains()); "
    "print(*[presets.load_preset(name)['about'] for name in presets.list_presets()], "
    "*[presets.load_domain(name)['about'] for name in presets.list_domains()], sep='|')"
)


def run(*command: str | Path, cwd: Path, pythonpath: Path | None = None) -> str:
    """Run a command outside of pytest's own import path; return what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if pythonpath is not None:
        environment["PYTHONPATH"] = str(pythonpath)
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def ask(path: Path, cwd: Path) -> tuple[Path, Path, str, str]:
    """Return (package folder, presets folder, names, contents) as seen with ``path`` in front."""
    package, presets, names, about = run(
        sys.executable, "-c", WHERE, cwd=cwd, pythonpath=path
    ).splitlines()
    return Path(package), Path(presets), names, about


def install(source: Path, target: Path, *options: str) -> Path:
    """Install a wheel or sdist without its dependencies and without the network."""
    pip = (sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet")
    run(*pip, *options, "--target", target, source, cwd=target.parent)
    return target


def tracked_files() -> list[Path] | None:
    """Return what git knows or would add, as `git archive` after a commit; None outside of git."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return [Path(name) for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean copy of the tree, so that building leaves nothing behind in the real one."""
    copy = tmp_path_factory.mktemp("packaging") / "checkout"
    files = tracked_files()
    if files is None:
        shutil.copytree(ROOT, copy, ignore=SKIPPED)
        return copy
    for file in files:
        (copy / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, copy / file)
    return copy


@pytest.fixture(scope="module")
def built(checkout: Path) -> tuple[Path, Path]:
    """The wheel and the sdist, each built from the copy."""
    out = checkout.parent / "dist"
    command = (sys.executable, "-m", "build", "--no-isolation", "--wheel", "--sdist")
    run(*command, "--outdir", out, checkout, cwd=checkout.parent)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


def expected(checkout: Path) -> tuple[str, str]:
    """What the checkout itself answers, checked to come from there."""
    package, presets, names, about = ask(checkout, checkout.parent)
    assert package == (checkout / "easyseg").resolve()
    assert presets == (checkout / "presets").resolve()
    assert tuple(names.split()) == (*list_presets(), *list_domains())
    return names, about


def test_wheel_brings_package_and_presets(checkout, built, tmp_path):
    target = install(built[0], tmp_path / "site")
    package, presets, *content = ask(target, tmp_path)
    assert package == (target / "easyseg").resolve()
    assert presets == package / "presets"
    assert tuple(content) == expected(checkout)
    assert (package / "py.typed").is_file()


def test_wheel_holds_the_package_only_and_all_of_it(checkout, built):
    with zipfile.ZipFile(built[0]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    sources = {path.relative_to(checkout).as_posix() for path in checkout.glob("easyseg/**/*.py")}
    presets = {
        f"easyseg/{path.relative_to(checkout).as_posix()}"
        for path in checkout.glob("presets/**/*.yaml")
    }
    assert len(presets) == len(list_presets()) + len(list_domains()) + len(list_studies())
    assert names == sources | presets | {"easyseg/py.typed"}


def test_sdist_installs_as_the_wheel_does(checkout, built, tmp_path):
    target = install(built[1], tmp_path / "site", "--no-build-isolation")
    package, presets, *content = ask(target, tmp_path)
    assert package == (target / "easyseg").resolve()
    assert presets == package / "presets"
    assert tuple(content) == expected(checkout)


def test_unpacked_sdist_works_and_holds_what_tests_need(checkout, built, tmp_path):
    with tarfile.open(built[1]) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    package, presets, *content = ask(folder, tmp_path)
    assert package == (folder / "easyseg").resolve()
    assert presets == (folder / "presets").resolve()
    assert tuple(content) == expected(checkout)
    assert (folder / "tests" / "test_packaging.py").is_file()
    assert (folder / "Makefile").is_file()


def test_editable_install_follows_the_checkout(tmp_path):
    """`make test` runs in an editable install: that very one is asked, from another folder."""
    try:
        origin = json.loads(distribution("easyseg").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        origin = {}
    if not origin.get("dir_info", {}).get("editable"):
        pytest.skip("easyseg is not an editable install here; `make test` makes one")
    package, presets, names, _ = run(sys.executable, "-c", WHERE, cwd=tmp_path).splitlines()
    assert Path(package) == ROOT / "easyseg"
    assert Path(presets) == ROOT / "presets"
    assert tuple(names.split()) == (*list_presets(), *list_domains())
