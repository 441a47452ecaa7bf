"""A small text encoder: a word tokenizer and CLIP's text transformer (of the libraries of Hugging Face)."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skiptune.errors import SkiptuneError

START, END, UNKNOWN = "<|startoftext|>", "<|endoftext|>", "<|unknown|>"


def library(name: str) -> Any:
    """Raises SkiptuneError if it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SkiptuneError(f"text to image needs {name}: pip install 'skiptune[text-to-image]'") from error


def word_tokenizer(words: Sequence[str], length: int) -> Any:
    """A ``tokenizers.Tokenizer``: one token a word, between start and end, filled up with ends to ``length``.

    Ids are 0 for start, 1 for end, 2 for an unknown word, then the words in their order. Case matters, as the
    article "a" is not the letter "A".
    """
    tokenizers = library("tokenizers")
    ids = {word: i for i, word in enumerate((START, END, UNKNOWN, *words))}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.add_special_tokens([START, END, UNKNOWN])  # decoding leaves them out
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, ids[START]), (END, ids[END])]
    )
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length, pad_id=ids[END], pad_token=END)
    return tokenizer


class PromptEncoder(nn.Module):
    """Prompts -> one vector for each of their tokens, as Stable Diffusion's text encoder.

    Args:
        words: the vocabulary.
        length: tokens of every prompt, start and end included; longer ones are cut off.
        width, layers, heads: of the transformer, whose inner layers are twice as wide.

    Raises:
        SkiptuneError: transformers or tokenizers is not installed.
    """

    def __init__(self, words: Sequence[str], length: int, width: int, layers: int, heads: int):
        super().__init__()
        transformers = library("transformers")
        self.length = length
        self.tokenizer = word_tokenizer(words, length)
        config = transformers.CLIPTextConfig(
            vocab_size=self.tokenizer.get_vocab_size(),
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=length,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
        model = transformers.CLIPTextModel(config)
        # Releases before 5.2x nest the same transformer as `text_model`; parameters are called as without.
        self.transformer = getattr(model, "text_model", model)

    def ids(self, prompts: Sequence[str]) -> Tensor:
        """Tokens ``[N, L]`` int64 on the CPU.

        Raises:
            SkiptuneError: one text in place of a list of them.
        """
        if isinstance(prompts, str):
            raise SkiptuneError(f"prompts are a list of texts, got the text {prompts!r}")
        return torch.tensor([row.ids for row in self.tokenizer.encode_batch(list(prompts))])

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens ``[N, L]`` -> their vectors ``[N, L, D]``, and that of the end of the text ``[N, D]``."""
        output = self.transformer(input_ids=ids.to(self.device))
        return output.last_hidden_state, output.pooler_output

    @property
    def device(self) -> torch.device:
        return next(self.transformer.parameters()).device

    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """``forward`` of texts."""
        return self(self.ids(prompts))
