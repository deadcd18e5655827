from django.db import models


class Order(models.Model):
    class Status(models.TextChoices):
        PLACED = "placed"
        PAID = "paid"

    customer = models.EmailField()
    product = models.CharField(max_length=100)
    quantity = models.PositiveIntegerField(default=1)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    status = models.CharField(max_length=10, choices=Status, default=Status.PLACED, editable=False)
    webhook = models.URLField(blank=True, help_text="Whom to tell about the order.")
    wants_reminder = models.BooleanField(default=False)
    placed_at = models.DateTimeField(auto_now_add=True)
    reminded_at = models.DateTimeField(null=True, editable=False)

    def __str__(self):
        return f"order {self.pk}"

    @property
    def total(self):
        return self.quantity * self.price


class Receipt(models.Model):
    order = models.OneToOneField(Order, models.CASCADE)
    text = models.TextField()

    def __str__(self):
        return f"receipt of {self.order}"


class Report(models.Model):
    made_at = models.DateTimeField(auto_now_add=True)
    orders = models.PositiveIntegerField()
    paid = models.PositiveIntegerField()
    revenue = models.DecimalField(max_digits=12, decimal_places=2)

    def __str__(self):
        return f"report {self.pk}"
