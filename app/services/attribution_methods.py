"""Attribution methods and baselines that the app offers, with their names and explanations."""

from __future__ import annotations

from typing import NamedTuple


class OfferedMethod(NamedTuple):
    """``cheap``: one or two passes of the model per exit. ``signed``: values below zero count against the class."""

    title: str
    explanation: str
    cheap: bool = False
    signed: bool = True


METHODS = {
    "integrated_gradients": OfferedMethod(
        "Integrated gradients",
        "Gradients integrated along the path from the baseline to the image. The values of a map add up to the "
        "difference of the logits, up to the convergence delta.",
    ),
    "gradient_shap": OfferedMethod("Gradient SHAP", "The same at random points of the path, so it is a little noisy."),
    "saliency": OfferedMethod("Saliency", "Absolute gradient of the logit with respect to each pixel.", True, False),
    "input_x_gradient": OfferedMethod("Input × gradient", "Gradient times pixel value: cheap and rough.", True),
    "occlusion": OfferedMethod("Occlusion", "Decrease of the logit while a window of one patch shows the baseline."),
    "feature_ablation": OfferedMethod("Feature ablation", "Decrease of the logit while one patch shows the baseline."),
    "layer_integrated_gradients": OfferedMethod(
        "Layer integrated gradients", "Integrated gradients of the tokens in the deepest block that the exit reads."
    ),
    "token_grad_cam": OfferedMethod(
        "Token Grad-CAM", "Gradient times activation of each token (ours; Grad-CAM for tokens).", True
    ),
    "attention_rollout": OfferedMethod(
        "Attention rollout",
        "Attention multiplied through the blocks. It depends on neither the class nor the predictor, so it is no "
        "attribution: it shows where information may have come from.",
        True,
        False,
    ),
}
BASELINES = {
    "black": "black: insensitive to black pixels",
    "mean": "mean colour of pre-training",
    "blur": "the image, blurred",
}
REFUSED = ("deep_lift", "deep_lift_shap", "layer_grad_cam", "lrp")
