"""The answers of transactions: what a plain dictionary would say, in a fifth of the room."""

import tracemalloc
import uuid

from hypothesis import given
from hypothesis import strategies as st

from lxdnode.raft.answers import Answer, Answers
from lxdnode.raft.transaction import Conflict, Expect

_KEPT = 5
_ids = st.one_of(
    st.integers(0, 30).map(lambda number: str(uuid.UUID(int=number << 64, version=4))),
    st.sampled_from(["", "one", "an id of thirty-six characters, too.", "ä" * 18, "x" * 100]),
)
_steps = st.lists(st.tuples(_ids, st.integers(0, 3), st.booleans()), max_size=40)


@given(_steps)
def test_answers_are_what_was_added_within_the_window(steps: list[tuple[str, int, bool]]) -> None:
    answers, model, index = Answers(), dict[str, tuple[int, Answer]](), 100
    for identity, further, refused in steps:
        index += further
        first = index - _KEPT
        known = model.get(identity, (0, 0))
        assert answers.get(identity, first) == (known[1] if known[0] >= first else None)
        if known[0] < first:
            answer = Conflict(index, Expect("t", "g", "n", 1)) if refused else index
            model[identity] = (index, answer)
            answers = answers.add(identity, index, answer, first)
    kept = {identity: answer for identity, (given, answer) in model.items() if given >= index - _KEPT}
    rows = [row for row in answers.rows(index - _KEPT, index) if row is not None]
    assert {identity: answer for _, row in rows for identity, answer in row} == kept
    assert [at for at, _ in rows] == sorted({model[identity][0] for identity in kept})
    read = Answers.of(rows)
    assert all(read.get(identity, index - _KEPT) == answers.get(identity, index - _KEPT) for identity in model)


def test_what_is_old_makes_room() -> None:
    answers = Answers()
    for index in range(40_000):
        answers = answers.add(str(uuid.UUID(int=index, version=4)), index, index, index - 10_000)
    assert sum(map(len, answers.buckets.values())) < 44 * 20_000
    assert len([row for row in answers.rows(30_000, 39_999) if row is not None]) == 10_000


def test_an_answer_takes_little_room() -> None:
    tracemalloc.start()
    answers = Answers()
    for index in range(20_000):
        answers = answers.add(str(uuid.uuid4()), index, index, 0)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used / 20_000 < 80
