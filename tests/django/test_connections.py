import pytest

from steady_queue.connections import PATIENCE, Database, PatientConnection, connection_parameters
from tests import conftest

pytestmark = pytest.mark.django_db(transaction=True)


def connect(**more):
    return PatientConnection.connect(**{**connection_parameters(), **more})


@pytest.mark.parametrize(("milliseconds", "seconds"), [(1500, 1.5), (0, PATIENCE)])
def test_replies_are_waited_for_as_the_options_say(milliseconds, seconds):
    with connect(tcp_user_timeout=milliseconds) as connection:
        assert connection.patience == seconds
        assert connection.execute("select pg_sleep(0.01)").fetchone() == ("",)


def test_a_transaction_that_a_lost_client_left_open_ends_when_the_client_would_have_given_up():
    database = Database()
    connection = database.connection(conftest.PATIENCE)
    try:
        timeout = connection.execute("show idle_in_transaction_session_timeout").fetchone()
        assert timeout == (f"{PATIENCE:.0f}s",)
    finally:
        database.close()
