"""Properties that a slow machine cannot fail: the same examples each time, and no limit on the time of one."""

from hypothesis import settings

steady = settings(derandomize=True, deadline=None, max_examples=60)
