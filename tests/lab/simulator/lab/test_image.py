"""What the image of a node is made of: named for its content, the same bytes for the same files. No engine needed."""

import io
import tarfile
from pathlib import Path

import pytest

from simulator.errors import LabError
from simulator.lab import image


class Engine:
    """An engine that has some images and is asked for nothing else."""

    def __init__(self, *images: str) -> None:
        self.images = images

    def has(self, name: str) -> bool:
        return name in self.images


def test_image_is_named_for_the_code_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    first = image.recipe()
    assert image.recipe() == first
    assert "code/simulator/contained.py" in first.files
    assert any(path.startswith("site/pyroute2/") for path in first.files)
    monkeypatch.setattr(image, "_DOCKERFILE", image._DOCKERFILE + "ENV A=B\n")
    second = image.recipe()
    assert (second.base, second.node != first.node) == (first.base, True)


def test_another_base_is_another_node(monkeypatch: pytest.MonkeyPatch) -> None:
    first = image.recipe()
    monkeypatch.setattr(image, "_DEBOOTSTRAP", (*image._DEBOOTSTRAP, "x"))
    second = image.recipe()
    assert (second.base != first.base, second.node != first.node) == (True, True)


def test_archive_has_the_files_and_the_same_bytes_each_time() -> None:
    files = {"b/c": b"two", "a": b"one"}
    packed = image.archive(files)
    assert packed == image.archive(dict(reversed(files.items())))
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert tar.getnames() == ["a", "b/c"]
        assert {entry.mtime for entry in tar} == {0}


def test_image_that_the_engine_has_is_neither_made_nor_spoken_of() -> None:
    said: list[str] = []
    name = image.recipe().image
    assert image.ensure(Engine(name), said.append) == name  # type: ignore[arg-type]
    assert said == []
    assert image.build(Engine(name), said.append) == name  # type: ignore[arg-type]
    assert said == [f"{name}: cached"]


def test_library_with_compiled_modules_or_without_a_list_of_files_is_refused() -> None:
    with pytest.raises(LabError, match="pydantic_core has modules for this interpreter only"):
        image._distribution("pydantic_core")


def test_archive_of_the_base_leaves_out_what_no_node_reads(tmp_path: Path) -> None:
    for path in ("usr/share/doc/x/copyright", "usr/bin/python3", "var/log/apt.log"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    with tarfile.open(tmp_path / "root.tar", "w") as tar:
        tar.add(tmp_path / "usr", "./usr", filter=image._wanted)
        tar.add(tmp_path / "var", "./var", filter=image._wanted)
    with tarfile.open(tmp_path / "root.tar") as tar:
        assert [entry.name for entry in tar if entry.isfile()] == ["./usr/bin/python3"]
