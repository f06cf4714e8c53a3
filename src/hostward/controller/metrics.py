"""A controller's part of a scrape: hosts, endpoints, changes, as ``export.metrics.catalogue`` names them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import hostward
from hostward.agent.messages import NackReason
from hostward.controller.host_view import HostView
from hostward.controller.service import Controller
from hostward.export.metrics import catalogue
from hostward.export.metrics.page import Page
from hostward.model.endpoint import EndpointState
from hostward.store.records import HostState, State


class ControllerMetrics:
    """Adds to pages. Call ``add_to`` on the event loop: what grows with the fleet is walked in a thread."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    async def add_to(self, page: Page) -> None:
        """Everything that this controller tells."""
        controller = self._controller
        page.add(catalogue.BUILD, 1, "controller", hostward.__version__)
        page.add(catalogue.AUDIT_RECORDS, await controller.ledger.audit_length())
        self._add_measures(page)
        await asyncio.to_thread(_add_fleet, page, controller.ledger.state, controller.fleet.views())

    def _add_measures(self, page: Page) -> None:
        measures, feedback = self._controller.measures, self._controller.fleet.feedback
        page.add_durations(catalogue.CHANGE_SECONDS, measures.changes)
        page.add_durations(catalogue.COMPILE_SECONDS, measures.compiling)
        page.add(catalogue.CHANNELS_ACCEPTED, measures.channels_accepted)
        for reason in NackReason:
            page.add(catalogue.NACKS, measures.refused[reason], reason.value)
        for (operation, status), count in sorted(measures.api_requests.items()):
            page.add(catalogue.API_REQUESTS, count, operation, str(status))
        # No host and no tenant is called so: there is always a series.
        downlinks, ceilings = feedback.rates(), feedback.ceilings()
        page.add(catalogue.DOWNLINK_RATE, sum(sum(rates.values()) for rates in downlinks.values()), "", "")
        page.add(catalogue.HOST_CEILINGS, ceilings.total(), "")
        for host, rates in downlinks.items():
            for tenant, rate in rates.items():
                page.add(catalogue.DOWNLINK_RATE, rate, host, tenant)
        for host, count in ceilings.items():
            page.add(catalogue.HOST_CEILINGS, count, host)
        page.add(catalogue.ARRIVALS_IGNORED, feedback.ignored)


def _add_fleet(page: Page, state: State, known: Sequence[HostView]) -> None:
    """``state`` is one committed state, and of a view every field is replaced whole: a thread may read both."""
    views = {view.host: view for view in known}
    unheard = HostView("")
    page.add(catalogue.DESIRED_REVISION, state.revision)
    states = Counter(record.state for record in state.hosts.values())
    for host_state in HostState:
        page.add(catalogue.HOSTS, states[host_state], host_state.value)
    behind = 0
    for name, record in state.hosts.items():
        if record.state is not HostState.ADMITTED:
            continue  # cut off on purpose: no series, and nothing to be alarmed about
        view = views.get(name, unheard)
        behind += not (view.connected and view.enforced >= state.revision)
        page.add(catalogue.HOST_CONNECTED, view.connected, name)
        page.add(catalogue.HOST_REVISION, view.enforced, name)
        page.add(catalogue.HOST_CONTACT, view.last_seen.timestamp() if view.last_seen else 0, name)
    page.add(catalogue.HOSTS_BEHIND, behind)
    counts: Counter[EndpointState] = Counter()
    for endpoint in state.endpoints.values():
        status = views.get(endpoint.host, unheard).statuses.get(endpoint.id)
        counts[status.state if status else EndpointState.PENDING] += 1
    for endpoint_state in EndpointState:
        page.add(catalogue.ENDPOINTS, counts[endpoint_state], endpoint_state.value)
