"""What may be written into the server's configuration, and how (spec/rest.md 2, spec/config-keys.md 2)."""

from collections.abc import Mapping

from lxdnode.drivers.config.key import InvalidKey
from lxdnode.node.documents import Draft, View
from lxdnode.node.errors import Invalid
from lxdnode.node.server.keys import ADDRESS, CLUSTER_ADDRESS, PASSWORD, SERVER_KEYS, covers, is_wildcard, normalise
from lxdnode.node.server.records import CLUSTER, SETTINGS, Setting, member_group

Values = Mapping[str, object]


def effective(view: View, member: int) -> dict[str, str]:
    """The configuration of a member: the cluster's keys and its own, without those at their default."""
    shared = {name: setting.value for name, setting in view.all(SETTINGS, CLUSTER)}
    own = {name: setting.value for name, setting in view.all(SETTINGS, member_group(member))}
    return shared | own


def value_of(view: View, member: int, name: str) -> str:
    """The value of one key for a member, or its default."""
    key = SERVER_KEYS.find(name)
    assert key is not None, name
    setting = view.get(SETTINGS, name, member_group(member) if key.member else CLUSTER)
    return setting.value if setting else key.default


def check(values: Values, hashed: str) -> dict[str, str]:
    """The values of a request as they are stored. `hashed` is the hash of its trust password, if it has one.

    Invalid with the words of the first wrong key by name, and how many more there are."""
    stored: dict[str, str] = {}
    errors: list[str] = []
    for name in sorted(values):
        try:
            stored[name] = _check_one(name, values[name], hashed)
        except InvalidKey as error:
            errors.append(str(error))
    if errors:
        more = f" (and {len(errors) - 1} more errors)" if len(errors) > 1 else ""
        raise Invalid(errors[0] + more)
    return {name: value for name, value in stored.items() if name != PASSWORD or values[name] is not True}


_KINDS = {bool: "bool", int: "float64", float: "float64", dict: "map", list: "slice"}


def _check_one(name: str, value: object, hashed: str) -> str:
    if name == PASSWORD and value is True:
        return ""
    text = "" if value is None else value
    if not isinstance(text, str):
        raise InvalidKey(f"cannot set '{name}': invalid type {_KINDS.get(type(value), type(value).__name__)}")
    try:
        SERVER_KEYS.check(name, text)
    except InvalidKey as error:
        raise InvalidKey(f"cannot set '{name}' to '{text}': {error}") from None
    if name == PASSWORD:
        return hashed if text else ""
    return normalise(name, text)


def change(draft: Draft, member: int, values: Values, hashed: str, replace: bool) -> set[str]:
    """Writes the configuration: all of it (PUT: an absent key goes back to its default), or the given keys (PATCH).

    Returns the names of the keys that changed."""
    stored = check(values, hashed)
    kept = PASSWORD if values.get(PASSWORD) is True else None
    current = effective(draft, member)
    if replace:
        stored |= {name: "" for name in current if name not in stored and name != kept}
    changed = {
        name for name, value in stored.items() if value != current.get(name, "") and _differs(name, value, current)
    }
    for name in changed:
        _write(draft, member, name, stored[name])
    return changed


def advertised(config: Mapping[str, str]) -> str:
    """The address that other members reach this one at, from its effective configuration. Invalid for none, and for a
    wildcard."""
    address = config.get(CLUSTER_ADDRESS) or config.get(ADDRESS, "")
    if not address:
        raise Invalid("no core.https_address config is set on this node")
    if is_wildcard(address):
        raise Invalid(
            f"the address {address} is one that other members cannot reach: "
            "set core.https_address or cluster.https_address to this member's own address"
        )
    return address


def listened(config: Mapping[str, str]) -> tuple[str, ...]:
    """The addresses to listen on, from an effective configuration: the API's, and the cluster's if that is another."""
    address, own = config.get(ADDRESS, ""), config.get(CLUSTER_ADDRESS, "")
    if not own or (address and covers(address, own)):
        return (address,) if address else ()
    return (address, own) if address else (own,)


def _differs(name: str, value: str, current: Mapping[str, str]) -> bool:
    key = SERVER_KEYS.find(name)
    assert key is not None
    return (value or key.default) != (current.get(name) or key.default)


def _write(draft: Draft, member: int, name: str, value: str) -> None:
    key = SERVER_KEYS.find(name)
    assert key is not None
    group = member_group(member) if key.member else CLUSTER
    if value in ("", key.default):
        draft.delete(SETTINGS, name, group)
    else:
        draft.put(SETTINGS, name, Setting(value=value), group)
