from django.db import migrations

from steady_queue.sql_files import RunFile


class Migration(migrations.Migration):
    dependencies = [("steady_queue", "0003_leaner")]

    operations = [RunFile("0004_marks")]
