"""Settings for all tests."""

from hypothesis import HealthCheck, settings

# A busy machine is no reason to fail: neither for the time of one example nor for how long examples take to make.
settings.register_profile("any-speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-speed")
