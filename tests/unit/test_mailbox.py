# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading

import pytest

from perception_node.mailbox import Mailboxes, Taken


def oldest_slot(items):
    return min(items)


def read_all(mailboxes, taken, choose=oldest_slot):
    while (one := mailboxes.take(choose)) is not None:
        taken.append(one)


class Tokens:
    """Says when the reader is about to wait."""

    def __init__(self, tokens):
        self.put = tokens.put
        self.waits = threading.Event()
        self._get = tokens.get

    def get(self):
        self.waits.set()
        return self._get()


def waiting_reader(mailboxes, taken):
    """Start a thread that reads one item; return it once it waits for one."""
    mailboxes._tokens = tokens = Tokens(mailboxes._tokens)
    reader = threading.Thread(target=lambda: taken.append(mailboxes.take(oldest_slot)))
    reader.start()
    assert tokens.waits.wait(5)
    return reader


def test_the_newest_item_wins():
    mailboxes = Mailboxes()
    assert [mailboxes.put(0, item) for item in "abc"] == [0, 1, 1]
    assert mailboxes.take(oldest_slot) == Taken(0, "c", ())
    assert mailboxes.put(0, "d") == 0
    assert mailboxes.take(oldest_slot) == Taken(0, "d", ())


def test_slots_do_not_replace_each_other():
    mailboxes = Mailboxes()
    assert [mailboxes.put(slot, item) for slot, item in ((0, "a"), (1, "b"), (0, "c"))] == [
        0,
        0,
        1,
    ]
    assert mailboxes.take(max) == Taken(1, "b", (0,))
    assert mailboxes.take(max) == Taken(0, "c", ())


def test_it_is_chosen_among_all_that_wait():
    mailboxes, seen = Mailboxes(), []
    for slot, item in ((2, "c"), (0, "a"), (1, "b")):
        mailboxes.put(slot, item)

    def choose(items):
        seen.append(dict(items))
        return 2

    assert mailboxes.take(choose) == Taken(2, "c", (0, 1))
    assert seen == [{0: "a", 1: "b", 2: "c"}]


def test_a_closed_mailbox_takes_nothing_and_gives_nothing():
    mailboxes = Mailboxes()
    mailboxes.put(1, "a")
    mailboxes.put(3, "b")
    assert mailboxes.close() == (1, 3)
    assert mailboxes.close() == ()
    assert mailboxes.put(0, "c") == 1
    assert mailboxes.take(oldest_slot) is None
    assert mailboxes.take(oldest_slot) is None
    assert mailboxes.close() == ()


def test_a_choice_that_fails_loses_no_item():
    mailboxes = Mailboxes()
    mailboxes.put(0, "a")
    with pytest.raises(ZeroDivisionError):
        mailboxes.take(lambda _items: 1 // 0)
    assert mailboxes.take(oldest_slot) == Taken(0, "a", ())


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (lambda mailboxes: mailboxes.put(5, "item"), Taken(5, "item", ())),
        (lambda mailboxes: mailboxes.close(), None),
    ],
)
def test_a_waiting_reader_is_woken(act, expected):
    mailboxes, taken = Mailboxes(), []
    reader = waiting_reader(mailboxes, taken)
    assert taken == []
    act(mailboxes)
    reader.join(5)
    assert taken == [expected]


@pytest.mark.timeout(30)
def test_every_item_of_a_storm_is_taken_or_replaced():
    mailboxes, slots, items = Mailboxes(), 3, 5000
    replaced, taken = [0] * slots, []

    def write(slot):
        for number in range(items):
            replaced[slot] += mailboxes.put(slot, number)

    reader = threading.Thread(target=read_all, args=(mailboxes, taken), daemon=True)
    threads = [threading.Thread(target=write, args=(slot,)) for slot in range(slots)]
    reader.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    thrown_away = mailboxes.close()
    reader.join(10)
    assert not reader.is_alive()
    for slot in range(slots):  # each slot's items arrive in order, none twice, none lost
        numbers = [one.item for one in taken if one.slot == slot]
        assert numbers == sorted(set(numbers))
        assert len(numbers) + replaced[slot] + thrown_away.count(slot) == items
    assert all(one.slot not in one.waiting for one in taken)
