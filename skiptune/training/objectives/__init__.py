"""Training objectives by name: the losses of one network, and what begins with a trained one, the teacher.

The latter are the distillation into one step, fine-tuning, and the learning of skip coefficients. A loss of
one network begins with a trained one where it names an ``initial`` one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from skiptune.denoisers import Denoiser
from skiptune.denoisers.latent import LatentDenoiser
from skiptune.errors import SkiptuneError
from skiptune.evaluation.extractors import ExtractorRef, FeatureExtractor, load_extractor
from skiptune.training.fields import check_types
from skiptune.training.losses import LOSSES, make_loss
from skiptune.training.objectives.consistency import ConsistencyDistillation
from skiptune.training.objectives.diff_instruct import DiffInstruct
from skiptune.training.objectives.feature import FeatureDenoising
from skiptune.training.objectives.latent import LatentDenoising
from skiptune.training.objectives.objective import Denoising, Objective
from skiptune.training.objectives.prompted import PromptedDenoising
from skiptune.training.objectives.prompted_consistency import PromptedConsistency
from skiptune.training.objectives.skip_coefficients import SkipCoefficientLearning
from skiptune.training.objectives.teacher import begin_as, load_teacher

FROM_TEACHER: dict[str, Callable[..., Objective]] = {
    "consistency_distillation": ConsistencyDistillation,
    "diff_instruct": DiffInstruct,
    "feature_denoising": FeatureDenoising,
    "prompted_consistency": PromptedConsistency,
    "skip_coefficients": SkipCoefficientLearning,
}

# Without a teacher, and not a loss of any network.
ALONE: dict[str, Callable[..., Objective]] = {"prompted_noise_prediction": PromptedDenoising}


def check_objective(settings: Mapping[str, Any]) -> None:
    """Refuse settings that ``make_objective`` cannot use, before anything is loaded.

    Raises:
        SkiptuneError: an unknown name or argument, or one of another type.
    """
    name = settings.get("name")
    if "initial" in settings and name not in LOSSES:
        raise SkiptuneError(f"loss {name} takes no initial network; one of {', '.join(LOSSES)} does")
    for role in ("teacher", "initial"):
        if not isinstance(settings.get(role, ""), str | Mapping):
            raise SkiptuneError(
                f"{role} is {settings[role]!r}: give the name of a desk model, or a model configuration"
            )
    if name in LOSSES:
        make_loss(_loss(settings))
        return
    if name not in FROM_TEACHER and name not in ALONE:
        known = ", ".join([*LOSSES, *ALONE, *FROM_TEACHER])
        raise SkiptuneError(f"unknown loss {name!r}: choose one of {known}")
    made, given = (ALONE | FROM_TEACHER)[str(name)], (None,) if name in ALONE else (None, None)
    check_types(_arguments(settings), made.__init__)
    try:
        signature(made).bind(*given, **_arguments(settings))
    except TypeError as error:
        raise SkiptuneError(f"loss {dict(settings)} does not fit: {error}") from error
    if name in FROM_TEACHER and "teacher" not in settings:
        raise SkiptuneError(
            f"loss {name} needs a teacher: the name of a desk model, or a model configuration"
        )


def make_objective(settings: Mapping[str, Any], denoiser: Denoiser) -> Objective:
    """The objective ``{"name": ..., arguments}`` that trains ``denoiser``.

    One of ``FROM_TEACHER`` takes ``teacher`` (name of a desk model, or a model configuration, whose file is
    then in the folder ``checkpoints``) besides the arguments of its class, of which ``features`` likewise is
    the name of a shipped extractor or a features configuration. The loss of a latent denoiser takes
    ``autoencoder``, the name of the desk autoencoder that makes the latents. Any loss of ``LOSSES`` takes
    ``initial``, a model as ``teacher`` is, whose weights the training goes on with; layers that it lacks,
    such as attention at further resolutions, are trained from the start.

    Raises:
        SkiptuneError: as ``check_objective``, and for a teacher or features that cannot be had or do not fit.
    """
    check_objective(settings)
    folder = settings.get("checkpoints", "checkpoints")
    if "initial" in settings:
        begin_as(denoiser, load_teacher(settings["initial"], folder), may_grow=True)
    if settings["name"] in ALONE:
        return ALONE[settings["name"]](denoiser, **_arguments(settings))
    if settings["name"] in LOSSES:
        loss = make_loss(_loss(settings))
        if not isinstance(denoiser, LatentDenoiser):
            return Denoising(denoiser, loss)
        if "autoencoder" not in settings:
            raise SkiptuneError(
                "the loss of a latent denoiser needs autoencoder, the name of a desk autoencoder"
            )
        return LatentDenoising(denoiser, loss, settings["autoencoder"])
    arguments = _arguments(settings)
    if "features" in arguments:
        arguments["features"] = _features(arguments["features"], folder)
    return FROM_TEACHER[settings["name"]](denoiser, load_teacher(settings["teacher"], folder), **arguments)


def new_weights(settings: Mapping[str, Any], denoiser: Denoiser) -> list[str]:
    """Weights of ``denoiser`` that the ``initial`` network of a loss lacks; none without such a network.

    Raises SkiptuneError as ``make_objective``.
    """
    if "initial" not in settings:
        return []
    initial = load_teacher(settings["initial"], settings.get("checkpoints", "checkpoints"))
    begin_as(denoiser, initial, may_grow=True)
    given = initial.state_dict().keys()
    return [name for name in denoiser.state_dict() if name not in given]


def _loss(settings: Mapping[str, Any]) -> dict[str, Any]:
    apart = ("autoencoder", "initial", "checkpoints") if "initial" in settings else ("autoencoder",)
    return {key: value for key, value in settings.items() if key not in apart}


def _arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in ("name", "teacher", "checkpoints")}


def _features(features: str | Mapping[str, Any], checkpoints: str) -> FeatureExtractor:
    if isinstance(features, str):
        return load_extractor(features)
    return ExtractorRef.resolve(features, Path(checkpoints)).load()
