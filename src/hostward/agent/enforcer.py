"""Re-export of the seam, which lives beside its implementations."""

from hostward.datapath.enforcer import Counters, DeviceFacts, EndpointStatus, Enforcer

__all__ = ["Counters", "DeviceFacts", "EndpointStatus", "Enforcer"]
