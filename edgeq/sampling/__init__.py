"""From one row of logits to one token id: the samplers of llama.cpp as rows of a chain (`chain`), on kernels
that look at no entry of a vocabulary in Python (`native`).

This package knows nothing of models, text or caches.
"""

from edgeq.sampling.chain import order_of_letters
from edgeq.sampling.likelihood import check_logits, largest, log_sum_exp
from edgeq.sampling.masks import Mask, all_but, only
from edgeq.sampling.native import requests
from edgeq.sampling.options import RANGES, SamplingOptions, check_option
from edgeq.sampling.sampler import Sampler, State, distribution

__all__ = [
    "RANGES",
    "Mask",
    "Sampler",
    "SamplingOptions",
    "State",
    "all_but",
    "check_logits",
    "check_option",
    "distribution",
    "largest",
    "log_sum_exp",
    "only",
    "order_of_letters",
    "requests",
]
