"""The models on this machine: what a name means, and where what was converted is kept."""

from .find import hub_name as hub_name
from .find import locate as locate
from .find import resolve as resolve
