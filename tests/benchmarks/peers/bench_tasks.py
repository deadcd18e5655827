import importlib
import os

from django.tasks import task
from peer import record

limit = importlib.import_module(os.environ["BENCH_PEER"]).Peer.limit


@task()
def noop(number):
    record(number)


def one_at_once(number):
    record(number)


def four_at_once(number):
    record(number)


one_at_once, four_at_once = limit(one_at_once, 1), limit(four_at_once, 4)
limited = {1: one_at_once, 4: four_at_once}
