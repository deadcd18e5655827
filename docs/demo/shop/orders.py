"""How an order comes in."""

from datetime import timedelta

from django.db import transaction

from . import tasks

REMIND_AFTER = timedelta(seconds=2)
"""Short, because it is a demo."""


def place(order):
    """Save a new order and enqueue its tasks.

    One transaction: after the commit all of it is there, after an error none, and no worker sees
    a task before it sees the order.
    """
    with transaction.atomic():
        order.save()
        tasks.make_receipt.enqueue(order)
        if order.webhook:
            tasks.call_webhook.enqueue(order)
        if order.wants_reminder:
            tasks.send_reminder.using(run_after=REMIND_AFTER).enqueue(order)
