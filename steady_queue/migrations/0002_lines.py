from django.db import migrations

from steady_queue.sql_files import RunFile


class Migration(migrations.Migration):
    dependencies = [("steady_queue", "0001_queue")]

    operations = [RunFile("0002_lines")]
