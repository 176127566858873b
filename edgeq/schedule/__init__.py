"""Many generations together: which rows of which sequences a pass has, and who may begin.

It knows token ids, passes and pages; nothing of text, files or kernels. `edgeq.generate.Batch` stands on it.
"""

from edgeq.schedule.engine import Course, Engine, Pool, Sequence
from edgeq.schedule.memory import Promises
from edgeq.schedule.requests import Event, Request, Text
from edgeq.schedule.rows import share
from edgeq.schedule.scheduler import Scheduler

__all__ = [
    "Course",
    "Engine",
    "Event",
    "Pool",
    "Promises",
    "Request",
    "Scheduler",
    "Sequence",
    "Text",
    "share",
]
