from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from allsub_edge.errors import FieldError
from allsub_edge.imaging import decode as module
from allsub_edge.imaging.decode import decode, read_bytes, read_field
from allsub_edge.imaging.render import render_field

ROOT = Path(__file__).parents[2]
SMEAR = render_field(3, "Pre")


def encoded(suffix: str, rgb: np.ndarray, *options: int) -> bytes:
    pixels = np.ascontiguousarray(rgb[:, :, [2, 1, 0, 3][: rgb.shape[2]]] if rgb.ndim == 3 else rgb)
    done, data = cv2.imencode(suffix, pixels, list(options))
    assert done
    return bytes(data.tobytes())


def code_of(data: bytes, **options: Any) -> str:
    with pytest.raises(FieldError) as caught:
        decode(data, source="f.img", **options)
    assert caught.value.message.startswith("f.img: ")
    assert "\n" not in caught.value.message
    return caught.value.code


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, *, depth: int = 8, kind: int = 2, pixels: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(pixels))
        + chunk(b"IEND", b"")
    )


def exif(orientation: int, order: str = ">") -> bytes:
    mark = b"MM" if order == ">" else b"II"
    return mark + struct.pack(f"{order}HIHHHIHHI", 42, 8, 1, 274, 3, 1, orientation, 0, 0)


def jpeg_with_exif(jpeg: bytes, block: bytes) -> bytes:
    payload = b"Exif\0\0" + block
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + jpeg[2:]


def tiff_of(entries: dict[int, tuple[int, list[int]]], pixels: bytes, order: str = "<") -> bytes:
    """A TIFF with the pixels in one strip at byte 8 (tag 273 is set here)."""
    entries = {**entries, 273: (4, [8])}
    start = 8 + len(pixels)
    extra = b""
    extra_at = start + 2 + 12 * len(entries) + 4
    directory = struct.pack(f"{order}H", len(entries))
    for tag in sorted(entries):
        kind, values = entries[tag]
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            field = struct.pack(f"{order}I", extra_at + len(extra))
            extra += packed
        else:
            field = packed.ljust(4, b"\0")
        directory += struct.pack(f"{order}HHI", tag, kind, len(values)) + field
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}I", start) + pixels + directory + b"\0" * 4 + extra


def tiff_entries(
    width: int, height: int, channels: int = 3, bits: int = 8
) -> dict[int, tuple[int, list[int]]]:
    return {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits] * channels),
        259: (3, [1]),
        262: (3, [2 if channels >= 3 else 1]),
        277: (3, [channels]),
        278: (4, [height]),
        279: (4, [width * height * channels * bits // 8]),
    }


# --- what is read, and how exactly ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "options", "name"),
    [
        (".png", (), "png"),
        (".bmp", (), "bmp"),
        (".tiff", (cv2.IMWRITE_TIFF_COMPRESSION, 1), "tiff"),
        (".tiff", (cv2.IMWRITE_TIFF_COMPRESSION, 5), "tiff"),
        (".tiff", (cv2.IMWRITE_TIFF_COMPRESSION, 8), "tiff"),
    ],
)
def test_lossless_formats_come_back_bit_for_bit(
    suffix: str, options: tuple[int, ...], name: str
) -> None:
    field = decode(encoded(suffix, SMEAR[:200], *options))
    assert np.array_equal(field.rgb, SMEAR[:200])
    assert (field.width, field.height, field.reduction, field.format) == (224, 200, 1, name)
    assert field.rgb.dtype == np.uint8
    assert field.rgb.flags.c_contiguous


@pytest.mark.parametrize("progressive", [0, 1])
def test_jpeg_is_rgb(progressive: int) -> None:
    data = encoded(
        ".jpg", SMEAR, cv2.IMWRITE_JPEG_QUALITY, 98, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive
    )
    field = decode(data)
    assert field.format == "jpeg"
    assert np.abs(field.rgb.astype(int) - SMEAR).mean() < 3


@pytest.mark.parametrize(
    ("side", "smallest", "reduction"),
    [(1800, 224, 8), (1792, 224, 8), (1780, 224, 4), (450, 224, 2), (449, 224, 1), (1800, None, 1),
     (600, 32, 8)],
)  # fmt: skip
def test_large_jpegs_are_decoded_smaller(side: int, smallest: int | None, reduction: int) -> None:
    rgb = render_field(1, "Pre", side)[:, : side - 3]
    field = decode(encoded(".jpg", rgb), smallest_side=smallest)
    assert (field.width, field.height, field.reduction) == (side - 3, side, reduction)
    assert field.rgb.shape[:2] == (-(-side // reduction), -(-(side - 3) // reduction))
    if smallest is not None:
        assert min(field.rgb.shape[:2]) >= smallest
    means = np.abs(field.rgb.mean(axis=(0, 1)) - rgb.mean(axis=(0, 1)))
    assert means.max() < 1


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_16_bits_are_scaled_with_rounding(suffix: str) -> None:
    deep = np.arange(256 * 256, dtype=np.uint16).reshape(256, 256)
    deep = np.stack([deep, deep[::-1], deep[:, ::-1]], axis=2)
    field = decode(encoded(suffix, deep))
    exact = (deep.astype(np.int64) * 255 * 2 + 65535) // (2 * 65535)
    assert field.rgb.dtype == np.uint8
    assert np.array_equal(field.rgb, exact)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_alpha_is_dropped(suffix: str, deep: bool) -> None:
    alpha = np.full((224, 224, 1), 255, np.uint8)
    rgba = np.concatenate([SMEAR, alpha], axis=2)
    data = encoded(suffix, rgba.astype(np.uint16) * 257 if deep else rgba)
    assert np.array_equal(decode(data).rgb, SMEAR)


def test_png_alpha_does_not_touch_the_colours() -> None:
    rgba = np.concatenate([SMEAR, SMEAR[:, :, :1]], axis=2)
    assert np.array_equal(decode(encoded(".png", rgba)).rgb, SMEAR)


def test_the_first_page_of_a_tiff(tmp_path: Path) -> None:
    pages = [SMEAR[:, :, ::-1], 255 - SMEAR[:100, :, ::-1]]
    path = tmp_path / "pages.tiff"
    assert cv2.imwritemulti(str(path), [np.ascontiguousarray(page) for page in pages])
    assert np.array_equal(read_field(path).rgb, SMEAR)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiffs_of_either_byte_order(order: str) -> None:
    data = tiff_of(tiff_entries(224, 224), SMEAR.tobytes(), order)
    assert np.array_equal(decode(data).rgb, SMEAR)


def test_a_png_with_a_palette() -> None:
    header = struct.pack(">IIBBBBB", 40, 40, 8, 3, 0, 0, 0)
    rows = b"".join(b"\0" + bytes((x + y) % 2 for x in range(40)) for y in range(40))
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
        + chunk(b"PLTE", bytes((9, 8, 7, 200, 100, 50)))
        + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )  # fmt: skip
    assert decode(data).rgb[0, :2].tolist() == [[9, 8, 7], [200, 100, 50]]


def animated(*before: bytes, after: tuple[bytes, ...] = ()) -> bytes:
    """A PNG whose default image is ``SMEAR``, and two frames that show something else."""
    whole = encoded(".png", SMEAR)
    frame = struct.pack(">IIIIHHBB", 224, 224, 0, 0, 1, 10, 0, 0)
    frames = [(255 - SMEAR).tobytes(), bytes(SMEAR.size)]
    parts = []
    for number, pixels in enumerate(frames):
        rows = b"".join(b"\0" + pixels[at : at + 672] for at in range(0, len(pixels), 672))
        parts.append(chunk(b"fcTL", struct.pack(">I", 2 * number) + frame))
        parts.append(chunk(b"fdAT", struct.pack(">I", 2 * number + 1) + zlib.compress(rows)))
    return whole[:33] + b"".join(before) + whole[33:-12] + b"".join((*after, *parts)) + whole[-12:]


def test_an_animated_png_is_refused_as_it_may_show_another_picture() -> None:
    control = chunk(b"acTL", struct.pack(">II", 2, 0))
    # OpenCV 5 heeds an animation's head with a wrong checksum as well.
    for head in (control, control[:-1] + bytes((control[-1] ^ 1,))):
        with pytest.raises(FieldError, match=r"is an animated PNG; give a still picture$") as seen:
            decode(animated(head))
        assert seen.value.code == "unsupported"
    # Behind the pixels, or without one, it is no animation for anybody.
    for still in (animated(), animated(after=(control,))):
        assert np.array_equal(decode(still).rgb, SMEAR)


# What each Exif orientation asks of a viewer, in numpy: (CIPA DC-008, tag 274).
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation: int) -> None:
    stored = SMEAR[:160]
    upright = UPRIGHT[orientation](stored)
    png = encoded(".png", stored)
    png = png[:33] + chunk(b"eXIf", exif(orientation, "<")) + png[33:]
    tiff = tiff_of({**tiff_entries(224, 160), 274: (3, [orientation])}, stored.tobytes())
    for data in (png, tiff):
        field = decode(data)
        assert np.array_equal(field.rgb, upright)
        assert (field.height, field.width) == upright.shape[:2]
    jpeg = encoded(".jpg", render_field(3, "Pre", 448)[:320], cv2.IMWRITE_JPEG_QUALITY, 98)
    for smallest, reduction in ((None, 1), (160, 2)):
        plain = decode(jpeg, smallest_side=smallest)
        field = decode(jpeg_with_exif(jpeg, exif(orientation)), smallest_side=smallest)
        assert np.array_equal(field.rgb, UPRIGHT[orientation](plain.rgb))
        assert field.reduction == plain.reduction == reduction
        # OpenCV's own reading of the tag agrees.
        flag = cv2.IMREAD_COLOR if reduction == 1 else cv2.IMREAD_REDUCED_COLOR_2
        shown = cv2.imdecode(np.frombuffer(jpeg_with_exif(jpeg, exif(orientation)), np.uint8), flag)
        assert np.array_equal(field.rgb, shown[:, :, ::-1])


@pytest.mark.parametrize("block", [b"", b"MM", b"garbage garbage", exif(0), exif(9), exif(6)[:15]])
def test_a_broken_exif_block_means_upright(block: bytes) -> None:
    jpeg = encoded(".jpg", SMEAR)
    assert np.array_equal(decode(jpeg_with_exif(jpeg, block)).rgb, decode(jpeg).rgb)


# --- cut and damaged files ------------------------------------------------------------------------


@pytest.mark.parametrize("progressive", [0, 1])
def test_a_jpeg_cut_anywhere_is_noticed(progressive: int) -> None:
    data = encoded(".jpg", SMEAR, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    for keep in [*range(3, len(data) - 1, 97), len(data) - 2, len(data) - 1]:
        assert code_of(data[:keep]) == "truncated", keep


@pytest.mark.parametrize("progressive", [0, 1])
def test_a_jpeg_with_a_hole_in_its_scan_is_noticed(progressive: int) -> None:
    data = encoded(".jpg", SMEAR, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    half = len(data) // 2
    assert code_of(data[:half] + data[half + len(data) // 8 :]) == "truncated"
    assert code_of(data[:half] + b"\xff\xd9") == "truncated"


def test_a_thumbnails_end_is_not_the_pictures_end() -> None:
    thumbnail = encoded(".jpg", SMEAR[:40, :40])
    data = jpeg_with_exif(encoded(".jpg", SMEAR), exif(1) + thumbnail)
    assert decode(data).width == 224
    assert code_of(data[: len(data) - 500]) == "truncated"


def test_bytes_after_the_end_are_allowed() -> None:
    for suffix in (".jpg", ".png", ".bmp"):
        data = encoded(suffix, SMEAR)
        tail = b"\xff\xd8\xff appended by a camera" + bytes(1000)
        assert np.array_equal(decode(data + tail).rgb, decode(data).rgb)


def test_restart_marks_and_filling_are_followed() -> None:
    data = encoded(".jpg", SMEAR, cv2.IMWRITE_JPEG_RST_INTERVAL, 4)
    assert b"\xff\xd3" in data
    filled = data[:2] + b"\xff\xff" + data[2:-2] + b"\xff\xff" + data[-2:]
    assert np.array_equal(decode(filled).rgb, decode(data).rgb)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff"])
def test_other_formats_cut_anywhere_are_noticed(suffix: str) -> None:
    data = encoded(suffix, SMEAR)
    for keep in [*range(9, len(data) - 1, max(97, len(data) // 200)), len(data) - 1]:
        assert code_of(data[:keep]) in ("truncated", "not_an_image"), keep
    assert code_of(data[: len(data) // 2]) == "truncated"


def test_a_flipped_byte_in_a_png_is_noticed() -> None:
    data = bytearray(encoded(".png", SMEAR))
    data[len(data) // 2] ^= 1
    assert code_of(bytes(data)) == "truncated"


@pytest.mark.parametrize("compression", [5, 8])
def test_damaged_tiff_data_are_noticed(compression: int) -> None:
    data = bytearray(encoded(".tiff", SMEAR, cv2.IMWRITE_TIFF_COMPRESSION, compression))
    middle = len(data) // 2
    data[middle : middle + 100] = bytes(100)
    assert code_of(bytes(data)) == "truncated"


def test_random_damage_never_escapes_as_another_error() -> None:
    rng = np.random.default_rng(11)
    for suffix in (".jpg", ".png", ".bmp", ".tiff"):
        whole = encoded(suffix, SMEAR[:64, :64])
        for _ in range(150):
            data = bytearray(whole)
            for at in rng.integers(0, min(len(data), 700), 3):
                data[at] = rng.integers(0, 256)
            try:
                field = decode(bytes(data), max_pixels=1_000_000)
            except FieldError:
                continue
            assert field.rgb.dtype == np.uint8
            assert field.rgb.ndim == 3


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [b"this is a text file\n" * 50, b"\0" * 5000, b"\xff\xd8", b"PK\x03\x04" + b"\0" * 60, b"B"],
)
def test_what_is_no_image_is_told_by_its_bytes(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "field.jpg"
    path.write_bytes(data)
    with pytest.raises(FieldError) as caught:
        read_field(path)
    assert caught.value.code == "not_an_image"
    assert str(path) in caught.value.message


def test_other_image_formats_are_named() -> None:
    with pytest.raises(FieldError, match="WebP") as caught:
        decode(encoded(".webp", SMEAR))
    assert caught.value.code == "unsupported"
    assert code_of(b"GIF89a" + bytes(50)) == "unsupported"


def test_bombs_are_refused_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a decoder was called")

    monkeypatch.setattr(module.cv2, "imdecode", never)
    rows = bytes(30000 * 3 + 1)
    png = png_of(30000, 30000, pixels=rows * 20)
    assert len(png) < 5000
    assert code_of(png) == "too_large"
    assert code_of(png_of(2**31 - 1, 2**31 - 1)) == "too_large"
    jpeg = bytearray(encoded(".jpg", SMEAR))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65000, 65000)
    assert code_of(bytes(jpeg)) == "too_large"
    assert code_of(tiff_of(tiff_entries(30000, 30000) | {279: (4, [9])}, bytes(9))) == "too_large"
    packed = b"BM" + struct.pack("<IIIIiiHHI", 99, 0, 54, 40, 30000, -30000, 1, 8, 1) + bytes(60)
    assert code_of(packed) == "too_large"
    tiles = tiff_entries(64, 64) | {
        322: (4, [2**20]), 323: (4, [2**20]), 324: (4, [8]), 325: (4, [9])
    }  # fmt: skip
    assert code_of(tiff_of(tiles, bytes(9))) == "too_large"


def test_the_pixel_limit_is_the_callers() -> None:
    data = encoded(".png", SMEAR)
    assert decode(data, max_pixels=224 * 224).width == 224
    assert code_of(data, max_pixels=224 * 224 - 1) == "too_large"


def test_tiny_images_are_refused() -> None:
    assert code_of(encoded(".png", SMEAR[:31, :100])) == "too_small"
    assert decode(encoded(".png", SMEAR[:32, :32])).height == 32


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tiff"])
def test_grey_is_refused(suffix: str) -> None:
    grey = SMEAR[:, :, 1]
    with pytest.raises(FieldError, match="stain") as caught:
        decode(encoded(suffix, grey))
    assert caught.value.code == "grey"
    assert code_of(encoded(suffix, np.repeat(grey[:, :, None], 3, axis=2))) == "grey"


def test_a_single_coloured_pixel_is_not_grey() -> None:
    rgb = np.full((100, 100, 3), 200, np.uint8)
    rgb[37, 53, 2] = 199
    assert np.array_equal(decode(encoded(".png", rgb)).rgb, rgb)


def test_kinds_that_are_not_read_are_named() -> None:
    floats = cv2.imencode(".tiff", SMEAR.astype(np.float32))[1].tobytes()
    assert code_of(floats) == "unsupported"
    jpeg = bytearray(encoded(".jpg", SMEAR))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 1] = 0xC3  # lossless
    assert code_of(bytes(jpeg)) == "unsupported"


def test_unreadable_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def code(path: Path | str) -> str:
        with pytest.raises(FieldError) as caught:
            read_bytes(path)
        assert str(path) in caught.value.message
        return caught.value.code

    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe.png")
    assert code(tmp_path / "nope.png") == "missing"
    assert code(tmp_path / "empty.png") == "empty"
    assert code(tmp_path) == "unreadable"
    assert code(tmp_path / "pipe.png") == "unreadable"
    assert code("a\0b") == "unreadable"
    with (tmp_path / "huge.tif").open("wb") as stream:
        stream.truncate(module.MAX_BYTES + 1)  # sparse: takes no room
    assert code(tmp_path / "huge.tif") == "too_large"
    (tmp_path / "f.png").write_bytes(b"x")
    monkeypatch.setattr(
        Path, "read_bytes", lambda _: (_ for _ in ()).throw(PermissionError(13, "no"))
    )
    assert code(tmp_path / "f.png") == "unreadable"
    with pytest.raises(FieldError):
        decode(b"")


# --- too little memory ----------------------------------------------------------------------------

TIGHT = """
import resource, sys
from pathlib import Path
from allsub_edge.errors import FieldError
from allsub_edge.imaging.decode import decode
fields = [Path(name).read_bytes() for name in sys.argv[1:]]
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
for more in (10, 70):  # megabytes: the first allocation fails, or one further on
    resource.setrlimit(resource.RLIMIT_AS, (taken + more * 2**20, resource.RLIM_INFINITY))
    for field in fields:
        try:
            decode(field)
            print("ok")
        except FieldError as error:
            print(error.code)
"""


def test_too_little_memory_is_not_called_damage(tmp_path: Path) -> None:
    large = np.tile(SMEAR, (18, 18, 1))  # 16 megapixels, 49 MB
    full = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    forms = [
        (".png", ()),
        (".jpg", (cv2.IMWRITE_JPEG_PROGRESSIVE, 1, *full)),
        (".tiff", (cv2.IMWRITE_TIFF_ROWSPERSTRIP, large.shape[0])),
    ]
    paths = []
    for suffix, options in forms:
        paths.append(tmp_path / f"large{suffix}")
        paths[-1].write_bytes(encoded(suffix, large, *options))
    done = subprocess.run(
        [sys.executable, "-c", TIGHT, *map(str, paths)],
        capture_output=True, text=True, cwd=ROOT, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["no_memory"] * 6


def test_damage_that_a_decoder_names_is_not_blamed_on_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "could_hold", lambda *_: False)
    rotten = bytearray(zlib.compress(bytes(65 * 3 * 64)))
    rotten[4:8] = b"\xff\xff\xff\xff"
    header = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", bytes(rotten))
    assert code_of(data + chunk(b"IEND", b"")) == "truncated"


def test_memory_may_run_out_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(error: BaseException) -> Any:
        return lambda *_: (_ for _ in ()).throw(error)

    data = encoded(".png", SMEAR)
    without_code = cv2.error("std::bad_alloc")
    for place in ("imdecode", "cvtColor"):
        for error in (MemoryError(), without_code):
            with monkeypatch.context() as patched:
                patched.setattr(module.cv2, place, fails(error))
                assert code_of(data) == "no_memory"
    with monkeypatch.context() as patched:
        patched.setattr(module.cv2, "imdecode", fails(cv2.error("anything else")))
        assert code_of(data) == "truncated"
    path = tmp_path / "f.png"
    path.write_bytes(data)
    monkeypatch.setattr(Path, "read_bytes", fails(MemoryError()))
    with pytest.raises(FieldError, match="smaller picture") as caught:
        read_bytes(path)
    assert caught.value.code == "no_memory"


# --- standard error -------------------------------------------------------------------------------


def test_decoders_stay_silent_and_others_are_heard(capfd: pytest.CaptureFixture[str]) -> None:
    data = encoded(".jpg", SMEAR)
    half = len(data) // 2
    damaged = bytearray(encoded(".tiff", SMEAR, cv2.IMWRITE_TIFF_COMPRESSION, 8))
    damaged[5000:5100] = bytes(100)
    place = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging
    level = place.getLogLevel()
    for bad in (data[:half] + b"\xff\xd9", bytes(damaged)):
        assert code_of(bad) == "truncated"
    assert capfd.readouterr().err == ""
    assert place.getLogLevel() == level
    with module.listening() as heard:
        os.write(2, b"a warning of somebody else\nlibpng warning: iCCP: known\n")
    assert heard == ["libpng warning: iCCP: known\n"]
    assert capfd.readouterr().err == "a warning of somebody else\n"


def test_a_closed_standard_error_does_no_harm() -> None:
    kept = os.dup(2)
    os.close(2)
    try:
        field = decode(encoded(".png", SMEAR))
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    assert np.array_equal(field.rgb, SMEAR)


def test_damage_is_heard_when_standard_error_is_closed() -> None:
    good = encoded(".jpg", SMEAR)
    bad = good[: len(good) // 2] + b"\xff\xd9"
    before = len(list(Path("/proc/self/fd").iterdir()))
    kept = os.dup(2)
    try:
        for _ in range(2):
            os.close(2)
            assert code_of(bad) == "truncated"
            assert np.array_equal(decode(good).rgb, decode(good).rgb)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_nothing_is_decoded_where_damage_could_not_be_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_left() -> tuple[int, int]:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pipe", none_left)
    assert code_of(encoded(".jpg", SMEAR)) == "unreadable"


def test_threads_do_not_mix_up_their_files() -> None:
    good = encoded(".jpg", SMEAR)
    bad = good[: len(good) // 2] + b"\xff\xd9"
    wrong: list[str] = []

    def work(data: bytes, damaged: bool) -> None:
        for _ in range(30):
            try:
                decode(data)
                seen = False
            except FieldError:
                seen = True
            if seen != damaged:
                wrong.append(f"damaged={damaged}")

    threads = [
        threading.Thread(target=work, args=pair) for pair in ((good, False), (bad, True)) * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_public_data_are_all_readable(shared: Path) -> None:
    files = sorted((shared / "data" / "all-smears" / "Original").rglob("*.jpg"))[::25]
    assert len(files) > 50
    for path in files:
        field = read_field(path)
        plain = cv2.imread(str(path), cv2.IMREAD_COLOR)
        assert np.array_equal(field.rgb, plain[:, :, ::-1])
