"""Which devices of hosts the people of a tenant may attach. Whoever acts for the whole site may attach any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from hostward.controller.access.decision import Scope
from hostward.errors import AccessError, UsageError
from hostward.model.endpoint import Port


class DeviceGrants:
    """Patterns of devices by tenant, as a shell writes them: ``tap-acme-*``, or ``NETNS/DEVICE`` for one that is not in the
    agent's own network namespace. A tenant that has none may attach nothing.
    """

    def __init__(self, patterns: Mapping[str, Sequence[str]] | None = None) -> None:
        self._patterns = {tenant: tuple(texts) for tenant, texts in (patterns or {}).items()}
        for tenant, texts in self._patterns.items():
            for text in texts:
                netns, _, device = text.rpartition("/")
                if not device or (netns and not netns.strip("/")):
                    raise UsageError(
                        f"{text!r} names no device", subject=f"devices.{tenant}", hint="write e.g. tap-acme-*"
                    )

    def require(self, scope: Scope, tenant: str, port: Port) -> None:
        """Raises AccessError if whoever asks acts for tenants alone, and the device is not one of this tenant's."""
        if scope.tenants is None or any(_matches(text, port) for text in self._patterns.get(tenant, ())):
            return
        raise AccessError(
            f"{scope.principal.id} ({scope.principal.role.value}) may not attach this device for tenant {tenant}",
            subject=f"{port.netns}/{port.device}" if port.netns else port.device,
            hint="the controller's [devices] says which; a platform operator may attach any",
        )


def _matches(pattern: str, port: Port) -> bool:
    netns, _, device = pattern.rpartition("/")
    # Each part by itself: a star must not reach from one namespace into another.
    return fnmatchcase(port.device, device) and (fnmatchcase(port.netns, netns) if netns else not port.netns)
