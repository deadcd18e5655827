from django.utils.module_loading import autodiscover_modules


def load() -> None:
    """Import the ``tasks`` module of each installed app, so that its tasks are known."""
    autodiscover_modules("tasks")
