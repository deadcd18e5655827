from django.contrib import admin

from .models import Order, Receipt, Report
from .orders import place


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    list_display = ("id", "customer", "product", "quantity", "status", "placed_at", "reminded_at")
    ordering = ("-pk",)

    def save_model(self, request, obj, form, change):
        """An order that is added here is placed as any other is; watch its jobs."""
        if change:
            obj.save()
        else:
            place(obj)


@admin.register(Receipt)
class ReceiptAdmin(admin.ModelAdmin):
    list_display = ("id", "order")
    ordering = ("-pk",)


@admin.register(Report)
class ReportAdmin(admin.ModelAdmin):
    list_display = ("id", "made_at", "orders", "paid", "revenue")
    ordering = ("-pk",)
