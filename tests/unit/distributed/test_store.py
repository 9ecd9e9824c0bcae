"""What torch.distributed asks of a store, over the signed table."""

import threading

import pytest
from torch.distributed import PrefixStore

from hpcfast.distributed import store
from hpcfast.distributed.store import TableStore
from hpcfast.distributed.table import Client, Server, Table

KEY = b"k" * 32


@pytest.fixture
def stores() -> tuple[TableStore, TableStore]:
    """Those of two ranks."""
    servers = Server(), Server()
    port = servers[0].listen(Table(KEY).answer, ["127.0.0.1"], 0)
    one, other = (TableStore(Client(KEY, "127.0.0.1", port), server) for server in servers)
    return one, other


def test_an_entry_of_one_rank_is_there_for_all(stores: tuple[TableStore, TableStore]) -> None:
    """Through torch's own prefixes, as its groups use them."""
    one, other = (PrefixStore("group", each) for each in stores)
    one.set("a", "first")
    assert other.get("a") == b"first"
    assert other.check(["a"])
    assert not other.check(["a", "b"])
    other.wait(["a"])


def test_numbers_are_added_up_over_ranks(stores: tuple[TableStore, TableStore]) -> None:
    one, other = stores
    assert [one.add("n", 2), other.add("n", 3), one.add("n", 0)] == [2, 5, 5]


def test_an_entry_can_be_removed_once(stores: tuple[TableStore, TableStore]) -> None:
    one, other = stores
    one.set("a", b"x")
    assert other.delete_key("a")
    assert not one.delete_key("a")


def test_who_asks_early_waits(stores: tuple[TableStore, TableStore]) -> None:
    one, other = stores
    found: list[bytes] = []
    waiting = threading.Thread(target=lambda: found.append(one.get("late")))
    waiting.start()
    other.set("late", b"x")
    waiting.join(10)
    assert found == [b"x"]


def test_an_entry_that_nobody_makes_is_missed(
    stores: tuple[TableStore, TableStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PATIENCE", store.PATIENCE * 0)
    with pytest.raises(TimeoutError, match="no rank has left never in the table within 0 s"):
        stores[0].get("never")
