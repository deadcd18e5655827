from django.db import models
from django.db.models.functions import Now


class Heard(models.Model):
    """What a task said, wherever it ran."""

    word = models.TextField()
    at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "heard"
