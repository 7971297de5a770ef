"""The pretrained ear: checkpoints, patches, installing, and the network against the original."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from ear_stand_in import needs_ear
from hypothesis import given, settings, strategies as st

from deepmusic.audio import load, log_mel
from deepmusic.classifier.ear import (
    EAR_MEL,
    PATCH_FRAMES,
    TAGS,
    compressed,
    ear_path,
    has_ear,
    install as install_module,
    install_ear,
    patches_of,
    read_ear,
)
from deepmusic.classifier.ear.checkpoint import crc32c, read_checkpoint
from deepmusic.classifier.ear.network import Ear
from deepmusic.errors import CheckpointError, DeepMusicError, ShapeError
from deepmusic.training.onnx_graph import OnnxNetwork
from faults import each_fault


def varint(value: int) -> bytes:
    """A number as protocol buffers and LevelDB write it."""
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def slow_crc32c(data: bytes) -> int:
    """Bit by bit, as RFC 3720 defines it."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    crc = slow_crc32c(data)
    return (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """A block of LevelDB with shared prefixes, its type and checksum."""
    body, last = b"", b""
    for key, value in entries:
        shared = next((i for i, (a, b) in enumerate(zip(key, last, strict=False)) if a != b), 0)
        body += varint(shared) + varint(len(key) - shared) + varint(len(value))
        body += key[shared:] + value
        last = key
    content = body + bytes(4) + (1).to_bytes(4, "little") + b"\0"
    return content + masked(content)


def checkpoint(arrays: dict[str, np.ndarray]) -> tuple[bytes, bytes]:
    """Index and data of a checkpoint, as TensorFlow writes them."""
    data, entries = b"", [(b"", b"\x08\x01")]
    for name in sorted(arrays):
        raw = arrays[name].astype("<f4").tobytes()
        shape = b"".join(
            b"\x12" + varint(len(s := b"\x08" + varint(n))) + s for n in arrays[name].shape
        )
        value = b"\x08\x01\x12" + varint(len(shape)) + shape + b"\x20" + varint(len(data))
        value += b"\x28" + varint(len(raw)) + b"\x35" + masked(raw)
        entries.append((name.encode(), value))
        data += raw
    first = block(entries)
    second = block([(b"~", varint(0) + varint(len(first) - 5))])
    footer = varint(0) + varint(0) + varint(len(first)) + varint(len(second) - 5)
    return first + second + footer.ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(
        8, "little"
    ), data


ARRAYS = {
    "1CNN/kernel": np.arange(24).reshape(2, 3, 4) / 7,
    "1CNN/bias": np.arange(300) / 3,
    "dense/bias": np.array(2.5),
}


@given(st.binary(max_size=700))
@settings(max_examples=30)
def test_crc32c_equals_its_definition(data: bytes) -> None:
    assert crc32c(data) == slow_crc32c(data)


def test_a_checkpoint_is_read_as_it_was_written() -> None:
    read = read_checkpoint(*checkpoint(ARRAYS))
    assert read.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(read[name], array.astype(np.float32))
    assert read_checkpoint(*checkpoint(ARRAYS), prefix="1CNN/").keys() == {
        "1CNN/kernel",
        "1CNN/bias",
    }


@given(st.data())
@settings(max_examples=60)
def test_a_changed_or_cut_checkpoint_is_refused_or_read_unharmed(data: st.DataObject) -> None:
    parts = list(checkpoint(ARRAYS))
    side = data.draw(st.sampled_from([0, 1]))
    place = data.draw(st.integers(0, len(parts[side]) - 1))
    if data.draw(st.booleans()):
        parts[side] = parts[side][:place]
    else:
        changed = bytearray(parts[side])
        changed[place] ^= 1 << data.draw(st.integers(0, 7))
        parts[side] = bytes(changed)
    with suppress(CheckpointError):  # else it was such as a change in the padding of the footer
        read = read_checkpoint(*parts)
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(read[name], array.astype(np.float32))


@pytest.mark.parametrize("seconds", [0.02, 0.5, 2.99, 3.0, 7.3, 31.0])
def test_every_patch_equals_the_spectrogram_of_the_whole(seconds: float) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, round(seconds * 16_000)).astype(np.float32)
    whole = log_mel(sound, EAR_MEL)
    starts, patches = patches_of(np.array_split(sound, 7), None)
    for start, patch in zip(starts, patches, strict=True):
        expected = np.resize(whole[:, start : start + PATCH_FRAMES].T, (PATCH_FRAMES, 96)).T
        np.testing.assert_allclose(patch, expected, atol=1e-4)
    assert starts[-1] == max(0, whole.shape[1] - PATCH_FRAMES)


@given(st.integers(1, 3000), st.integers(1, 12))
@settings(max_examples=25)
def test_patches_are_spread_evenly_over_the_whole_track(frames: int, count: int) -> None:
    sound = np.zeros(256 * (frames - 1), np.float32)
    starts, patches = patches_of([sound], count)
    assert len(starts) == len(patches) <= count
    assert starts == sorted(set(starts))
    if count > 1 and frames > PATCH_FRAMES:
        assert starts[0] == 0
        assert starts[-1] == frames - PATCH_FRAMES
    if len(starts) > 2:
        gaps = np.diff(starts)
        assert gaps.max() <= 2 * (frames / (len(starts) - 1)) + PATCH_FRAMES


def test_the_shipped_graph_is_that_of_the_network() -> None:
    from importlib import resources

    torch.manual_seed(0)
    ear = Ear()
    with torch.no_grad():
        for _ in range(2):  # buffers that are not those of a new network
            ear(torch.rand(4, PATCH_FRAMES, 96) * 3)
    ear.eval()
    graph = resources.files("deepmusic.pretrained").joinpath("weights/ear.onnx").read_bytes()
    network = OnnxNetwork(graph, {k: v.numpy() for k, v in ear.state_dict().items()})
    patches = torch.rand(3, PATCH_FRAMES, 96) * 4
    with torch.no_grad():
        expected = ear(patches)
    for got, wanted in zip(network(patches.numpy()), expected, strict=True):
        np.testing.assert_allclose(got, wanted.numpy(), atol=1e-4)
    with pytest.raises(ShapeError, match="187"):
        ear(patches[:, 1:])


@needs_ear
def test_logits_of_the_original(shared_data: Path) -> None:
    case = np.load(shared_data / "ear" / "msd_vgg_case.npz")
    _, logits = read_ear()(case["patches"])
    np.testing.assert_allclose(logits, case["logits"], atol=1e-4)
    mp3 = shared_data / "emotify" / "classical" / "1.mp3"
    starts, patches = patches_of([load(mp3, sample_rate=16_000).samples], None)
    np.testing.assert_allclose(compressed(patches[:1])[0], case["patches"][0], atol=1e-4)
    assert starts[0] == 0
    assert TAGS[int(np.argmax(logits[0]))] in ("instrumental", "jazz", "folk", "ambient")


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with the names of the real one and a small network, taken for the known one."""
    path = tmp_path / "musicnn-0.1.0-py3-none-any.whl"
    variables = {"dense/kernel": np.ones((3, 2)), "Adam/dense": np.ones(4)}
    index, data = checkpoint(variables)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("musicnn/MSD_vgg/.index", index)
        archive.writestr("musicnn/MSD_vgg/.data-00000-of-00001", data)
        archive.writestr("musicnn-0.1.0.dist-info/LICENSE.md", "ISC")
    import hashlib

    weights = {"tags.weight": np.ones((2, 3), np.float32)}
    monkeypatch.setattr(
        install_module, "WHEEL_SHA256", hashlib.sha256(path.read_bytes()).hexdigest()
    )
    monkeypatch.setattr(install_module, "_WEIGHTS_SHA256", install_module._digest(weights))
    return path


def test_a_wheel_is_installed_with_its_licence(no_ear: Path, wheel: Path) -> None:
    assert not has_ear()
    assert install_ear(wheel) == ear_path()
    assert has_ear()
    assert install_module.ear_weights()["tags.weight"].shape == (2, 3)
    assert ear_path().with_suffix(".LICENSE.md").read_text() == "ISC"
    assert sorted(p.name for p in ear_path().parent.iterdir()) == [
        "msd_vgg.LICENSE.md",
        "msd_vgg.safetensors",
    ]


@pytest.mark.parametrize("fault", ["changed", "cut", "missing", "a folder", "no zip"])
def test_a_foreign_wheel_is_refused(no_ear: Path, wheel: Path, fault: str) -> None:
    content = wheel.read_bytes()
    wheel.unlink()
    if fault == "changed":
        wheel.write_bytes(content.replace(b"ISC", b"GPL"))
    elif fault == "cut":
        wheel.write_bytes(content[:-20])
    elif fault == "a folder":
        wheel.mkdir()
    elif fault == "no zip":
        wheel.write_text("hello")
    with pytest.raises(CheckpointError) as caught:
        install_ear(wheel)
    assert str(wheel) in str(caught.value)
    assert not has_ear()


@pytest.mark.parametrize("fault", ["changed", "cut", "empty", "of another version"])
def test_a_damaged_cache_is_refused(no_ear: Path, wheel: Path, fault: str) -> None:
    install_ear(wheel)
    content = ear_path().read_bytes()
    changes = {"changed": content[:-1] + b"\x01", "cut": content[:-3], "empty": b""}
    if fault in changes:
        ear_path().write_bytes(changes[fault])
    else:
        from safetensors.numpy import save

        ear_path().write_bytes(save({"tags.weight": np.zeros((2, 3), np.float32)}))
    with pytest.raises(CheckpointError, match=r"damaged.*deepmusic ear install"):
        install_module.ear_weights()


def test_whatever_fails_the_ear_is_whole_or_missing(
    no_ear: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def install(folder: Path) -> None:
        monkeypatch.setenv("DEEPMUSIC_CACHE", str(folder))
        install_ear(folder / wheel.name)

    each_fault(
        install,
        lambda _: has_ear() and install_module.ear_weights(),
        prepare=lambda folder: shutil.copy(wheel, folder),
    )


def test_two_installs_at_once_leave_a_whole_ear(no_ear: Path, wheel: Path) -> None:
    with ThreadPoolExecutor(4) as executor:
        paths = list(executor.map(install_ear, [wheel] * 12))
    assert set(paths) == {ear_path()}
    assert install_module.ear_weights()["tags.weight"].shape == (2, 3)
    assert len(list(ear_path().parent.iterdir())) == 2


def test_without_the_ear_it_is_said_how_to_get_it(no_ear: Path) -> None:
    with pytest.raises(CheckpointError, match="not installed; run: deepmusic ear install"):
        read_ear()


def test_another_cache_is_noticed(
    stand_in_ear: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_ear()
    monkeypatch.setenv("DEEPMUSIC_CACHE", str(tmp_path / "other"))
    with pytest.raises(CheckpointError, match="not installed"):
        read_ear()


def test_a_cache_that_cannot_be_made_or_written(
    no_ear: Path, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_ear.mkdir(parents=True)  # a folder of the file's name cannot be replaced, even by root
    with pytest.raises(DeepMusicError, match=r"msd_vgg.safetensors[^\n]*\.$"):
        install_ear(wheel)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEEPMUSIC_CACHE", str(tmp_path / "file"))
    with pytest.raises(DeepMusicError, match=r"could not be made.*DEEPMUSIC_CACHE"):
        install_ear(wheel)


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        ("/usr/bin/python: No module named pip", "no pip"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM ...", "another musicnn"),
        ("WARNING: x\nERROR: No matching distribution found for musicnn==0.1.0", "No matching"),
        ("", "no reason"),
    ],
)
def test_a_failed_download_is_one_sentence(
    no_ear: Path, monkeypatch: pytest.MonkeyPatch, stderr: str, expected: str
) -> None:
    def fail(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", stderr)

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(DeepMusicError, match=expected) as caught:
        install_ear()
    assert "--wheel FILE" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not has_ear()
