"""Property tests give the same verdict on every machine, also on a slow or a busy one."""

from hypothesis import settings

settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")
