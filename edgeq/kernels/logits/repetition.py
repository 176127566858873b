"""What a text has said before: how often each token, what that takes from its logit, and which endings."""

from __future__ import annotations

from numba import float32, float64, int64

from edgeq.simd.verbs import native, peek_f32, peek_f64, peek_i32, poke_f32, poke_f64, poke_i32

LARGEST = 3.4028234663852886e38  # of float32


@native
def tally(t, text, length, counts, ids, times, found):
    """The ids of a text (int32 [length]), each once, in the order of their first places, and how often each
    stands there: ids, times int32 [length]. found [1]: how many there are. counts int32 [vocab] is zero, and
    left so.
    """
    distinct = 0
    for n in range(length):
        id = int64(peek_i32(text + n * 4))
        before = int64(peek_i32(counts + id * 4))
        poke_i32(counts + id * 4, before + 1)
        poke_i32(ids + distinct * 4, id)
        distinct += int64(before == 0)
    for n in range(distinct):
        id = int64(peek_i32(ids + n * 4))
        poke_i32(times + n * 4, int64(peek_i32(counts + id * 4)))
        poke_i32(counts + id * 4, 0)
    poke_f64(found, float64(distinct))
    return 0


@native
def penalize(t, logits, places, times, count, penalties):
    """Change the logits float32 at places int32 [count], each there once: divide a positive one by
    penalties[0] and multiply another with it, then subtract penalties[1] for each of `times` (int32 [count])
    and penalties[2]. penalties are float64, as all of it is until a float32 is stored.
    """
    repeat, frequency, presence = peek_f64(penalties), peek_f64(penalties + 8), peek_f64(penalties + 16)
    for n in range(count):
        at = logits + int64(peek_i32(places + n * 4)) * 4
        logit = float64(peek_f32(at))
        logit = logit / repeat if logit > 0.0 else logit * repeat
        logit -= float64(peek_i32(times + n * 4)) * frequency + presence
        poke_f32(at, float32(min(max(logit, -LARGEST), LARGEST)))
    return 0


@native
def repeats(t, text, length, lengths):
    """lengths int32 [length]: how many tokens the text has in common, backwards from its end, with itself
    backwards from before its last n tokens. lengths[0] is the length.

    The Z function of the text read backwards (D. Gusfield, Algorithms on Strings, Trees and Sequences, 1.4).
    """
    end = text + (length - 1) * 4
    poke_i32(lengths, length)
    low, high = 0, 0  # the match that reaches furthest is low..high
    for n in range(1, length):
        same = 0
        if n < high:
            same = min(high - n, int64(peek_i32(lengths + (n - low) * 4)))
        while n + same < length and peek_i32(end - same * 4) == peek_i32(end - (n + same) * 4):
            same += 1
        if n + same > high:
            low, high = n, n + same
        poke_i32(lengths + n * 4, same)
    return 0
