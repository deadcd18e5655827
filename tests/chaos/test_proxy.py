import select
import time
from contextlib import ExitStack, closing

import psycopg
import pytest

from tests.chaos.proxy import Proxy
from tests.conftest import PATIENCE, connect


@pytest.fixture
def through(proxy):
    """Connects through the proxy."""
    address = {"host": "127.0.0.1", "port": proxy.port, "sslmode": "disable", "autocommit": True}
    with ExitStack() as opened:
        yield lambda **more: opened.enter_context(closing(connect(**{**address, **more})))


@pytest.fixture
def proxy(transactional_db):
    with connect() as direct:
        host, port = direct.info.host, direct.info.port
    with Proxy(host, port) as one:
        yield one


def words():
    with connect() as direct:
        return [word for (word,) in direct.execute("select word from heard order by id")]


def send(client, statement):
    client.pgconn.send_query(statement.encode())
    client.pgconn.flush()


def can_read(client, seconds=PATIENCE):
    return bool(select.select([client], [], [], seconds)[0])


def test_a_proxy_passes_everything_on(proxy, through):
    client = through()
    row = client.execute("select %s::text", ["x" * 1_000_000]).fetchone()
    assert row == ("x" * 1_000_000,)
    assert proxy.accepted == 1


def test_a_reset_is_an_error_on_the_client(proxy, through):
    client = through()
    client.execute("select 1")
    assert proxy.reset() == 1
    with pytest.raises(psycopg.OperationalError):
        client.execute("select 1")
    through()


def test_what_is_done_to_one_port_is_done_to_all(proxy, through):
    with connect() as direct:
        further = proxy.lead_to(direct.info.host, direct.info.port)
    clients = [through(), through(port=further)]
    for client in clients:
        client.execute("select 1")
    assert proxy.reset() == 2
    for client in clients:
        with pytest.raises(psycopg.OperationalError):
            client.execute("select 1")


def test_silence_holds_back_what_comes_until_it_ends(proxy, through):
    client = through()
    proxy.silence()
    send(client, "insert into heard (word) values ('held')")
    assert not can_read(client, 0.1)
    assert words() == []
    proxy.silence(False)
    assert can_read(client)
    assert words() == ["held"]


def test_a_stranded_connection_never_hears_again_and_others_do(proxy, through):
    lost = through()
    lost.execute("listen steady_queue")
    other = through()
    other.execute("select 1")
    assert proxy.strand("^listen") == 1
    send(lost, "insert into heard (word) values ('into the void')")
    other.execute("insert into heard (word) values ('through')")
    assert not can_read(lost, 0.1)
    assert words() == ["through"]
    assert proxy.strand("^listen") == 0


def test_latency_delays_both_directions(proxy, through):
    client = through()
    proxy.delay(0.1)
    sent_at = time.monotonic()
    send(client, "select 1")
    assert can_read(client)
    # Never earlier than it must; how much later is the machine's affair.
    assert time.monotonic() - sent_at >= 0.2


@pytest.mark.parametrize("prepare_threshold", [None, 0])
def test_a_cut_reply_leaves_its_statement_committed(proxy, through, prepare_threshold):
    client = through(prepare_threshold=prepare_threshold)
    insert = "insert into heard (word) values (%s)"
    client.execute(insert, ["answered"])
    proxy.cut_reply_to("^insert into heard")
    with pytest.raises(psycopg.OperationalError):
        client.execute(insert, ["unanswered"])
    assert words() == ["answered", "unanswered"]
    assert (proxy.cuts_made, proxy.cuts) == (1, [])


def test_a_cut_reply_to_commit_leaves_the_transaction_committed(proxy, through):
    proxy.cut_reply_to("^commit")
    client = through(autocommit=False)
    client.execute("insert into heard (word) values ('committed')")
    with pytest.raises(psycopg.OperationalError):
        client.commit()
    assert words() == ["committed"]


def test_a_server_that_is_away_refuses(tmp_path):
    with Proxy(str(tmp_path), 5432) as proxy:
        with pytest.raises(psycopg.OperationalError):
            connect(host="127.0.0.1", port=proxy.port, sslmode="disable")
        assert (proxy.accepted, proxy.refused) == (1, 1)
