"""A tenant's and the platform's policy as parsed values, and how files become them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from enum import Enum
from ipaddress import ip_network

from hostward.errors import PolicyError, Problem
from hostward.model.guard import Guard, GuardKind, Watch
from hostward.policy import grammar, yaml_tree
from hostward.policy.grammar import KEYWORDS, LineError
from hostward.policy.guards import KIND_WORDS, guard_of, parse_watch
from hostward.policy.keys import MAX_DHCP_SERVERS, MAX_SHARE, NETWORK_KEYS, PLATFORM_KEYS, TENANT_KEYS
from hostward.policy.mistakes import hint_for_peer, hint_for_service
from hostward.policy.sampling import EVERYBODY, Sampling, most_frequent, parse_sampling_rate
from hostward.policy.syntax import (
    ANY_PORT,
    Action,
    Assertion,
    Group,
    Network,
    Peer,
    PeerKind,
    Place,
    PortRange,
    Rule,
    Side,
)
from hostward.policy.yaml_tree import Problems, Scalar, Sequence, Tree

PLATFORM = "platform"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
MAX_NESTING = 32  # of groups in groups
MAX_FACTS = 4_096
_MAX_PROBLEMS = 1_000


class Mode(Enum):
    """Whether denials deny."""

    ENFORCE = "enforce"
    AUDIT = "audit"


class Overload(Enum):
    """What becomes of packets that the inspector cannot take."""

    FAIL_OPEN = "fail-open"
    FAIL_CLOSED = "fail-closed"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a tenant's and the platform's policy have in common.

    ``source`` is the text of its own YAML document; ``places`` say where ``services/NAME`` and ``exports/NAME`` stand.
    """

    name: str
    mode: Mode = Mode.ENFORCE
    groups: Mapping[str, Group] = field(default_factory=dict)
    services: Mapping[str, tuple[PortRange, ...]] = field(default_factory=dict)
    exports: frozenset[str] = frozenset()
    rules: tuple[Rule, ...] = ()
    assertions: tuple[Assertion, ...] = ()
    source: str = ""
    guard: Mapping[GuardKind, Watch] = field(default_factory=dict)  # of the kinds that it speaks of
    overload: Overload = Overload.FAIL_OPEN
    sampling: Sampling = field(default_factory=dict)  # of the groups that it speaks of
    revoked: tuple[Rule, ...] = ()  # with `keep`, and no more in force: see ``revocation``
    places: Mapping[str, Place] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class TenantPolicy(Policy):
    """One tenant's policy."""


# Without a platform file: private space is divided into what endpoints may have and what else is inside.
DEFAULT_NETWORKS: Mapping[str, tuple[Network, ...]] = {
    "default": (ip_network("10.0.0.0/8"), ip_network("100.64.0.0/10"), ip_network("fd00::/8"))
}
DEFAULT_INTERNAL: tuple[Network, ...] = (ip_network("172.16.0.0/12"), ip_network("192.168.0.0/16"))


@dataclass(frozen=True, slots=True)
class PlatformPolicy(Policy):
    """The platform's policy: address spaces, and rules before and behind every tenant's."""

    name: str = PLATFORM
    networks: Mapping[str, tuple[Network, ...]] = field(default_factory=lambda: DEFAULT_NETWORKS)
    dhcp: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by network: its servers; not there: any
    internal: tuple[Network, ...] = DEFAULT_INTERNAL
    baseline: tuple[Rule, ...] = ()
    shares: Mapping[str, int] = field(default_factory=dict)  # weights of tenants at a host's uplink; others have 1


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Every policy of one revision."""

    platform: PlatformPolicy | None = None
    tenants: Mapping[str, TenantPolicy] = field(default_factory=dict)

    @property
    def effective_platform(self) -> PlatformPolicy:
        """The platform's policy, the default one where there is none."""
        return self.platform or PlatformPolicy()

    def guard_of(self, tenant: str) -> Guard:
        """What holds for a tenant's endpoints."""
        policy = self.tenants.get(tenant)
        return guard_of(self.effective_platform.guard, {} if policy is None else policy.guard)

    def sampling_of(self, tenant: str, labels: Mapping[str, str]) -> int:
        """One packet in so many of an endpoint of the tenant's is sampled; 0: none."""
        policies: list[Policy] = [self.effective_platform]
        if tenant in self.tenants:
            policies.append(self.tenants[tenant])
        return most_frequent([(policy.sampling, policy.groups) for policy in policies], labels)

    def merged(self, other: PolicySet, *, without: Iterable[str] = ()) -> PolicySet:
        """This set with what ``other`` names replaced, and the tenants ``without`` removed."""
        gone = set(without)
        tenants = {name: policy for name, policy in self.tenants.items() if name not in gone}
        return PolicySet(other.platform or self.platform, {**tenants, **other.tenants})


def parse_sources(sources: Iterable[tuple[str, bytes]]) -> PolicySet:
    """Parse policy files. Raises PolicyError with every mistake found, in the order of files and lines."""
    platform: PlatformPolicy | None = None
    tenants: dict[str, TenantPolicy] = {}
    where: dict[str, str] = {}
    problems: list[Problem] = []
    for file, content in sources:
        documents, mistakes = yaml_tree.load(file, content)
        text = content.decode("utf-8", "replace")
        for tree, part in zip(documents, _parts(text, documents), strict=True):
            reader = _Reader(Problems(file), part)
            policy = reader.read(tree)
            mistakes += reader.problems.found
            if policy is None:
                continue
            if policy.name in where:
                place = tree.place
                message = f"{policy.name!r} is described twice"
                mistakes.append(
                    Problem(file, place.line, place.column, message, f"it stands in {where[policy.name]} too")
                )
            where[policy.name] = file
            if isinstance(policy, PlatformPolicy):
                platform = policy
            elif isinstance(policy, TenantPolicy):
                tenants[policy.name] = policy
        problems += sorted(mistakes, key=lambda problem: (problem.line, problem.column))
    if len(problems) > _MAX_PROBLEMS:
        more = f"{len(problems) - _MAX_PROBLEMS:,} more mistakes follow"
        problems[_MAX_PROBLEMS:] = [Problem(problems[-1].file, 0, 0, more, "mend the first ones and try again")]
    if problems:
        raise PolicyError(tuple(problems))
    return PolicySet(platform, tenants)


def _parts(text: str, documents: list[yaml_tree.Mapping]) -> list[str]:
    """The text of each document of a file."""
    if len(documents) < 2:
        return [text for _ in documents]
    lines = text.splitlines(keepends=True)
    starts = [document.place.line - 1 for document in documents]
    ends = [*starts[1:], len(lines)]
    return [
        "".join(line for line in lines[start:end] if line.strip() != "---")
        for start, end in zip(starts, ends, strict=True)
    ]


class _Reader:
    """Reads one document; every mistake goes to ``problems``."""

    def __init__(self, problems: Problems, source: str) -> None:
        self.problems = problems
        self._source = source
        self._services: dict[str, tuple[PortRange, ...]] = {}
        self._groups: dict[str, Group] = {}
        self._places: dict[str, Place] = {}

    def read(self, tree: yaml_tree.Mapping) -> Policy | None:
        if "tenant" in tree.keys:
            return self._tenant(tree)
        if PLATFORM in tree.keys:
            if len(tree.keys) > 1:
                extra = next(key for name, key in tree.keys.items() if name != PLATFORM)
                self.problems.add(extra.place, f"{extra.text!r} does not belong beside 'platform'", "indent it below")
            body = tree.items.get(PLATFORM)
            if isinstance(body, yaml_tree.Mapping):
                return self._platform(body)
            if body is not None:
                self.problems.add(body.place, "'platform' is a mapping", "write its keys below it, indented")
            return None
        close = get_close_matches(next(iter(tree.keys), ""), ("tenant", PLATFORM), 1)
        hint = f"did you mean {close[0]!r}?" if close else "begin with 'tenant: NAME' or 'platform:'"
        self.problems.add(tree.place, "this describes neither a tenant nor the platform", hint)
        return None

    def _tenant(self, tree: yaml_tree.Mapping) -> TenantPolicy | None:
        self._check_keys(tree, TENANT_KEYS)
        name = self._name(tree.items.get("tenant"), "a tenant's name")
        if name == PLATFORM:
            self.problems.add(tree.keys["tenant"].place, "no tenant may be called 'platform'")
        if name is None:
            return None
        self._read_names(tree)
        exported = self._scalars(tree.items.get("exports"))
        exports = frozenset(scalar.text for scalar in exported if self._known(scalar, self._groups, "group"))
        self._places |= {f"exports/{scalar.text}": scalar.place for scalar in exported}
        rules = self._rules(tree.items.get("rules"), name)
        assertions = self._assertions(tree.items.get("assertions"))
        mode = self._mode(tree.items.get("mode"))
        guard = self._guard(tree.items.get("guard"))
        return TenantPolicy(
            name,
            mode,
            self._groups,
            self._services,
            exports,
            rules,
            assertions,
            self._source,
            guard,
            self._overload(tree.items.get("inspection")),
            self._sampling(tree.items.get("sampling")),
            places=self._places,
        )

    def _platform(self, tree: yaml_tree.Mapping) -> PlatformPolicy:
        self._check_keys(tree, PLATFORM_KEYS)
        self._read_names(tree)
        policy = PlatformPolicy(
            mode=self._mode(tree.items.get("mode")),
            groups=self._groups,
            services=self._services,
            exports=frozenset(self._groups),
            rules=self._rules(tree.items.get("rules"), PLATFORM),
            baseline=self._rules(tree.items.get("baseline"), f"{PLATFORM}/baseline", seen=tree.items.get("rules")),
            assertions=self._assertions(tree.items.get("assertions")),
            source=self._source,
            guard=self._guard(tree.items.get("guard")),
            overload=self._overload(tree.items.get("inspection")),
            sampling=self._sampling(tree.items.get("sampling")),
            places=self._places,
        )
        if "networks" in tree.items:
            policy = replace(
                policy, networks=self._networks(tree.items["networks"]), dhcp=self._dhcp(tree.items["networks"])
            )
        if "internal" in tree.items:
            policy = replace(policy, internal=self._prefixes(tree.items["internal"]))
        if "shares" in tree.items:
            policy = replace(policy, shares=self._shares(tree.items["shares"]))
        return policy

    # -- pieces

    def _check_keys(self, tree: yaml_tree.Mapping, allowed: Iterable[str]) -> None:
        for name, key in tree.keys.items():
            if name not in allowed:
                close = get_close_matches(name, allowed, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"the keys here are {', '.join(allowed)}"
                if name in PLATFORM_KEYS and allowed is TENANT_KEYS:
                    hint = "it belongs below 'platform:', in a document of its own"
                elif name in TENANT_KEYS and allowed is PLATFORM_KEYS:
                    hint = "it is a key of a tenant; every tenant may name the platform's groups"
                self.problems.add(key.place, f"{name!r} is not a key here", hint)

    def _name(self, tree: Tree | None, what: str) -> str | None:
        if not isinstance(tree, Scalar):
            if tree is not None:
                self.problems.add(tree.place, f"{what} is expected here")
            return None
        if not _NAME.fullmatch(tree.text) or tree.text in KEYWORDS:
            hint = (
                "a name begins with a letter, has letters, digits, - and _, at most 63, and is no word of the language"
            )
            if " " in tree.text and what != "a tenant's name":
                hint = "if YAML split the line at ': ' or at a comma, put the whole line in quotes"
            elif tree.text in ("allow", "deny"):
                hint = "a rule is one line without a colon: 'allow A to B on tcp/443', or NAME: line"
            self.problems.add(tree.place, f"{tree.text[:64]!r} is not {what}", hint)
            return None
        return tree.text

    def _mode(self, tree: Tree | None) -> Mode:
        if isinstance(tree, Scalar) and tree.text in ("enforce", "audit"):
            return Mode(tree.text)
        if tree is not None:
            self.problems.add(tree.place, "the mode is 'enforce' or 'audit'", "leave it out to enforce")
        return Mode.ENFORCE

    def _overload(self, tree: Tree | None) -> Overload:
        words = [overload.value for overload in Overload]
        if isinstance(tree, Scalar) and tree.text in words:
            return Overload(tree.text)
        if tree is not None:
            hint = "fail-open: what could not be inspected passes and is counted; fail-closed: it does not pass"
            self.problems.add(tree.place, f"inspection is {' or '.join(map(repr, words))}", hint)
        return Overload.FAIL_OPEN

    def _read_names(self, tree: yaml_tree.Mapping) -> None:
        for name, value in self._entries(tree.items.get("services"), "a service"):
            ranges: list[PortRange] = []
            self._places[f"services/{name}"] = value.place
            for scalar in self._scalars(value):
                try:
                    line = grammar.parse_ports(scalar.text)
                except LineError as error:
                    self._line_problem(scalar, error)
                    continue
                if line.services:
                    hint = "write e.g. tcp/5432"
                    self.problems.add(scalar.place, "a service lists ports, not other services", hint)
                ranges += line.ports
            self._services[name] = tuple(ranges)
        for name, value in self._entries(tree.items.get("groups"), "a group"):
            group = self._group(name, value)
            if group is not None:
                self._groups[name] = group
        self._check_group_references()

    def _group(self, name: str, value: Tree) -> Group | None:
        if isinstance(value, Sequence):
            prefixes = self._prefixes(value)
            return Group(name, None, prefixes, "[" + ", ".join(map(str, prefixes)) + "]", value.place)
        if not isinstance(value, Scalar):
            hint = "quote the expression: YAML split it at a colon or a comma"
            if isinstance(value, yaml_tree.Mapping) and all(isinstance(item, Scalar) for item in value.items.values()):
                pairs = [f"{key}={item.text}" for key, item in value.items.items() if isinstance(item, Scalar)]
                hint = f"write {name}: {' and '.join(pairs)}" if pairs else "write e.g. role=web"
            self.problems.add(value.place, f"the group {name!r} is an expression or a list of prefixes", hint)
            return None
        try:
            return Group(name, grammar.parse_expression(value.text), (), value.text, value.place)
        except LineError as error:
            self._line_problem(value, error)
            return None

    def _check_group_references(self) -> None:
        """Refuse unknown groups, circles, and nesting whose evaluation would cost more than its text."""
        sizes: dict[str, int] = {}

        def size(name: str, path: tuple[str, ...]) -> int:
            """The number of facts in the group's expression once the groups in it are written out."""
            if name in sizes:
                return sizes[name]
            sizes[name] = 1  # a mistake below is reported once, wherever the group is used
            group = self._groups[name]
            total = _facts(group)
            for other in _references(group):
                if self._check_reference(group, other, path):
                    total += size(other, (*path, other))
            if total > MAX_FACTS:
                message = f"the group {name!r} has more than {MAX_FACTS:,} facts once the groups in it are written out"
                self.problems.add(group.place, message, "nest groups less")
                total = 1
            sizes[name] = total
            return total

        for name in self._groups:
            size(name, (name,))

    def _check_reference(self, group: Group, other: str, path: tuple[str, ...]) -> bool:
        if other not in self._groups:
            close = get_close_matches(other, self._groups, 1)
            self.problems.add(
                group.place, f"there is no group {other!r}", f"did you mean {close[0]!r}?" if close else ""
            )
        elif self._groups[other].expression is None:
            self.problems.add(group.place, f"{other!r} is a list of prefixes, and an endpoint's labels have none")
        elif other in path:
            circle = " → ".join((*path[path.index(other) :], other))
            self.problems.add(group.place, f"the group {group.name!r} contains itself: {circle}")
        elif len(path) > MAX_NESTING:
            self.problems.add(group.place, f"groups nest deeper than {MAX_NESTING} here", "write the inner ones out")
        else:
            return True
        return False

    def _networks(self, tree: Tree) -> Mapping[str, tuple[Network, ...]]:
        networks: dict[str, tuple[Network, ...]] = {}
        for name, value in self._entries(tree, "a network"):
            pools = value.items.get("pools") if isinstance(value, yaml_tree.Mapping) else None
            if isinstance(value, yaml_tree.Mapping):
                self._check_keys(value, NETWORK_KEYS)
            if pools is None:
                self.problems.add(value.place, f"the network {name!r} has no pools", "write e.g. {pools: [10.0.0.0/8]}")
                continue
            networks[name] = self._prefixes(pools)
            for index, pool in enumerate(networks[name]):
                for other in networks[name][:index]:
                    if pool.version == other.version and pool.overlaps(other):
                        self.problems.add(pools.place, f"the pools {other} and {pool} overlap")
        return networks

    def _dhcp(self, tree: Tree) -> Mapping[str, tuple[str, ...]]:
        if not isinstance(tree, yaml_tree.Mapping):
            return {}  # said already
        named = {
            key: value.items["dhcp"]
            for key, value in tree.items.items()
            if isinstance(value, yaml_tree.Mapping) and "dhcp" in value.items
        }
        return {name: self._servers(servers) for name, servers in named.items()}

    def _servers(self, tree: Tree) -> tuple[str, ...]:
        prefixes = self._prefixes(tree)
        for prefix in prefixes:
            if prefix.prefixlen < prefix.max_prefixlen:
                self.problems.add(tree.place, f"{prefix} is not one address", "name each DHCP server by its address")
        if len(prefixes) > MAX_DHCP_SERVERS:
            message = f"a network has at most {MAX_DHCP_SERVERS} DHCP servers"
            self.problems.add(tree.place, message, "name relays, or put the servers behind one address")
        return tuple(dict.fromkeys(str(prefix.network_address) for prefix in prefixes))

    def _shares(self, tree: Tree) -> Mapping[str, int]:
        shares: dict[str, int] = {}
        for name, value in self._entries(tree, "a tenant"):
            text = value.text if isinstance(value, Scalar) else ""
            if text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= MAX_SHARE:
                shares[name] = int(text)
            else:
                self.problems.add(value.place, f"a share is a whole number from 1 to {MAX_SHARE:,}", f"{name}: 2")
        return shares

    def _guard(self, tree: Tree | None) -> Mapping[GuardKind, Watch]:
        guard: dict[GuardKind, Watch] = {}
        if tree is not None and not isinstance(tree, yaml_tree.Mapping):
            self.problems.add(
                tree.place, "a guard is a mapping of kinds to responses", f"write e.g. {{{KIND_WORDS[0]}: throttle}}"
            )
            return guard
        for word, value in (tree.items if tree is not None else {}).items():
            assert isinstance(tree, yaml_tree.Mapping)
            if word not in KIND_WORDS:
                close = get_close_matches(word, KIND_WORDS, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"the kinds are {', '.join(KIND_WORDS)}"
                self.problems.add(tree.keys[word].place, f"{word[:64]!r} is nothing that a guard recognises", hint)
                continue
            try:
                guard[GuardKind(word)] = parse_watch(GuardKind(word), value.text if isinstance(value, Scalar) else "")
            except ValueError as error:
                what, _, hint = str(error).partition("\n")
                self.problems.add(value.place, what, hint)
        return guard

    def _sampling(self, tree: Tree | None) -> Sampling:
        if tree is None:
            return {}
        if isinstance(tree, Sequence):
            self.problems.add(tree.place, "sampling is a rate, or a mapping of groups to rates", "write e.g. 1/1000")
            return {}
        named = {EVERYBODY: tree} if isinstance(tree, Scalar) else tree.items
        sampling: dict[str, int] = {}
        for name, value in named.items():
            if name != EVERYBODY and not self._can_be_sampled(name, tree):
                continue
            try:
                sampling[name] = parse_sampling_rate(value.text if isinstance(value, Scalar) else "")
            except ValueError as error:
                what, _, hint = str(error).partition("\n")
                self.problems.add(value.place, what, hint)
        return sampling

    def _can_be_sampled(self, name: str, tree: Tree) -> bool:
        assert isinstance(tree, yaml_tree.Mapping)
        place = tree.keys[name].place
        if name not in self._groups:
            close = get_close_matches(name, [*self._groups, EVERYBODY], 1)
            hint = f"did you mean {close[0]!r}?" if close else f"name a group of this file, or {EVERYBODY}"
            self.problems.add(place, f"there is no group {name[:64]!r}", hint)
        elif self._groups[name].expression is None:
            hint = "name a group that is an expression of labels"
            self.problems.add(place, f"{name!r} is a list of prefixes, and what is sampled are endpoints", hint)
        else:
            return True
        return False

    def _prefixes(self, tree: Tree) -> tuple[Network, ...]:
        prefixes: list[Network] = []
        for scalar in self._scalars(tree):
            try:
                prefixes.append(grammar.parse_network(scalar.text))
            except ValueError as error:
                hint = "write e.g. 10.0.0.0/24, 192.0.2.7 or 2001:db8::/48"
                if "=" in scalar.text:
                    hint = "a label expression stands without brackets"
                self.problems.add(scalar.place, str(error), hint)
        return tuple(prefixes)

    def _entries(self, tree: Tree | None, what: str) -> list[tuple[str, Tree]]:
        if tree is None:
            return []
        if not isinstance(tree, yaml_tree.Mapping):
            self.problems.add(tree.place, "a mapping of names is expected here", "write NAME: value, without '- '")
            return []
        names = [(self._name(tree.keys[key], f"{what}'s name"), value) for key, value in tree.items.items()]
        return [(name, value) for name, value in names if name is not None]

    def _scalars(self, tree: Tree | None) -> list[Scalar]:
        if tree is None:
            return []
        if isinstance(tree, Scalar):
            return [tree]
        if isinstance(tree, yaml_tree.Mapping):
            self.problems.add(tree.place, "a value or a list is expected here", "quote it if it holds a colon")
            return []
        for item in tree.items:
            if not isinstance(item, Scalar):
                self.problems.add(item.place, "a single value is expected here")
        return [item for item in tree.items if isinstance(item, Scalar)]

    def _known(self, scalar: Scalar, names: Iterable[str], what: str) -> bool:
        if scalar.text in names:
            return True
        close = get_close_matches(scalar.text, list(names), 1)
        self.problems.add(
            scalar.place, f"there is no {what} {scalar.text!r}", f"did you mean {close[0]!r}?" if close else ""
        )
        return False

    def _line_problem(self, scalar: Scalar, error: LineError) -> None:
        self.problems.add(scalar.inner, error.message, error.hint, offset=error.column - 1)

    # -- lines

    def _rules(self, tree: Tree | None, owner: str, seen: Tree | None = None) -> tuple[Rule, ...]:
        if tree is not None and not isinstance(tree, Sequence):
            self.problems.add(tree.place, "rules are a list", "begin each with '- '")
            return ()
        rules: dict[str, Rule] = {}
        for item in tree.items if tree else ():
            name, scalar = self._rule_item(item)
            if scalar is None:
                continue
            line = self._line(scalar, grammar.parse_rule)
            if line is None:
                continue
            identifier = f"{owner}/{name}" if name else f"{owner}/~{_digest(line)}"
            if identifier in rules:
                other = rules[identifier].place.line
                what = f"the rule {name!r} stands twice" if name else "this rule says what another says already"
                self.problems.add(scalar.place, what, f"see line {other}")
                continue
            rules[identifier] = Rule(
                identifier,
                Action(line.head),
                line.source,
                line.destination,
                line.ports,
                line.options,
                scalar.text,
                scalar.place,
            )
        return tuple(rules.values())

    def _rule_item(self, item: Tree) -> tuple[str, Scalar | None]:
        if isinstance(item, Scalar):
            return "", item
        if isinstance(item, yaml_tree.Mapping) and len(item.items) == 1:
            key = next(iter(item.items))
            name = self._name(item.keys[key], "a rule's name")
            value = item.items[key]
            if isinstance(value, Scalar):
                return name or "", value if name else None
        self.problems.add(item.place, "a rule is one line, or NAME: line", "quote the line if it holds ': '")
        return "", None

    def _assertions(self, tree: Tree | None) -> tuple[Assertion, ...]:
        found: list[Assertion] = []
        for scalar in self._scalars(tree):
            line = self._line(scalar, grammar.parse_assertion)
            if line is not None:
                always = line.head == "always"
                found.append(Assertion(always, line.source, line.destination, line.ports, scalar.text, scalar.place))
        return tuple(found)

    def _line(self, scalar: Scalar, parse: object) -> grammar.Line | None:
        if len(self.problems.found) > _MAX_PROBLEMS:
            return None  # nobody reads further mistakes, and a refused line is the dearest to parse
        try:
            line: grammar.Line = parse(scalar.text)  # type: ignore[operator]
        except LineError as error:
            self._line_problem(scalar, error)
            return None
        good = True
        for side in (line.source, line.destination):
            for peer in (*side.peers, *side.excluded):
                good &= self._check_peer(peer, scalar)
        ports = list(line.ports)
        for service in line.services:
            if service not in self._services:
                good = self._unknown(scalar, service, "service", self._services)
            else:
                ports += self._services[service]
        return replace(line, ports=_canonical(ports), services=()) if good else None

    def _check_peer(self, peer: Peer, scalar: Scalar) -> bool:
        if peer.kind is PeerKind.GROUP and peer.name not in self._groups:
            return self._unknown(scalar, peer.name, "group", self._groups)
        return True

    def _unknown(self, scalar: Scalar, name: str, what: str, names: Iterable[str]) -> bool:
        found = re.search(rf"(?<![\w/-]){re.escape(name)}(?![\w/-])", scalar.text)
        close = get_close_matches(name, list(names), 1)
        known = hint_for_peer(name) if what == "group" else hint_for_service(name)
        hint = known or (f"did you mean {close[0]!r}?" if close else f"define it under '{what}s:'")
        self.problems.add(scalar.inner, f"there is no {what} {name!r}", hint, offset=found.start() if found else 0)
        return False


def _facts(group: Group) -> int:
    count, stack = 0, [group.expression] if group.expression else []
    while stack:
        count += 1
        stack += stack.pop().parts
    return count


def _references(group: Group) -> list[str]:
    names: list[str] = []
    stack = [group.expression] if group.expression else []
    while stack:
        expression = stack.pop()
        if expression.match.value == "group":
            names.append(expression.key)
        stack += expression.parts
    return names


def _canonical(ports: Iterable[PortRange]) -> tuple[PortRange, ...]:
    """Sorted and without repeats; empty when every port is meant."""
    unique = sorted(set(ports))
    return () if ANY_PORT in unique else tuple(unique)


def _digest(line: grammar.Line) -> str:
    """The name of an unnamed rule: what it does, without its options, whatever the order of peers and ports."""

    def side(value: Side) -> str:
        return ",".join(sorted(map(str, value.peers))) + "!" + ",".join(sorted(map(str, value.excluded)))

    ports = ",".join(f"{port.protocol}:{port.first}-{port.last}" for port in line.ports)
    text = f"{line.head}|{side(line.source)}|{side(line.destination)}|{ports}"
    return hashlib.sha256(text.encode()).hexdigest()[:10]


__all__ = ["Mode", "Place", "PlatformPolicy", "Policy", "PolicySet", "TenantPolicy", "parse_sources"]
