from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import migrations


def make_admin(apps, schema_editor):
    """A user for the admin, with a password that everybody knows: never on a real site."""
    User = apps.get_model("auth", "User")
    if settings.DEBUG and not User.objects.filter(username="admin").exists():
        User.objects.create(
            username="admin",
            password=make_password("admin"),
            is_staff=True,
            is_superuser=True,
        )


class Migration(migrations.Migration):
    dependencies = [
        ("shop", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
    ]

    operations = [migrations.RunPython(make_admin, migrations.RunPython.noop)]
