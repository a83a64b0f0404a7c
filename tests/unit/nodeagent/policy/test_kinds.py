"""Sets of kinds against sets of numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tortie.api.compiled import ICMP
from tortie.nodeagent.policy import kinds
from tortie.nodeagent.policy.kinds import ALL, NONE, SIZES, KindSet, partition

port = st.integers(1, 65535)
text = st.one_of(port.map(str), st.tuples(port, port).map(lambda pair: f"{min(pair)}:{max(pair)}"), st.just("http"))
sets = st.one_of(
    st.builds(kinds.of_ports, st.lists(text, max_size=3), st.lists(st.tuples(st.sampled_from([6, 17, 47]), port))),
    st.integers(1, 255).map(kinds.of_protocol),
    st.builds(ICMP, type=st.integers(0, 255), code=st.one_of(st.none(), st.integers(0, 255))).map(kinds.of_icmp),
    st.just(ALL),
    st.just(NONE),
)


def has(kind: KindSet, row: int, number: int) -> bool:
    return any(first <= number <= last for first, last in kind.rows[row])


def points(*some: KindSet) -> set[tuple[int, int]]:
    """Where membership may change, and beside it."""
    found = {(row, end) for row, size in enumerate(SIZES) for end in (0, size - 1)}
    for each in some:
        for row, spans in enumerate(each.rows):
            near = {n + d for span in spans for n in span for d in (-1, 0, 1)}
            found |= {(row, n) for n in near if 0 <= n < SIZES[row]}
    return found


@given(sets, sets)
def test_they_are_joined_cut_and_taken_away_as_sets_are(one: KindSet, other: KindSet) -> None:
    for at in points(one, other):
        assert has(one | other, *at) == (has(one, *at) or has(other, *at))
        assert has(one & other, *at) == (has(one, *at) and has(other, *at))
        assert has(one - other, *at) == (has(one, *at) and not has(other, *at))
    assert bool(one) == any(has(one, *at) for at in points(one))


@given(st.lists(sets, max_size=4))
def test_a_partition_covers_everything_once_and_tells_in_which_sets_it_is(some: list[KindSet]) -> None:
    at = [0] * len(SIZES)
    for row, (first, last), found in partition(some):
        assert first == at[row] <= last
        at[row] = last + 1
        for number in (first, (first + last) // 2, last):
            assert found == {each for each in some if has(each, row, number)}
    assert tuple(at) == SIZES


def test_a_port_has_no_protocol_and_a_name_has() -> None:
    assert kinds.of_ports(["80"], []).rows == (((80, 80),),) * 3 + ((),) * 3
    assert kinds.of_ports(["http"], [(17, 53), (47, 5)]).rows == ((), ((53, 53),), (), (), (), ())
    assert kinds.of_icmp(ICMP(type=8, code=1)).rows == ((), (), (), ((2049, 2049),), ((2049, 2049),), ())
    assert kinds.of_icmp(ICMP(type=3)).rows[3] == ((768, 1023),)


def test_equal_sets_are_equal_values() -> None:
    one = kinds.of_ports(["1:10"], []) | kinds.of_ports(["11:20"], [])
    assert one == kinds.of_ports(["1:20"], [])
    assert hash(one) == hash(kinds.of_ports(["1:20"], []))
