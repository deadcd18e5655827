"""Customers of the demo."""

from decimal import Decimal

from django.db import transaction

from . import tasks
from .models import Order
from .orders import place

PRODUCTS = {"kettle": "39.90", "lamp": "24.50", "teapot": "18.00", "chair": "79.00"}

CLOSED = "http://127.0.0.1:9/orders"
"""An address where nobody answers: the tasks that call it fail, so that a failure can be seen."""


def send_customer(number):
    """Place the order of a customer and, after every sixth, ask for a report.

    Twelve customers make 20 tasks: 12 receipts, 5 reminders, 2 reports and a webhook that fails.
    """
    product, price = list(PRODUCTS.items())[number % len(PRODUCTS)]
    order = Order(
        customer=f"customer-{number}@example.com",
        product=product,
        price=Decimal(price),
        quantity=1 + number % 3,
        webhook=CLOSED if number % 12 == 0 else "",
        wants_reminder=number % 12 in range(1, 6),
    )
    with transaction.atomic():
        place(order)
        if number % 6 == 0:
            tasks.make_report.enqueue()
    return order
