"""What forward passes are written in: functions of a recorder that take and give handles of buffers.

`p` is an edgeq.runtime.recorder.Recorder. Shapes are [rows, columns] as a pass sees them: tokens are those
of the pass, outputs those of its last tokens whose logits are wanted. The kernels that they name are rows of
`edgeq.kernels.catalog`.
"""

from .activation import activate, gated, gated_rows, xielu
from .attention import attend, store
from .embedding import embed
from .experts import add_gated, add_slots, gather, matmul_experts, route
from .linear import matmul, quantize
from .logits import argmax
from .normalization import add_norm, layer_norm, layer_norm_heads, norm, norm_heads
from .recurrent import conv_silu, decay, delta_rule, short_conv, sigmoid, state_space, time_steps
from .residual import add, add_positions, copy, outputs, scale
from .rope import rotate

__all__ = [
    "activate",
    "add",
    "add_gated",
    "add_norm",
    "add_positions",
    "add_slots",
    "argmax",
    "attend",
    "conv_silu",
    "copy",
    "decay",
    "delta_rule",
    "embed",
    "gated",
    "gated_rows",
    "gather",
    "layer_norm",
    "layer_norm_heads",
    "matmul",
    "matmul_experts",
    "norm",
    "norm_heads",
    "outputs",
    "quantize",
    "rotate",
    "route",
    "scale",
    "short_conv",
    "sigmoid",
    "state_space",
    "store",
    "time_steps",
    "xielu",
]
