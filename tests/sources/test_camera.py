from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from itertools import chain, cycle, repeat
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

from allsub_edge.errors import UsageError
from allsub_edge.sources import Capture, Fault, Source, camera_spec, open_camera
from allsub_edge.sources import camera as module
from allsub_edge.sources.camera import V4L2Grabber, unusable
from allsub_edge.sources.live import Limits, LiveSource
from allsub_edge.sources.picamera import PicameraGrabber
from allsub_edge.sources.picker import PickerSettings
from tests.sources.scenes import Clock, FakeCapture, Microscope, Moment, Rgb, rest, session, travel

HAS = {
    cv2.CAP_PROP_AUTO_EXPOSURE: 3.0,
    cv2.CAP_PROP_AUTO_WB: 1.0,
    cv2.CAP_PROP_EXPOSURE: 157.0,
    cv2.CAP_PROP_WB_TEMPERATURE: 4600.0,
    cv2.CAP_PROP_BUFFERSIZE: 4.0,
    cv2.CAP_PROP_FRAME_WIDTH: 640.0,
    cv2.CAP_PROP_FRAME_HEIGHT: 480.0,
}
QUICK = PickerSettings(window=4, settle=1)


def bgr(rgb: Rgb) -> Rgb:
    return np.ascontiguousarray(rgb[..., ::-1])


def shots(moments: list[Moment], scope: Microscope | None = None) -> Iterator[Rgb]:
    scope = scope or Microscope()
    return (bgr(scope.look(moment)) for moment in moments)


def still(value: int = 128) -> Iterator[Rgb]:
    """Frames that differ from one another only by noise."""
    random = np.random.default_rng(1)
    return (
        np.clip(random.normal(value, 3, (64, 96, 3)), 0, 255).astype(np.uint8) for _ in cycle([0])
    )


class Bench:
    """A camera source on fake devices; each opening takes the next device."""

    def __init__(self, *devices: FakeCapture | str, **options: Any) -> None:
        self.devices = list(devices)
        self.used: list[FakeCapture] = []
        self.warned: list[str] = []
        self.clock = options.pop("clock", Clock())
        controls = options.pop("controls", None)
        size = options.pop("size", None)
        self.grabber = V4L2Grabber(
            "0",
            size=size,
            controls=controls,
            warn=self.warned.append,
            make=self.make,
            exists=self.exists,
        )
        options.setdefault("picker", QUICK)
        self.source = LiveSource(
            self.grabber,
            warn=self.warned.append,
            clock=self.clock,
            sleep=self.clock.sleep,
            **options,
        )

    def exists(self, path: str) -> str | None:
        assert path == "/dev/video0"
        if not self.devices:
            return f"there is no {path}"
        if isinstance(self.devices[0], str):
            return str(self.devices.pop(0))
        return None

    def make(self, path: str, backend: int) -> FakeCapture:
        assert backend == cv2.CAP_V4L2
        device = self.devices.pop(0)
        assert isinstance(device, FakeCapture)
        self.used.append(device)
        return device


def device(frames: Iterator[Any], **options: Any) -> FakeCapture:
    options.setdefault("has", HAS)
    return FakeCapture(frames, warm=np.full((64, 96, 3), 90, np.uint8), **options)


def codes(items: list[Capture | Fault]) -> list[str]:
    return [item.error.code if isinstance(item, Fault) else "field" for item in items]


def test_fields_come_in_rgb_with_number_and_time() -> None:
    planned = session((0, 448))
    bench = Bench(device(shots(planned.moments)), limits=Limits(reopen=0), picker=PickerSettings())
    assert isinstance(bench.source, Source)
    with bench.source as source:
        found = list(source)
    fields = [item for item in found if isinstance(item, Capture)]
    assert [item.source for item in fields] == ["camera:0#1", "camera:0#2"]
    scope = Microscope()
    looked = [scope.look(moment) for moment in planned.moments]
    for item, index in zip(fields, planned.sharpest, strict=True):
        assert np.array_equal(np.asarray(item.field), looked[index])
        assert item.taken_at is not None
        assert item.taken_at.tzname() == "UTC"
    assert bench.used[0].opened is False


def test_exposure_and_white_balance_are_held_where_they_settled() -> None:
    camera = device(still())

    def jump(fake: FakeCapture) -> None:
        # Many drivers fall back to an old manual value once the automatic is off.
        if fake.values[cv2.CAP_PROP_AUTO_EXPOSURE] == 1.0:
            fake.values[cv2.CAP_PROP_EXPOSURE] = 3.0

    camera.after_auto = jump
    bench = Bench(camera)
    assert camera.values[cv2.CAP_PROP_AUTO_EXPOSURE] == 1.0
    assert camera.values[cv2.CAP_PROP_AUTO_WB] == 0.0
    assert camera.values[cv2.CAP_PROP_EXPOSURE] == 157.0
    assert camera.values[cv2.CAP_PROP_BUFFERSIZE] == 1.0
    assert camera.reads == module.WARM_UP
    assert bench.source.controls() == {"exposure": 157.0, "wb_temperature": 4600.0}
    assert bench.warned == []


def test_controls_of_a_profile_are_restored() -> None:
    camera = device(still())
    Bench(camera, controls={"exposure": 80.0, "wb_temperature": 5200.0})
    assert camera.values[cv2.CAP_PROP_EXPOSURE] == 80.0
    assert camera.values[cv2.CAP_PROP_WB_TEMPERATURE] == 5200.0


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        ({"denied": [cv2.CAP_PROP_AUTO_WB]}, "automatic white balance cannot be switched off"),
        ({"fixed": [cv2.CAP_PROP_AUTO_EXPOSURE]}, "automatic exposure cannot be switched off"),
        ({"fixed": [cv2.CAP_PROP_EXPOSURE]}, "exposure stays at 157 where 80 was asked for"),
        ({"fixed": [cv2.CAP_PROP_FRAME_WIDTH]}, "gives 640x600 pixels where 800x600"),
    ],
)
def test_a_driver_that_refuses_is_told_of_once(trouble: dict[str, Any], told: str) -> None:
    devices = [device(repeat(None), **trouble), device(repeat(None), **trouble)]
    bench = Bench(*devices, controls={"exposure": 80.0}, size=(800, 600), limits=Limits(reopen=1))
    list(bench.source)
    assert len(bench.used) == 2
    mine = [text for text in bench.warned if "is back" not in text]
    assert len(mine) == 1
    assert told in mine[0]


def test_a_driver_without_any_control_is_told_of() -> None:
    bench = Bench(device(still(), has={}))
    assert ["exposure" in bench.warned[0], "white balance" in bench.warned[1]] == [True, True]


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ("there is no /dev/video0", "there is no /dev/video0"),
        (FakeCapture(repeat(None), opened=False), "another program"),
        (FakeCapture(repeat(None), warm=None), "gives no frame"),
    ],
)
def test_a_camera_that_cannot_be_used_is_a_set_up_error(made: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        Bench(made)
    assert caught.value.code == "no_camera"
    assert not isinstance(made, FakeCapture) or made.opened is False


def test_a_missing_device_says_where_to_look(tmp_path: Any, monkeypatch: Any) -> None:
    assert "ls /dev/video*" in (unusable(str(tmp_path / "video9")) or "")
    there = tmp_path / "video0"
    there.touch()
    assert unusable(str(there)) is None
    monkeypatch.setattr(module.os, "access", lambda *_: False)
    assert "usermod -aG video" in (unusable(str(there)) or "")


@pytest.mark.parametrize("name", ["", "x", "-1", "/dev/sda", "0x1"])
def test_a_name_that_is_no_camera(name: str) -> None:
    with pytest.raises(UsageError, match="camera:0"):
        V4L2Grabber(name, warn=print)
    with pytest.raises(UsageError, match="picamera:0" if name else "python3-picamera2"):
        PicameraGrabber(name, warn=print).open()


def test_an_unknown_control_is_refused() -> None:
    with pytest.raises(UsageError, match="zoom"):
        V4L2Grabber("0", controls={"zoom": 1.0}, warn=print)


def test_dropped_frames_are_nothing() -> None:
    frames = list(shots(rest(0, 10)))
    broken = chain.from_iterable((None, frame, cv2.error("select() timeout")) for frame in frames)
    bench = Bench(device(broken), count=1)
    assert codes(list(bench.source)) == ["field"]


def test_a_camera_that_was_pulled_out_and_comes_back() -> None:
    first = device(shots([*rest(0, 8)]))
    second = device(shots([*rest(0, 8), *travel(0, 448), *rest(448, 8)]))
    bench = Bench(first, "there is no /dev/video0", "there is no /dev/video0", second, count=2)
    found = list(bench.source)
    assert codes(found) == ["field", "camera_lost", "field"]
    assert [item.source for item in found] == ["camera:0#1", "camera:0", "camera:0#2"]
    assert bench.clock.slept == [0.5, 1.0, 2.0]
    assert bench.warned == ["camera:0: is back"]
    # It locks again, or the colours would be automatic from now on.
    assert second.values[cv2.CAP_PROP_AUTO_WB] == 0.0


def test_a_camera_that_never_comes_back_ends_the_source() -> None:
    bench = Bench(device(shots(rest(0, 2))))
    found = list(bench.source)
    assert codes(found) == ["camera_lost", "camera_gone"]
    assert bench.clock.slept == [0.5, 1, 2, 4, 8, 8, 8, 8]
    assert isinstance(found[1], Fault)
    assert "8 attempts" in found[1].error.message
    assert "there is no /dev/video0" in found[1].error.message


def test_a_camera_whose_reads_wait_for_long_is_lost_sooner() -> None:
    bench = Bench(device(repeat(None)), clock=Clock(tick=10.0), limits=Limits(reopen=0))
    assert codes(list(bench.source)) == ["camera_lost", "camera_gone"]
    assert bench.used[0].reads == module.WARM_UP + 2


def test_black_frames_are_told_of_once_and_never_picked() -> None:
    black = [np.zeros((448, 448, 3), np.uint8)] * 60
    frames = chain(black[:5], shots(rest(0, 6)), black, shots(rest(448, 6)), black)
    bench = Bench(device(frames), limits=Limits(reopen=0))
    found = list(bench.source)
    assert codes(found)[:4] == ["field", "black", "field", "black"]
    assert "lamp" in str(found[1].error) if isinstance(found[1], Fault) else False


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (np.zeros((448, 448), np.uint8), "unsupported"),
        (np.zeros((448, 448, 3), np.uint16), "unsupported"),
        (np.zeros((448, 448, 4), np.uint8), "unsupported"),
        (np.zeros((8, 448, 3), np.uint8), "unsupported"),
        (np.full((240, 320, 3), 200, np.uint8), "wrong_size"),
    ],
)
def test_frames_of_a_wrong_kind_are_told_of_and_passed_over(wrong: Any, code: str) -> None:
    frames = chain(shots(rest(0, 3)), [wrong] * 25, shots(rest(0, 8)))
    bench = Bench(device(frames), count=1)
    assert codes(list(bench.source)) == [code, "field"]


def test_one_wrong_frame_is_nothing() -> None:
    frames = chain(shots(rest(0, 3)), [np.zeros((9, 9), np.uint8)], shots(rest(0, 8)))
    assert codes(list(Bench(device(frames), count=1).source)) == ["field"]


def test_a_frozen_camera_is_opened_again() -> None:
    picture = bgr(Microscope().look(Moment(0)))
    bench = Bench(device(repeat(picture)), device(shots(rest(448, 8))), count=1)
    found = list(bench.source)
    assert codes(found) == ["camera_frozen", "field"]
    assert bench.used[0].reads == module.WARM_UP + 31
    assert bench.used[0].opened is False


def test_a_camera_that_repeats_frames_is_not_frozen() -> None:
    doubled = chain.from_iterable((frame, frame) for frame in shots(rest(0, 40)))
    bench = Bench(device(doubled), limits=Limits(reopen=0))
    assert codes(list(bench.source)) == ["field", "camera_lost", "camera_gone"]


def test_an_evenly_clipped_picture_is_not_frozen() -> None:
    white = [np.full((64, 96, 3), 255, np.uint8)] * 100
    bench = Bench(device(iter(white)), limits=Limits(reopen=0))
    assert "camera_frozen" not in codes(list(bench.source))


def test_every_holds_fields_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(10_000))
    bench = Bench(
        device(shots([*rest(0, 8), *rest(448, 8), *rest(896, 40)])),
        every=30.0,
        limits=Limits(reopen=0),
    )
    monkeypatch.setattr(bench.grabber, "position", lambda: float(next(seconds)))
    found = list(bench.source)
    # The second place was left within the 30 seconds; the third was still there after them.
    assert codes(found) == ["field", "field", "camera_lost", "camera_gone"]
    third = Microscope().slide[:, 896 : 896 + 448].astype(int)
    assert isinstance(found[1], Capture)
    assert np.abs(np.asarray(found[1].field).astype(int) - third).mean() < 3


def test_closing_ends_the_iteration() -> None:
    bench = Bench(device(shots(rest(0, 500))))
    for item in bench.source:
        assert isinstance(item, Capture)
        bench.source.close()
    bench.source.close()
    assert bench.used[0].reads < module.WARM_UP + 20


def test_the_warm_up_lets_the_exposure_settle() -> None:
    """A real automatic approaches its value; what is held is the value at its end."""
    camera = device(still())
    real = camera.read

    def settling() -> tuple[bool, Any]:
        if camera.values[cv2.CAP_PROP_AUTO_EXPOSURE] == 3.0:
            value = camera.values[cv2.CAP_PROP_EXPOSURE]
            camera.values[cv2.CAP_PROP_EXPOSURE] = value + (400 - value) * 0.3
        return real()

    camera.read = settling  # type: ignore[method-assign]
    bench = Bench(camera)
    assert bench.source.controls()["exposure"] == pytest.approx(400, abs=0.5)


class FakePicamera:
    """Behaves like ``picamera2.Picamera2``."""

    cameras: ClassVar[int] = 1
    busy: ClassVar[bool] = False
    made: ClassVar[list[FakePicamera]] = []
    advertised: ClassVar[set[str]] = set()
    frames: ClassVar[Iterator[Any]] = iter(())

    def __init__(self, camera_num: int = 0) -> None:
        if self.busy:
            raise RuntimeError("Camera __init__ sequence did not complete.")
        self.camera_controls = dict.fromkeys(self.advertised, (0, 1, None))
        self.configured: Any = None
        self.running = False
        self.closed = False
        self.set: dict[str, Any] = {}
        self.looked = 0
        self.made.append(self)

    @staticmethod
    def global_camera_info() -> list[dict[str, Any]]:
        return [{"Model": "imx477", "Num": n} for n in range(FakePicamera.cameras)]

    def create_video_configuration(self, main: dict[str, Any]) -> dict[str, Any]:
        return {"main": main}

    def configure(self, configuration: dict[str, Any]) -> None:
        self.configured = configuration

    def start(self) -> None:
        assert self.configured
        self.running = True

    def capture_metadata(self) -> dict[str, Any]:
        self.looked += 1
        return {
            "ExposureTime": 1000 + 10 * min(self.looked, 20),
            "AnalogueGain": 1.5,
            "ColourGains": (2.1, 1.6),
            "Lux": 400.0,
        }

    def set_controls(self, controls: dict[str, Any]) -> None:
        strange = set(controls) - set(self.camera_controls)
        if strange:
            raise RuntimeError(f"Control {strange.pop()} is not advertised by libcamera")
        self.set.update(controls)

    def capture_array(self, name: str, wait: float) -> Any:
        assert (name, self.running) == ("main", True)
        frame = next(self.frames, None)
        if frame is None:
            raise TimeoutError
        return frame

    def stop(self) -> None:
        self.running = False

    def close(self) -> None:
        assert not self.running
        self.closed = True


ALL = {"AeEnable", "AwbEnable", "ExposureTime", "AnalogueGain", "ColourGains", "Sharpness"}


@pytest.fixture
def picamera(monkeypatch: pytest.MonkeyPatch) -> type[FakePicamera]:
    library = types.ModuleType("picamera2")
    library.Picamera2 = FakePicamera  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "picamera2", library)
    monkeypatch.setattr(FakePicamera, "made", [])
    monkeypatch.setattr(FakePicamera, "advertised", ALL)
    return FakePicamera


def test_a_raspberry_pi_camera(
    picamera: type[FakePicamera], monkeypatch: pytest.MonkeyPatch
) -> None:
    scope = Microscope()
    looked = [scope.look(Moment(0)) for _ in range(12)]
    monkeypatch.setattr(picamera, "frames", iter(looked))
    warned: list[str] = []
    with open_camera("picamera:", warn=warned.append, count=1, size=(448, 448)) as source:
        [found] = list(source)
    camera = picamera.made[0]
    # libcamera's BGR888 is RGB in memory: nothing may be swapped.
    assert camera.configured["main"] == {"format": "BGR888", "size": (448, 448)}
    assert isinstance(found, Capture)
    assert any(np.array_equal(np.asarray(found.field), frame) for frame in looked)
    assert found.source == "picamera#1"
    assert camera.set == {
        "AeEnable": False,
        "AwbEnable": False,
        "ExposureTime": 1200,
        "AnalogueGain": 1.5,
        "ColourGains": (2.1, 1.6),
    }
    assert camera.closed
    assert warned == []


def test_a_raspberry_pi_camera_with_controls_of_its_own(picamera: type[FakePicamera]) -> None:
    given = {"ExposureTime": 900.0, "red_gain": 1.9, "blue_gain": 1.8}
    with open_camera("picamera:0", controls=given, warn=print) as source:
        camera = picamera.made[0]
        assert camera.set["ExposureTime"] == 900
        assert camera.set["ColourGains"] == (1.9, 1.8)
        assert set(source.controls()) == {"ExposureTime", "AnalogueGain", "red_gain", "blue_gain"}


def test_a_raspberry_pi_camera_that_lacks_a_control(
    picamera: type[FakePicamera], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picamera, "advertised", ALL - {"AwbEnable", "ColourGains"})
    warned: list[str] = []
    with open_camera("picamera:", warn=warned.append):
        pass
    assert len(warned) == 1
    assert "AwbEnable, ColourGains" in warned[0]
    assert picamera.made[0].set["AeEnable"] is False


def test_a_raspberry_pi_camera_that_hangs(
    picamera: type[FakePicamera], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picamera, "frames", iter(()))
    with open_camera("picamera:", warn=print, limits=Limits(reopen=0)) as source:
        assert codes(list(source)) == ["camera_lost", "camera_gone"]


@pytest.mark.parametrize(("cameras", "busy", "told"), [(0, False, "0 cameras"), (1, True, "using")])
def test_a_raspberry_pi_camera_that_cannot_start(
    picamera: type[FakePicamera],
    monkeypatch: pytest.MonkeyPatch,
    cameras: int,
    busy: bool,
    told: str,
) -> None:
    monkeypatch.setattr(picamera, "cameras", cameras)
    monkeypatch.setattr(picamera, "busy", busy)
    with pytest.raises(UsageError, match=told):
        open_camera("picamera:", warn=print)


def test_without_picamera2_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(UsageError, match="apt install python3-picamera2"):
        open_camera("picamera:", warn=print)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("0", "camera:0"),
        ("/dev/video2", "camera:2"),
        ("picamera", "picamera:"),
        ("picamera:1", "picamera:1"),
        ("smear.avi", "video:smear.avi"),
        ("video:0", "video:0"),
    ],
)
def test_what_people_write_for_a_camera(text: str, spec: str) -> None:
    assert camera_spec(text) == spec
