"""The tokens that may be drawn, as the samplers of a chain leave them to each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import FormatError, UsageError
from edgeq.sampling import native
from edgeq.sampling.native import NO_FLOOR, NOT_BLANK, Doubles, Floats, Floor, Ids, Room, Tops, Weights

SHORT = 16384  # logits among which the k-th is found faster by NumPy
FEW = 1024  # tokens that are sorted where a sampler's order is that of falling logits

There: TypeAlias = NDArray[np.bool_] | slice  # which of ids there are among candidates
Change: TypeAlias = Callable[[Floats, Ids, There], object]


class Candidates:
    """Tokens and their logits, finite float32: at least one. Nothing of it is changed, but for logits that
    are its own, which are the next candidates' then.

    - ids: int32, rising, or by falling logit and equal logits by rising id (`falling`). None: all.
    - temperature: what the logits are divided by, float64.
    - floor: tokens below it are gone, though they are still in the arrays; the best never is.
    - ranked: a sampler kept the best of them, so they are sorted as soon as they are few.
    - own: the logits are a copy that nobody else needs.
    """

    def __init__(
        self,
        room: Room,
        logits: Floats,
        ids: Ids | None = None,
        *,
        falling: bool = False,
        temperature: float = 1.0,
        floor: Floor = NO_FLOOR,
        ranked: bool = False,
    ) -> None:
        self.room, self.logits, self.ids, self.own = room, logits, ids, False
        self.falling, self.temperature, self.floor, self.ranked = falling, temperature, floor, ranked
        self._tops: Tops | None = None
        self._shares: Weights | None = None

    @classmethod
    def of(cls, logits: Floats, mask: NDArray[np.uint32] | None = None) -> Candidates:
        """All tokens of a row [vocab], or those whose bit is set. FormatError where a logit is not finite."""
        room = native.room(len(logits))
        all_tokens = cls(room, logits)
        _ = all_tokens.tops
        if mask is None:
            return all_tokens
        kept, ids = room.allowed(mask, logits)
        if not len(ids):
            raise UsageError("every token of the vocabulary is banned, so there is none to draw")
        return cls(room, kept, ids)

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def tops(self) -> Tops:
        """Of the logits. They lie in the room: whose tops are asked for last has them."""
        if self._tops is None:
            self._tops = self.room.tops(self.logits)
            if self._tops is None:
                raise not_finite()
        return self._tops

    @property
    def top(self) -> float:
        return float(self.logits[0]) if self.falling else self.tops.top

    @property
    def bottom(self) -> float:
        """The smallest logit, or one below which nothing weighs anything."""
        least = float(self.logits[-1]) if self.falling else self.tops.bottom
        return max(least, self.top - native.REACH * self.temperature)

    def like(self, **changes: Any) -> Candidates:
        """The same logits, with another temperature or floor."""
        found = object.__new__(Candidates)
        vars(found).update(vars(self), **({"_shares": None} | changes))
        return found

    def of_others(self, logits: Floats, ids: Ids | None, **changes: Any) -> Candidates:
        """Other logits of the same temperature."""
        return self.like(logits=logits, ids=ids, **({"_tops": None, "own": False} | changes))

    def weights(self, top: float | None = None) -> Weights:
        """To a top, where none is given their own. Those that are gone weigh nothing."""
        return self.room.weigh(self.logits, self.top if top is None else top, self.temperature, self.floor)

    def shares(self) -> Weights:
        """Weights to whichever top: those that are there, where they are."""
        shares = self._shares
        return shares if shares is not None and shares is self.room.weighed else self.weights()

    def blanked(self, row: Floats, floor: Floor) -> Candidates:
        """Those of settled ones, whose weights were found last, where the row reaches a floor."""
        logits, tops, shares = self.room.blank(row, floor, self.logits, self.top)
        return self.of_others(logits, self.ids, floor=NOT_BLANK, _tops=tops, _shares=shares)

    # ---- fewer of them ----
    def settled(self) -> Candidates:
        """The same tokens, and none in the arrays that are gone."""
        if self.floor is NO_FLOOR:
            return self
        kept, ids = self.room.collect(self.logits, self.floor, self.logits, self.ids, self.tops.blocks)
        found = Candidates(self.room, kept, ids, temperature=self.temperature, ranked=self.ranked)
        return found.sorted() if self.ranked else found

    def above(self, floor: Floor, ranked: bool = False) -> Candidates:
        """Those that reach a floor; where few do, none else are in the arrays. `ranked`: it is a rank's."""
        if self.falling:
            return self.first(int((-self.logits).searchsorted(-np.float32(floor.bound), side="right")))
        if floor.lets_all_of(self.floor):
            return self
        below = self.like(floor=floor, ranked=self.ranked or ranked)
        reach = int(np.count_nonzero(self.tops.blocks >= np.float32(floor.bound)))
        return below if reach > FEW else below.settled()

    def first(self, count: int) -> Candidates:
        """The first of those by falling logit."""
        return self.of_others(self.logits[:count], self.token_ids[:count])

    def best(self, count: int) -> Candidates:
        """The best by falling logit, equal logits by rising id; not in that order where they are many."""
        found = self.settled()
        if found.falling:
            return found.first(count)
        if len(found) <= FEW:
            return found.sorted().first(count)
        if count >= len(found):
            return found
        tops = found.tops.blocks
        # Each of the best blocks holds a logit that reaches the bound, so that at least so many logits do.
        several = tops if count * 8 <= len(tops) * 7 else found.logits if len(found) <= SHORT else None
        if several is not None:
            kept, ids = found.room.collect(
                found.logits, Floor(at_rank(several, count)), found.logits, found.ids, tops
            )
            if len(kept) > 2 * count:
                reach = kept >= at_rank(kept, count)
                kept, ids = kept[reach], ids[reach]
            return found.of_others(kept, ids).sorted(most=len(kept)).first(count)
        floor = found.room.cut(found.logits, None, count, found.tops.top, found.tops.bottom)
        return found.above(floor, ranked=True)

    def sorted(self, most: int = FEW) -> Candidates:
        """By falling logit, where they are not too many."""
        if self.falling or self.floor is not NO_FLOOR or len(self) > most:
            return self
        order = np.argsort(-self.logits, kind="stable")
        ids = order.astype(np.int32) if self.ids is None else self.ids[order]
        return self.of_others(self.logits[order], ids, falling=True)

    def chosen(self, keep: NDArray[np.bool_]) -> Candidates:
        """Those of settled ones that are to be kept."""
        return self.of_others(self.logits[keep], self.token_ids[keep])

    def reaching(self, bound: float) -> NDArray[np.int64]:
        """The places of settled ones whose logit reaches a bound, as a float32, rising."""
        bound = max(float(np.float32(bound)), -native.LARGEST)
        if self.falling:
            return np.arange(np.searchsorted(-self.logits, -np.float32(bound), side="right"))
        _, places = self.room.collect(self.logits, Floor(bound), self.logits, None, self.tops.blocks)
        return places.astype(np.int64)

    def without(self, places: NDArray[np.integer]) -> Candidates:
        """Those of settled ones that do not stand there."""
        if self.falling or len(self) - len(places) <= FEW:
            keep = np.ones(len(self), bool)
            keep[places] = False
            return self.chosen(keep)
        logits = self.logits.copy()
        logits[places] = -native.LARGEST
        return self.of_others(logits, self.ids, floor=NOT_BLANK)

    # ---- other logits ----
    def changed(self, ids: Ids, change: Change) -> Candidates:
        """With other logits for some ids, each given once. `change` gets the logits, the places of those ids
        that there are, and which of the ids these are; it puts finite logits there."""
        found = self.scaled()
        places, there = found._places(ids)
        if not len(places):
            return found
        changed = found.owned()
        change(changed.logits, places, there)
        if not found.falling:
            return changed
        order = np.lexsort((changed.token_ids, -changed.logits))
        return changed.of_others(changed.logits[order], changed.token_ids[order])

    def owned(self) -> Candidates:
        """The same, with logits that may be changed."""
        if self.own:
            return self.like(_tops=None)
        logits, ids = self.room.turn()
        logits[: len(self)] = self.logits
        if self.ids is not None:  # they may lie where the next logits will
            ids[: len(self)] = self.ids
        return self.of_others(logits[: len(self)], None if self.ids is None else ids[: len(self)], own=True)

    def banned(self, ids: Ids) -> Candidates:
        """Without some ids, each given once. UsageError where none is left."""
        found = self.settled()
        places, _ = found._places(ids)
        if len(places) == len(found):
            raise UsageError("every token of the vocabulary is banned, so there is none to draw")
        return found.without(places) if len(places) else found

    def scaled(self) -> Candidates:
        """The same settled, with the temperature in the logits."""
        found = self.settled()
        if found.temperature == 1:
            return found
        scaled = found.logits / found.temperature
        if not np.isfinite(scaled).all():  # so cold that the best is alone
            return found.best(1).like(temperature=1.0)
        return found.of_others(scaled.astype(np.float32), found.ids, temperature=1.0)

    # ---- what comes of them ----
    @property
    def token_ids(self) -> Ids:
        """The ids as an array."""
        return self.room.places[: len(self)] if self.ids is None else self.ids

    def _places(self, ids: Ids) -> tuple[Ids, There]:
        """Where ids stand, and which of them do."""
        if self.ids is None:
            return ids, slice(None)
        order = np.argsort(self.ids, kind="stable") if self.falling else None
        places = np.searchsorted(self.ids, ids, sorter=order)
        places = np.minimum(places, len(self) - 1)
        places = places if order is None else order[places]
        there = self.ids[places] == ids
        return places[there].astype(np.int32), there

    def id(self, place: int) -> int:
        return place if self.ids is None else int(self.ids[place])

    def distribution(self) -> tuple[NDArray[np.int64], Doubles]:
        """Ids and their probabilities, float64."""
        found = self.settled()
        values = found.logits.astype(np.float64)
        with np.errstate(over="ignore"):  # a tiny temperature sends all but the best to -inf, which is right
            weights = np.exp((values - values.max()) / found.temperature)
        return found.token_ids.astype(np.int64), weights / weights.sum()


def at_rank(values: Floats, rank: int) -> float:
    """The value of that rank, 1 for the largest."""
    place = len(values) - rank
    return float(np.partition(values, place)[place])


def not_finite() -> FormatError:
    """The error for a logit that is NaN or infinite, which a sound model file cannot produce."""
    return FormatError(
        "the model computed logits that are not finite numbers, so its file is probably damaged: "
        "`edgeq verify` tells which tensor"
    )
