"""What may happen to a definition, as changes of its document (spec/clustering.md 5, DESIGN.md 4).

Owns phases and parts; refuses to know what a part is made of, and to wait (`keeper.py` does)."""

import uuid
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

import msgspec

from lxdnode.node.cluster.records import MEMBERS
from lxdnode.node.cluster.rules import members, name_of
from lxdnode.node.definitions.records import D, Noun, Part
from lxdnode.node.documents import Draft, View
from lxdnode.node.errors import Invalid, NodeError, NotFound

T = TypeVar("T")


def serving(view: View) -> list[int]:
    """The numbers of the members that serve."""
    return [member.number for member in members(view)]


def concerned(view: View) -> list[int]:
    """The numbers of the members that have a part of each definition: those that are joining as well."""
    return sorted(member.number for _id, member in view.all(MEMBERS) if member.phase != "removed")


def define(noun: Noun[D], draft: Draft, fresh: D, member: int, config: Mapping[str, str]) -> None:
    """Names a member for a definition that a later request creates. `fresh` is used when it is the first one."""
    for key in sorted(config):
        if (declared := noun.keys.find(key)) is None or not declared.member:
            raise NodeError(f"Config key '{key}' may not be used as node-specific key")
    id = draft.find(noun.kind, fresh.name)
    record = fresh if id is None else draft.get(noun.table, id)
    assert record is not None
    if record.phase != "defined":
        raise NodeError(noun.words.not_pending)
    if str(member) in record.parts:
        raise Invalid(noun.words.twice.format(member=name_of(draft, member)))
    id = id or _name(noun, draft, fresh.name)
    parts = {**record.parts, str(member): Part(config=dict(config))}
    draft.put(noun.table, id, msgspec.structs.replace(record, parts=parts))


def begin(noun: Noun[D], draft: Draft, fresh: D, me: int) -> str:
    """Has every member make its part: of what was defined for all of them, or in one step; returns the id.

    `fresh.config` may have member keys only where there is one member."""
    present = serving(draft)
    own = noun.keys.member_keys(fresh.config)
    if len(present) > 1 and own:
        raise NodeError(f"Config key '{min(own)}' is node-specific")
    id = draft.find(noun.kind, fresh.name)
    parts = {str(number): Part() for number in concerned(draft)}
    if id is not None:
        parts |= _defined_parts(noun, draft, id)
    else:
        id = _name(noun, draft, fresh.name)
    if own:
        parts[str(me)] = Part(config=own)
    shared = {key: value for key, value in fresh.config.items() if key not in own}
    draft.put(noun.table, id, msgspec.structs.replace(fresh, config=shared, phase="creating", parts=parts))
    return id


def _defined_parts(noun: Noun[D], draft: Draft, id: str) -> dict[str, Part]:
    record = draft.get(noun.table, id)
    if record is None or record.phase != "defined":
        raise Invalid(noun.words.taken)
    missing = [name_of(draft, number) for number in serving(draft) if str(number) not in record.parts]
    if missing:
        raise NodeError(noun.words.missing.format(members=", ".join(missing)))
    return dict(record.parts)


def _name(noun: Noun[D], draft: Draft, name: str) -> str:
    id = str(uuid.uuid4())
    draft.name(noun.kind, name, id, noun.words.taken)
    return id


def report(noun: Noun[D], draft: Draft, id: str, member: int, part: Part) -> None:
    """Writes what a member did for its part; nothing when the definition is gone, or the part is as it was."""
    record = draft.get(noun.table, id)
    if record is None or record.parts.get(str(member)) == part:
        return
    parts = {**record.parts, str(member): part}
    draft.put(noun.table, id, msgspec.structs.replace(record, parts=parts))


def finish(noun: Noun[D], draft: Draft, id: str, reachable: Collection[int]) -> dict[str, str]:
    """Ends the creation: created, or deleting when a member failed; returns the reasons by member name.

    Members that cannot be reached are not waited for, and one that has not reported is taken as such."""
    record = draft.get(noun.table, id)
    if record is None or record.phase != "creating":
        return {}
    failed = failures(record, draft, reachable)
    if failed:
        condemn(noun, draft, id)
    else:
        draft.put(noun.table, id, msgspec.structs.replace(record, phase="created"))
    return failed


def failures(record: D, view: View, concerned: Collection[int]) -> dict[str, str]:
    """Why members failed at the newest version, by member name."""
    return {
        name_of(view, int(number)): part.reason
        for number, part in sorted(record.parts.items())
        if int(number) in concerned and part.seen == record.version and part.reason
    }


def is_reported(record: D, concerned: Collection[int]) -> bool:
    """Whether each of these members has acted upon the newest version."""
    return all(record.part(number).seen == record.version for number in concerned)


def change(noun: Noun[D], draft: Draft, id: str, description: str, config: Mapping[str, str], acts: bool) -> D:
    """Gives a definition another configuration (without member keys); `acts`: members have something to do for it."""
    record = draft.get(noun.table, id)
    if record is None:
        raise NotFound
    changed = msgspec.structs.replace(
        record, description=description, config=dict(config), version=record.version + (1 if acts else 0)
    )
    if changed != record:
        draft.put(noun.table, id, changed)
    return changed


def condemn(noun: Noun[D], draft: Draft, id: str) -> None:
    """Has every member remove its part. The name is free at once; what was only defined is gone at once."""
    record = draft.get(noun.table, id)
    if record is None or record.phase == "deleting":
        return
    draft.unname(noun.kind, record.name)
    if record.phase == "defined":
        draft.delete(noun.table, id)
        return
    # Members without a part are asked as well: one may have been stopped between making it and saying so.
    parts = {str(number): record.part(number) for number in concerned(draft)}
    condemned = msgspec.structs.replace(record, phase="deleting", version=record.version + 1, parts=parts)
    draft.put(noun.table, id, condemned)


def forget(noun: Noun[D], draft: Draft, id: str, member: int | None) -> None:
    """Drops the part that a member has removed, and those of members that were removed from the cluster; the
    definition goes with the last one."""
    record = draft.get(noun.table, id)
    if record is None or record.phase != "deleting":
        return
    left = {str(number) for number in concerned(draft) if number != member}
    parts = {number: part for number, part in record.parts.items() if number in left}
    if not parts:
        draft.delete(noun.table, id)
    elif parts != record.parts:
        draft.put(noun.table, id, msgspec.structs.replace(record, parts=parts))


def locations(record: D, view: View) -> list[str]:
    """The names of the members for which it is defined, sorted."""
    known = [number for number in serving(view) if record.phase != "defined" or str(number) in record.parts]
    return sorted(name_of(view, number) for number in known)


def status(record: D) -> str:
    """LXD's word for the state of the whole: `Unknown` is how an errored one reads."""
    if record.phase in ("defined", "creating"):
        return "Pending"
    errored = any(part.state == "errored" for part in record.parts.values())
    return "Unknown" if errored or record.phase == "deleting" else "Created"


# Members that come and go.


def shared(noun: Noun[D], view: View) -> dict[str, D]:
    """Name -> definition of all that a joining member must have."""
    return {record.name: record for _id, record in view.all(noun.table) if record.phase in ("creating", "created")}


def add_member(noun: Noun[D], draft: Draft, number: int, values: Callable[[str], Mapping[str, str]]) -> None:
    """Gives a joining member its part of every definition, with the member keys that `values(name)` has for it."""
    for id, record in list(draft.all(noun.table)):
        if record.phase in ("creating", "created"):
            given = {key: value for key, value in values(record.name).items() if value}
            part = Part(config=noun.keys.member_keys(given))
            parts = {**record.parts, str(number): part}
            draft.put(noun.table, id, msgspec.structs.replace(record, parts=parts))


def remove_member(noun: Noun[D], draft: Draft, number: int) -> None:
    """Drops the parts of a member that leaves; what only it still had to remove is gone."""
    for id, record in list(draft.all(noun.table)):
        parts = {one: part for one, part in record.parts.items() if one != str(number)}
        if not parts and record.phase == "deleting":
            draft.delete(noun.table, id)
        elif parts != record.parts:
            draft.put(noun.table, id, msgspec.structs.replace(record, parts=parts))


def set_own(noun: Noun[D], draft: Draft, id: str, member: int, config: Mapping[str, str]) -> None:
    """Gives a member its member keys."""
    record = draft.get(noun.table, id)
    if record is not None and record.part(member).config != config:
        part = msgspec.structs.replace(record.part(member), config=dict(config))
        draft.put(noun.table, id, msgspec.structs.replace(record, parts={**record.parts, str(member): part}))
