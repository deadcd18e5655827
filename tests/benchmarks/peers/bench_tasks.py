from django.tasks import task
from peer import record


@task()
def noop(number):
    record(number)
