"""What a monitor may ask over HTTP. Counts only: neither arguments, nor what is made of them."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, InterfaceError, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

import steady_queue
from steady_queue import queries
from steady_queue.health import explain, trouble
from steady_queue.management.arguments import seconds
from steady_queue.management.layout import for_json

type View = Callable[[HttpRequest], HttpResponse]


def _open(view: View) -> View:
    """By GET, for anybody, and outside of ATOMIC_REQUESTS: a snapshot is its own transaction."""
    view = transaction.non_atomic_requests(using=steady_queue.database)(view)
    return login_not_required(never_cache(require_safe(view)))


def _guarded(view: View) -> View:
    """By GET and for who has the token."""

    @wraps(view)
    def guarded(request: HttpRequest) -> HttpResponse:
        try:
            return _refusal(request) or view(request)
        except (DatabaseError, InterfaceError) as error:
            return _error(503, explain(error))

    return _open(guarded)


@_open
def health(request: HttpRequest) -> HttpResponse:
    """200 or 503. The reason, ``max_age`` and ``deep`` are for who has the token."""
    if not request.GET and _token(request) is None:
        return JsonResponse({"healthy": (well := not trouble())}, status=200 if well else 503)
    return _refusal(request) or _health_in_full(request)


@_guarded
def metrics(request: HttpRequest) -> HttpResponse:
    """In the Prometheus text format, or in that of OpenMetrics for who accepts it."""
    try:
        from steady_queue.metrics import exposition
    except ImportError:
        return _error(501, "metrics need prometheus-client: pip install 'steady-queue[metrics]'")
    text, content_type = exposition(request.headers.get("Accept", ""))
    return HttpResponse(text, content_type=content_type)


@_guarded
def stats(request: HttpRequest) -> HttpResponse:
    """What ``status --json`` shows, but for the limit keys: they are made of arguments."""
    parts = queries.status(steady_queue.database)
    for limit in parts["limits"]:
        del limit["limit_key"]
    return HttpResponse(json.dumps(parts, default=for_json), content_type="application/json")


def _health_in_full(request: HttpRequest) -> HttpResponse:
    try:
        wanted = _wanted(request)
    except ArgumentTypeError as error:
        return _error(400, str(error))
    reason = trouble(**wanted, naming=False)
    said = {"healthy": False, "reason": reason} if reason else {"healthy": True}
    return JsonResponse(said, status=503 if reason else 200)


def _wanted(request: HttpRequest) -> dict[str, Any]:
    """The arguments of ``trouble``. Raises ArgumentTypeError."""
    for name, value in request.GET.items():
        if name not in ("deep", "max_age"):
            raise ArgumentTypeError(f"unknown parameter {name!r}; known: deep, max_age")
        if name == "deep" and value not in ("", "1"):
            raise ArgumentTypeError(f"expected deep without a value, got {value!r}")
    return {"deep": "deep" in request.GET, "max_age": _max_age(request)}


def _max_age(request: HttpRequest) -> timedelta | None:
    if (text := request.GET.get("max_age")) is None:
        return None
    try:
        return seconds(text)
    except ArgumentTypeError:
        raise ArgumentTypeError(
            f"expected max_age to be a number of seconds above 0, got {text!r}"
        ) from None


def _refusal(request: HttpRequest) -> HttpResponse | None:
    if not steady_queue.monitoring_token:
        return _error(403, "closed: set steady_queue.monitoring_token in the project's settings")
    if constant_time_compare(_token(request) or "", steady_queue.monitoring_token):
        return None
    refusal = _error(401, "send the token: Authorization: Bearer ...")
    refusal.headers["WWW-Authenticate"] = "Bearer"
    return refusal


def _token(request: HttpRequest) -> str | None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _error(status: int, message: str) -> HttpResponse:
    return JsonResponse({"error": message}, status=status)
