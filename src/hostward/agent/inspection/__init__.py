"""The inspector's parent: starts it, tells it what to look for, carries out what it asks for, and keeps what it finds.

The inspector reads tenants' bytes, so nothing that it says is believed beyond its own job: a flow that it may stop is one
of this host's, by the datapath's own check, and its events are text.
"""

from hostward.agent.inspection.inspector import Inspector
from hostward.agent.inspection.settings import InspectorSettings, Profile

__all__ = ["Inspector", "InspectorSettings", "Profile"]
