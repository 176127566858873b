"""From a prompt to a stream of text: `stream` is the loop of forward pass, sampler and decoder.

A model is anything with the shape of `LanguageModel`: this package speaks token ids to it and knows nothing
of files, kernels or commands.
"""

from edgeq.generate.batch import Batch, BatchEvent, BatchGeneration
from edgeq.generate.continuation import Accepted, Continuation
from edgeq.generate.defaults import eos_ids, file_defaults, keywords, options_for
from edgeq.generate.generation import Generation
from edgeq.generate.held import check_ends, held_to
from edgeq.generate.logprobs import TokenLogprob, TopLogprob
from edgeq.generate.loop import stream
from edgeq.generate.prepared import limit_of
from edgeq.generate.prompts import alike, encode, prefixes_of, remaining, reused
from edgeq.generate.protocols import LanguageModel, Mask, TokenSequence
from edgeq.generate.results import Piece, Result, Timings, Usage
from edgeq.generate.stops import StopStrings, overlap
from edgeq.sampling import Sampler, SamplingOptions

__all__ = [
    "Accepted",
    "Batch",
    "BatchEvent",
    "BatchGeneration",
    "Continuation",
    "Generation",
    "LanguageModel",
    "Mask",
    "Piece",
    "Result",
    "Sampler",
    "SamplingOptions",
    "StopStrings",
    "Timings",
    "TokenLogprob",
    "TokenSequence",
    "TopLogprob",
    "Usage",
    "alike",
    "check_ends",
    "encode",
    "eos_ids",
    "file_defaults",
    "held_to",
    "keywords",
    "limit_of",
    "options_for",
    "overlap",
    "prefixes_of",
    "remaining",
    "reused",
    "stream",
]
