"""What comes into the evaluation: images of any origin, ready features, published references."""

from skiptune.evaluation.sources.arrays import array_names, read_arrays, read_features
from skiptune.evaluation.sources.images import ImageSource
from skiptune.evaluation.sources.passes import ImageFeatures, complete
from skiptune.evaluation.sources.references import read_reference
from skiptune.evaluation.sources.scores import PairDistances, PromptScores, read_prompts

__all__ = [
    "ImageFeatures",
    "ImageSource",
    "PairDistances",
    "PromptScores",
    "array_names",
    "complete",
    "read_arrays",
    "read_features",
    "read_prompts",
    "read_reference",
]
