"""The shop's tasks. They run in a worker, some time after the transaction that enqueued them.

A worker may die in the middle of a task, which is then started again: each task here can run twice
and the rows are as after one run.
"""

from http.client import HTTPConnection
from urllib.parse import urlsplit

from django.core.mail import send_mail
from django.db import transaction
from django.db.models import Count, F, Q, Sum
from django.tasks import task
from django.template.loader import render_to_string
from django.utils import timezone

from .models import Order, Receipt, Report


@task(priority=10)
def make_receipt(order):
    """Render the receipt of an order and keep it; the order is paid then."""
    text = render_to_string("shop/receipt.txt", {"order": order})
    with transaction.atomic():
        Receipt.objects.update_or_create(order=order, defaults={"text": text})
        Order.objects.filter(pk=order.pk).update(status=Order.Status.PAID)


@task()
def call_webhook(order):
    """Tell the customer's own server. Where nobody answers, this fails with a traceback."""
    url = urlsplit(order.webhook)
    connection = HTTPConnection(url.hostname, url.port or 80, timeout=2)
    try:
        connection.request("POST", url.path or "/", body=f"order={order.pk}")
        connection.getresponse()
    finally:
        connection.close()


@task(queue_name="mail")
def send_reminder(order):
    """Ask the customer for a review, once."""
    if order.reminded_at is None:
        send_mail("How was it?", f"You bought {order.product}.", None, [order.customer])
        Order.objects.filter(pk=order.pk).update(reminded_at=timezone.now())


@task(queue_name="reports", priority=-10)
def make_report():
    """Count the orders of now into a report."""
    figures = Order.objects.aggregate(
        orders=Count("pk"),
        paid=Count("pk", filter=Q(status=Order.Status.PAID)),
        revenue=Sum(F("quantity") * F("price"), default=0),
    )
    Report.objects.create(**figures)
