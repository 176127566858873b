"""The models on this machine: what a name means, and where what was converted is kept."""

from .find import resolve as resolve
