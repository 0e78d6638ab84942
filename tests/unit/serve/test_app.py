"""The HTTP interface: the numbers of predict, and one clear sentence for everything else."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.serve.conftest import CLASSES, Stub, jpeg, picture, png

from isograft.cases import Cases
from isograft.data.readers import decode_image, to_rgb8
from isograft.model import Model
from isograft.predict.predict import predict
from isograft.serve.app import build_app
from isograft.serve.desk import Bounds
from isograft.serve.service import Service
from isograft.settings import PredictSettings
from isograft.thumbnails import Thumbnails

Make = Callable[..., SimpleNamespace]
OWN = {"id", "part", "width", "height", "note", "predicted", "probabilities", "prediction_set", "abstain"}
OWN |= {"out_of_domain", "domain_distance", "points"}


def post(app: SimpleNamespace, data: bytes, route: str = "predict", **fields: str) -> Any:
    return app.client.post(f"/api/{route}", files={"file": ("Doe^John 1950.dcm", data)}, data=fields)


def as_predict_tells(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer as the row of the table that `predict` writes."""
    held = answer["prediction_set"]
    row = {name: answer[name] for name in ("id", "predicted", "abstain", "out_of_domain", "domain_distance")}
    row |= {f"p_{name}": p for name, p in answer["probabilities"].items()} | answer["points"]
    return row | {"prediction_set": "|".join(held) or "none", "reason": answer["note"] or None}


@pytest.fixture(scope="module")
def images() -> dict[str, bytes]:
    grey = cv2.cvtColor(picture(90), cv2.COLOR_RGB2GRAY).astype(np.uint16) * 17
    made = {f"{n}.jpg": jpeg(n, 30 + n, 60) for n in range(24)} | {f"{n}.png": png(n) for n in range(24, 40)}
    return made | {"sixteen.png": cv2.imencode(".png", grey)[1].tobytes()}


@pytest.fixture(scope="module")
def expected(images: dict[str, bytes], folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What `predict` says of the same images: uri to row."""
    root = tmp_path_factory.mktemp("asked")
    for name, data in images.items():
        (root / name).write_bytes(data)
    table = predict(PredictSettings.model_validate({"model": folder, "input": str(root), "out": root.parent / f"{root.name}.parquet"}))
    return {row.pop("uri"): row for row in table.iter_rows(named=True)}


def test_an_image_gets_the_numbers_of_predict_to_the_bit_alone_and_in_a_crowd(
    shared: SimpleNamespace, images: dict[str, bytes], expected: dict[str, dict[str, Any]]
) -> None:
    alone = [post(shared, data) for data in list(images.values())[:3]]
    with ThreadPoolExecutor(16) as crowd:
        together = list(crowd.map(lambda data: post(shared, data), images.values()))
    for name, response in [*zip(images, alone, strict=False), *zip(images, together, strict=True)]:
        (answer,) = response.json()["answers"]
        row = as_predict_tells(answer)
        assert set(answer) == OWN
        assert row == {key: expected[name][key] for key in row}
    assert expected["sixteen.png"]["reason"] == together[-1].json()["answers"][0]["note"] != ""
    assert shared.service.metrics.text().count('isograft_batch_images_bucket{le="1"}') == 1


def test_bad_images_among_good_ones_harm_only_themselves(
    shared: SimpleNamespace, images: dict[str, bytes], expected: dict[str, dict[str, Any]]
) -> None:
    good = list(images.items())[:16]
    bad = [b"", b"\xff\xd8\xff\xe0 no image", b"hello, this is text", jpeg(1)[:-40], png(1)[:60], b"GIF89a" + bytes(20)]
    mixed = [one for number, (name, data) in enumerate(good) for one in ((name, data), ("", bad[number % len(bad)]))]
    with ThreadPoolExecutor(12) as crowd:
        responses = list(crowd.map(lambda one: post(shared, one[1]), mixed))
    for (name, _), response in zip(mixed, responses, strict=True):
        if name:
            row = as_predict_tells(response.json()["answers"][0])
            assert row == {key: expected[name][key] for key in row}
        else:
            assert response.status_code in (400, 415)
            assert "cannot be used" in response.json()["detail"]


def test_every_frame_of_a_dicom_file_is_answered_as_predict_does(
    shared: SimpleNamespace, make_dicom: Callable[..., Any], folder: Path, tmp_path: Path
) -> None:
    draw = np.random.default_rng(3)
    frames = np.stack([cv2.resize(draw.integers(0, 4000, (4, 4), dtype=np.uint16), (40, 36)) for _ in range(70)])
    several = make_dicom(frames, tmp_path / "in" / "several.dcm", stored=12, WindowCenter=2000, WindowWidth=1500)
    make_dicom(frames[0], tmp_path / "in" / "single.dcm", stored=12)
    table = predict(PredictSettings.model_validate({"model": folder, "input": str(tmp_path / "in"), "out": tmp_path / "p.parquet"}))
    rows = {row["uri"]: row for row in table.iter_rows(named=True)}
    for name, count in (("several.dcm", 70), ("single.dcm", 1)):
        answers = post(shared, (tmp_path / "in" / name).read_bytes()).json()["answers"]
        assert [answer["part"] for answer in answers] == ([f"frame={n}" for n in range(70)] if count > 1 else [""])
        assert {(answer["width"], answer["height"]) for answer in answers} == {(40, 36)}
        for answer in answers:
            row = as_predict_tells(answer)
            known = rows[f"{name}#{answer['part']}" if answer["part"] else name]
            assert row == {key: known[key] for key in row}
    without_preamble = (tmp_path / "in" / "single.dcm").read_bytes()[132:]
    assert post(shared, without_preamble).json() == post(shared, (tmp_path / "in" / "single.dcm").read_bytes()).json()
    assert several.PatientID not in shared.service.metrics.text()


def test_the_model_is_told_with_everything_the_page_needs(shared: SimpleNamespace, folder: Path) -> None:
    told = shared.client.get("/api/model").json()
    assert told["classes"] == CLASSES and told["image_size"] == 32 and told["name"] == "model"
    assert told["calibrated"] and told["missing"] == "" and told["coverage"] == 0.9 and told["always_held"] == []
    assert [(point["name"], point["by_hand"]) for point in told["points"]] == [("screening", True), ("rule out dark", False)]
    assert told["out_of_domain"] and told["similar"] and not told["thumbnails"] and not told["labeling"]
    assert told["heatmap"]["method"] in ("grad-cam", "occlusion") and told["limits"] == {"megabytes": 1, "megapixels": 1}
    assert told["card"] == (folder / "README.md").read_text()
    assert str(folder.parent) not in json.dumps(told)


def test_every_answer_says_which_model_gave_it(shared: SimpleNamespace) -> None:
    model = shared.client.get("/api/model").json()["content_hash"]
    assert len(model) == 64
    assert [post(shared, jpeg(7), route).json()["model"] for route in ("predict", "explain", "similar")] == [model] * 3


def test_a_heatmap_lies_over_its_image_in_the_same_size(shared: SimpleNamespace) -> None:
    data = jpeg(7, 60, 90)
    told = post(shared, data, "explain", target="light").json()
    assert told["target"] == "light" and len(told["ends"]) == 2
    shown = [decode_data_url(told[name]) for name in ("image", "heat", "legend")]
    assert shown[0].shape == shown[1].shape == (341, 512, 3)
    own = cv2.resize(to_rgb8(decode_image(data, 10**6).array), (512, 341), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(own - shown[0]).mean() < 12
    predicted = post(shared, data).json()["answers"][0]["predicted"]
    assert post(shared, data, "explain").json()["target"] == predicted


def decode_data_url(text: str) -> np.ndarray:
    assert text.startswith("data:image/png;base64,")
    return to_rgb8(decode_image(base64.b64decode(text.partition(",")[2]), 10**7).array).astype(int)


def test_similar_cases_are_the_nearest_by_the_cosine_of_their_embeddings(shared: SimpleNamespace, folder: Path) -> None:
    cases = Cases.load(folder)
    assert cases is not None
    told = post(shared, jpeg(3), "similar", k="5").json()["cases"]
    assert [case["distance"] for case in told] == sorted(case["distance"] for case in told) and len(told) == 5
    assert {case["id"] for case in told} <= set(cases.table["id"]) and all(case["thumbnail"] is None for case in told)
    assert len(post(shared, jpeg(3), "similar").json()["cases"]) == 6


def test_a_model_without_cases_has_no_similar_ones(make: Make) -> None:
    app = make()
    app.service.similar_cases = None
    response = post(app, jpeg(1), "similar")
    assert response.status_code == 404 and "cases" in response.json()["detail"]


@pytest.mark.parametrize(
    ("route", "fields", "status", "word"),
    [
        ("explain", {"target": "mole"}, 422, "no class"),
        ("explain", {"part": "frame=2"}, 422, "no such part"),
        ("similar", {"k": "0"}, 422, "from 1 to 50"),
        ("similar", {"k": "51"}, 422, "from 1 to 50"),
        ("similar", {"k": "six"}, 422, "from 1 to 50"),
        ("similar", {"k": "²"}, 422, "from 1 to 50"),
        ("predict", {"path": "/etc/passwd"}, 422, "not known"),
        ("predict", {"url": "http://localhost/x.png"}, 422, "not known"),
        ("explain", {"target": "x" * 600}, 422, "longer than"),
    ],
)
def test_a_wrong_parameter_is_one_sentence(shared: SimpleNamespace, route: str, fields: dict[str, str], status: int, word: str) -> None:
    response = post(shared, jpeg(1), route, **fields)
    assert (response.status_code, word in response.json()["detail"]) == (status, True)


def test_addresses_that_are_none_and_methods_that_do_not_fit(shared: SimpleNamespace) -> None:
    assert shared.client.get("/api/nothing").status_code == 404
    assert shared.client.get("/api/labeling").status_code == 404
    wrong = shared.client.get("/api/predict")
    assert wrong.status_code == 405 and wrong.headers["allow"] == "POST" and "asked" in wrong.json()["detail"]
    for path in ("/docs", "/redoc", "/openapi.json", "/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd"):
        assert shared.client.get(path).status_code == 404, path


def test_an_image_larger_than_the_limit_is_refused_by_its_header_without_being_decoded(shared: SimpleNamespace) -> None:
    header = io.BytesIO()
    header.write(b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + b"IHDR" + (40000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0" + bytes(4))
    response = post(shared, header.getvalue())
    assert response.status_code == 413 and "megapixels" in response.json()["detail"]
    assert 'isograft_images_refused_total{status="too_large"}' in shared.client.get("/metrics").text


def test_a_dicom_file_that_hides_many_frames_is_refused(shared: SimpleNamespace, make_dicom: Callable[..., Any], tmp_path: Path) -> None:
    for frames, side in ((300, 8), (20, 500)):
        path = tmp_path / f"{frames}.dcm"
        make_dicom(np.zeros((frames, side, side), np.uint8), path)
        response = post(shared, path.read_bytes()[: 1 << 20])
        assert response.status_code in (400, 413)
    assert post(shared, (tmp_path / "300.dcm").read_bytes()).json()["detail"].count("300 frames, more than the limit of 256") == 1


def test_a_slide_is_for_predict(shared: SimpleNamespace, tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "slide.tif"
    with tifffile.TiffWriter(path) as out:
        for side in (512, 256):
            out.write(np.zeros((side, side, 3), np.uint8), tile=(128, 128), photometric="rgb", subfiletype=0 if side == 512 else 1)
    response = post(shared, path.read_bytes())
    assert response.status_code == 415 and "isograft predict" in response.json()["detail"]


def test_of_an_image_of_which_too_little_is_left_the_answer_abstains_with_a_note(make: Make) -> None:
    (answer,) = post(make(), png(1, 200, 4)).json()["answers"]
    assert answer["abstain"] is True and answer["note"] == "4 x 200 pixels are too few to judge, so the model abstains"


def test_a_full_house_says_when_to_come_back(make: Make) -> None:
    app = make(bounds=Bounds(requests=0))
    response = post(app, jpeg(1))
    assert response.status_code == 429 and int(response.headers["retry-after"]) >= 1


def test_heatmaps_wait_in_a_short_line_of_their_own(make: Make) -> None:
    app = make(bounds=Bounds(heatmaps=0))
    assert post(app, jpeg(1), "explain").status_code == 429
    assert post(app, jpeg(1)).status_code == 200


def test_a_network_that_fails_fails_those_who_asked_and_nobody_later(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make()
    with monkeypatch.context() as broken:
        broken.setattr(app.service.batcher, "_answering", SimpleNamespace(size=16))
        response = post(app, jpeg(1))
    assert response.status_code == 500 and "server failed" in response.json()["detail"]
    assert post(app, jpeg(1)).status_code == 200


def test_who_waits_too_long_is_told(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make(bounds=Bounds(seconds=0.2))
    whole, go = app.service.batcher._answering, threading.Event()

    class Slow(Stub):
        def __call__(self, images: list[np.ndarray]) -> Any:
            go.wait(120)
            return whole(images)

    monkeypatch.setattr(app.service.batcher, "_answering", Slow())
    response = post(app, jpeg(1))
    go.set()
    assert response.status_code == 504 and "0.2 seconds" in response.json()["detail"]


DICOM = ["CT_small.dcm", "JPEG2000.dcm", "SC_rgb_jpeg_gdcm.dcm", "image_dfl.dcm", "MR_small_RLE.dcm", "JPEGLSNearLossless_08.dcm"]


@pytest.fixture(scope="module")
def seeds() -> list[bytes]:
    data = pytest.importorskip("pydicom.data")
    folder = Path(data.__file__).parent / "test_files"
    tiff = cv2.imencode(".tiff", picture(2))[1].tobytes()
    webp = cv2.imencode(".webp", picture(2))[1].tobytes()
    bmp = cv2.imencode(".bmp", picture(2, 8, 8))[1].tobytes()
    return [jpeg(2), png(2), tiff, webp, bmp, *((folder / name).read_bytes() for name in DICOM)]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_broken_files_of_any_kind_are_refused_and_never_break_the_server(
    data: st.DataObject, shared: SimpleNamespace, seeds: list[bytes]
) -> None:
    image = bytearray(data.draw(st.sampled_from(seeds)))
    for _ in range(data.draw(st.integers(1, 8))):
        where = data.draw(st.integers(0, min(len(image) - 1, 2000)))
        image[where : where + data.draw(st.sampled_from([0, 1, 2]))] = data.draw(st.binary(min_size=0, max_size=4))
    if data.draw(st.booleans()):
        del image[data.draw(st.integers(0, len(image))) :]
    response = post(shared, bytes(image))
    assert response.status_code in (200, 400, 413, 415), response.text
    assert response.status_code == 200 or response.json()["detail"].startswith("the image cannot be used")


def test_a_similar_case_is_shown_where_the_model_folder_keeps_its_picture(make: Make, folder: Path) -> None:
    app = make()
    kept = Cases.load(folder)
    assert kept is not None
    row = kept.table.row(3, named=True)
    app.service.thumbnails = Thumbnails({(row["id"], row["uri"]): jpeg(5)})
    cases = {case["id"]: case["thumbnail"] for case in post(app, jpeg(3), "similar", k="12").json()["cases"]}
    assert [id for id, picture in cases.items() if picture] == [row["id"]]
    assert cases[row["id"]] == "data:image/jpeg;base64," + base64.b64encode(jpeg(5)).decode()


def test_with_onnx_runtime_it_answers_with_the_bits_of_predict_with_onnx_runtime(model: Model, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime comes with the extra onnx")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(jpeg(4))
    told = {"model": folder, "input": str(tmp_path / "in"), "out": tmp_path / "p.parquet", "engine": "onnxruntime"}
    row = predict(PredictSettings.model_validate(told)).row(0, named=True)
    service = Service(model, engine="onnxruntime")
    with TestClient(build_app(service)) as client:
        answer = client.post("/api/predict", files={"file": ("a.jpg", jpeg(4))}).json()["answers"][0]
    service.close()
    assert answer["probabilities"] == {name: row[f"p_{name}"] for name in CLASSES}


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_a_dicom_file_that_begins_like_a_tiff_is_answered(shared: SimpleNamespace, name: str) -> None:
    folder = Path(pytest.importorskip("pydicom.data").__file__).parent / "test_files"
    data = (folder / name).read_bytes()
    assert data[:2] == b"II" and data[128:132] == b"DICM"
    assert post(shared, data).status_code == 200
