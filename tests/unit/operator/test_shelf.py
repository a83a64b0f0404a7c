"""The newest version of each object, whatever order news of it comes in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tortie.api.kubernetes import Namespace
from tortie.operator.shelf import Shelf

from .things import namespace


def shelf(*objects: Namespace, version: int = 0) -> Shelf[Namespace]:
    made: Shelf[Namespace] = Shelf()
    made.replace({obj.metadata.key: obj for obj in objects}, version)
    return made


def version(of: Shelf[Namespace], key: str = "a") -> int:
    found = of.get(key)
    return found.metadata.version if found else 0


def test_an_older_version_is_no_news() -> None:
    known = shelf(namespace("a", version=5), version=5)
    assert not known.put(namespace("a", version=4))
    assert not known.put(namespace("a", version=5))
    assert known.put(namespace("a", version=6))
    assert version(known) == 6
    assert known.newest == 6


def test_what_we_deleted_does_not_come_back_with_an_older_event() -> None:
    known = shelf(namespace("a", version=5), version=5)
    known.remove(known.get("a") or namespace("a"))
    assert not known.put(namespace("a", version=5), told=True)
    assert "a" not in known
    assert not known.gone("a", 8)
    assert known.put(namespace("a", version=9), told=True)


def test_what_a_watch_said_is_gone_does_not_come_back_with_a_late_answer() -> None:
    """Our own write (6) is answered after the watch has told of the deletion that came after it (7)."""
    known = shelf(namespace("a", version=5), version=5)
    assert known.put(namespace("a", version=6), told=True)
    assert known.gone("a", 7)
    assert not known.put(namespace("a", version=6))
    assert "a" not in known


def test_the_deletion_of_an_earlier_life_does_not_bring_back_a_later_one() -> None:
    known = shelf(namespace("a", version=5), version=5)
    known.put(namespace("a", version=8))  # deleted by someone at 6, made anew by us
    known.remove(known.get("a") or namespace("a"))  # and deleted by us
    assert not known.gone("a", 6)
    assert not known.put(namespace("a", version=8), told=True)
    assert "a" not in known


def test_a_deletion_of_an_earlier_life_leaves_the_later_one() -> None:
    known = shelf(namespace("a", version=5), version=5)
    known.put(namespace("a", version=8))
    assert not known.gone("a", 6)
    assert version(known) == 8


def test_a_list_ahead_of_the_watch_is_not_undone_by_it() -> None:
    """A new leader's fresh list: what it does not name is gone, although the watch still has to tell of its birth."""
    known = shelf(version=1)
    assert known.replace({"b": namespace("b", version=9)}, 10) == {"b"}
    assert not known.put(namespace("a", version=5), told=True)
    assert not known.gone("a", 7)
    assert known.keys() == {"b"}
    assert known.put(namespace("a", version=11), told=True)


def test_a_list_behind_what_is_known_takes_nothing_newer_away() -> None:
    known = shelf(namespace("a", version=2), version=2)
    known.put(namespace("a", version=8))
    known.put(namespace("b", version=9))
    assert known.replace({"a": namespace("a", version=2)}, 7) == set()
    assert (version(known, "a"), version(known, "b")) == (8, 9)


Event = tuple[str, int, bool]
"""(key, version, whether it is a deletion)."""


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """All that happens to a kind, in order."""
    events: list[Event] = []
    there: set[str] = set()
    for at in range(2, draw(st.integers(2, 12)) + 2):
        key = draw(st.sampled_from("ab"))
        deleted = key in there and draw(st.booleans())
        events.append((key, at, deleted))
        (there.discard if deleted else there.add)(key)
    return events


def truth(history: list[Event], at: int) -> dict[str, int]:
    """Key → version of what is there at some version of the API server."""
    found: dict[str, int] = {}
    for key, event, deleted in history:
        if event <= at:
            found[key] = event
            if deleted:
                del found[key]
    return found


@given(histories(), st.data())
def test_in_the_end_is_the_truth_whatever_came_in_between(history: list[Event], data: st.DataObject) -> None:
    """A watch tells all from a list on, in order. In between come, in any order and of any age: answers to reads and
    writes, complete lists, and answers to our deletions of the version that we know."""
    last = history[-1][1]
    start = data.draw(st.integers(1, last), "listed at")
    known = shelf(*(namespace(key, version=v) for key, v in truth(history, start).items()), version=start)
    for key, event, deleted in [each for each in history if each[1] > start]:
        for _ in range(data.draw(st.integers(0, 2), "answers in between")):
            there = truth(history, data.draw(st.integers(1, last), "as of"))
            match data.draw(st.sampled_from(["read", "list", "deletion"]), "what"):
                case "read" if there:
                    name = data.draw(st.sampled_from(sorted(there)), "of")
                    known.put(namespace(name, version=there[name]))
                case "list":
                    at = data.draw(st.integers(1, last), "version")
                    known.replace({k: namespace(k, version=v) for k, v in truth(history, at).items()}, at)
                case "deletion":
                    for name, gone, _ in (each for each in history if each[2]):
                        if version(known, name) == truth(history, gone - 1)[name]:
                            known.remove(namespace(name, version=truth(history, gone - 1)[name]))
                            break
        if deleted:
            known.gone(key, event)
        else:
            known.put(namespace(key, version=event), told=True)
        versions = {obj.metadata.name: obj.metadata.version for obj in known}
        assert all(version > event or truth(history, event).get(name) == version for name, version in versions.items())
    assert {obj.metadata.name: obj.metadata.version for obj in known} == truth(history, last)
