"""docs/reference/api.md: its table of roles and actions is what the policy decides."""

from pathlib import Path

from hostward.controller.access import Action, Authentication, Principal, Role, scope_of
from hostward.errors import AccessError

REFERENCE = Path(__file__).parents[4] / "docs" / "reference" / "api.md"


def cell(role, action):
    tenants = frozenset({"t"}) if role.of_tenants else frozenset()
    try:
        scope = scope_of(Principal("x", Authentication.TOKEN, role, tenants), action)
    except AccessError:
        return "–"  # noqa: RUF001 (the table's sign)
    return "all" if scope.tenants is None else "own"


def test_the_table_is_the_policy():
    made = [f"| `{action.value}` | {' | '.join(cell(role, action) for role in Role)} |" for action in Action]
    heading = f"| action | {' | '.join(f'`{role.value}`' for role in Role)} |"
    written = [line for line in REFERENCE.read_text().splitlines() if line.startswith("| ")]
    assert written[written.index(heading) + 1 :] == made
