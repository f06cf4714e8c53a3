"""What the controller has seen, as proposals for tenants' policy files: a diff that `patch` takes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import unified_diff

from hostward.controller.flow_impact import Sightings
from hostward.controller.service import Controller
from hostward.errors import NotFoundError
from hostward.policy.learning import Lesson, learn
from hostward.policy.usage import WiderRule, wider_than_observed

_NO_NEWLINE = "\\ No newline at end of file\n"


@dataclass(frozen=True, slots=True)
class Lessons:
    """What was learned for each tenant, and from which flows."""

    lessons: tuple[Lesson, ...]
    sightings: Sightings


@dataclass(frozen=True, slots=True)
class Usage:
    """The rules wider than their use, and the flows that say so."""

    rules: tuple[WiderRule, ...]
    sightings: Sightings


async def lessons(
    controller: Controller, tenant: str, within_s: float, *, include_denied: bool, propose_groups: bool
) -> Lessons:
    """What one tenant's policy, or every tenant's, lacks. Raises NotFoundError for a tenant that does not exist."""
    policies, endpoints, now = controller.policies, controller.published_endpoints(), controller.membership.now
    sightings = controller.sightings(within_s)
    tenants = sorted({*policies.tenants, *(endpoint.tenant for endpoint in endpoints)})
    if tenant and tenant not in tenants:
        raise NotFoundError("there is no such tenant", subject=tenant, hint="`hostward get tenants`")

    def work() -> tuple[Lesson, ...]:
        return tuple(
            learn(
                policies,
                endpoints,
                sightings.flows,
                name,
                now,
                include_denied=include_denied,
                propose_groups=propose_groups,
            )
            for name in ([tenant] if tenant else tenants)
        )

    return Lessons(await asyncio.to_thread(work), sightings)


async def usage(controller: Controller, tenant: str, within_s: float) -> Usage:
    """The allow rules wider than the flows that passed."""
    policies, endpoints, now = controller.policies, controller.published_endpoints(), controller.membership.now
    if tenant and tenant not in policies.tenants:
        raise NotFoundError("there is no policy of such a tenant", subject=tenant, hint="`hostward get tenants`")
    sightings = controller.sightings(within_s)
    found = await asyncio.to_thread(wider_than_observed, policies, endpoints, sightings.flows, now)
    return Usage(tuple(rule for rule in found if tenant in ("", rule.tenant)), sightings)


def diff(lesson: Lesson) -> str:
    """The change of a tenant's file, with the names under which `patch -p1` finds it."""
    name = f"{lesson.tenant}.yaml"
    before, after = lesson.before.splitlines(keepends=True), lesson.after.splitlines(keepends=True)
    lines = unified_diff(before, after, f"a/{name}" if before else "/dev/null", f"b/{name}")
    return _ended(list(lines))


def _ended(lines: Sequence[str]) -> str:
    return "".join(line if line.endswith("\n") else f"{line}\n{_NO_NEWLINE}" for line in lines)
