"""The stream of changes that a durability test makes: what revision n does, and what the state is after it.

Each is a function of its number alone, so that whoever finds a revision, acknowledged or not, can say what it has to hold.
Shared by the guest that makes the changes and the test outside that judges; it must not import a store.
"""

from __future__ import annotations

import hashlib

from hostward.controller.publisher import Rollout
from hostward.controller.service import Controller
from hostward.model.endpoint import Endpoint, Port, Quota

HOST = "h1"
_FILE = "acme.yaml"
# What makes a text long enough to lie in several pages of the database.
_PADDING = "# " + "0123456789abcdef" * 8 + "\n"


def policy_text(revision: int) -> str:
    """The policy in force after ``revision``: every odd one changes it."""
    odd = revision if revision % 2 else revision - 1
    if odd < 1:
        return ""
    rule = f"rules: [allow internet to web on tcp/{odd % 60_000 + 1}]\n"
    return f"tenant: acme\n# change {odd}\n{_PADDING * (odd % 100)}groups: {{web: role=web}}\n{rule}"


def endpoints(revision: int) -> list[str]:
    """The endpoints that exist after ``revision``: of four, the second adds one and the fourth removes it."""
    added = revision - (revision - 2) % 4 if revision >= 2 else 0
    return [f"acme/web-{added}"] if added and revision - added < 2 else []


def digest(text: str) -> str:
    """What stands for a text on the way out of the guest."""
    return hashlib.sha256(text.encode()).hexdigest()[:24]


async def make_change(controller: Controller, revision: int) -> Rollout:
    """Make revision ``revision``, which has to be the next."""
    if revision % 2:
        return await controller.apply([(_FILE, policy_text(revision).encode())], "stream")
    if revision % 4 == 2:
        name, device = f"web-{revision}", f"v{revision}"
        endpoint = Endpoint("acme", name, {"role": "web"}, "", (), HOST, Port(device), quota=Quota(64))
        return await controller.attachments.add(endpoint, "stream")
    return await controller.attachments.remove(f"web-{revision - 2}", "stream")
