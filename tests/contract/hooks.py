"""What schemathesis has to know of the broker: who asks what would sign them out, and what every failure promises."""

import itertools
import json
import os
import re
import ssl
import urllib.request

import schemathesis
from schemathesis import GenerationMode

# Users whose passwords are guessed at, a request each in turn: a name is slowed down after a failure.
GUESSED = json.loads(os.environ["LUCARNE_GUESSED"])
CALLER = os.environ["LUCARNE_CALLER"]
# Somebody who signs in and out.
LEAVER = json.loads(os.environ["LUCARNE_LEAVER"])

# What there is, by the names that parameters and fields of bodies have for it.
THERE = {"pool": "office", "user": "ada", "group": "staff", "host": "sim-00001", "image": "simulated"}
SESSION = os.environ["LUCARNE_SESSION"]

turn = itertools.count()


def sign_in():
    """A token of its own for a request that ends it."""
    context = ssl.create_default_context(cafile=os.environ["LUCARNE_CERT"])
    request = urllib.request.Request(
        os.environ["LUCARNE_URL"] + "/api/v1/auth/token",
        data=json.dumps(LEAVER).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, context=context) as answer:
        return json.load(answer)["token"]


def bears(case):
    """Whether the request has the token of the run: not where credentials are left out or spoiled on purpose."""
    return (case.headers or {}).get("Authorization") == f"Bearer {os.environ['LUCARNE_TOKEN']}"


def meet(case):
    """Has a request that is right be about something that there is."""
    if "/sessions/{id}" in case.operation.path:
        case.path_parameters["id"] = SESSION
    for values in (case.path_parameters, case.query, case.body):
        if isinstance(values, dict):
            values.update({name: THERE[name] for name in THERE if isinstance(values.get(name), str)})


def settle(body):
    """What a schema does not say: which time zones and days there are, what labels look like, and which settings go together."""
    ready, placement = body.get("ready"), body.get("placement")
    if isinstance(ready, dict):
        if isinstance(ready.get("time_zone"), str):
            ready["time_zone"] = "Europe/Berlin"
        if ready.get("holidays"):
            ready["holidays"] = ["2026-12-25"]
    if body.get("kind") != "personal":
        body.pop("power", None)
        body.pop("snapshots", None)
    for labelled in (body, placement):
        if isinstance(labelled, dict) and labelled.get("labels"):
            labelled["labels"] = {"site": "north"}


@schemathesis.hook
def before_call(context, case, **kwargs):
    operation = case.operation.definition.raw.get("operationId")
    positive = case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE
    # A pool, a user or a session that is gone would leave nothing to ask for.
    if positive and case.method not in ("DELETE",) and next(turn) % 2 == 0:
        meet(case)
    key = (case.headers or {}).get("Idempotency-Key")
    if key is not None and re.fullmatch(r"[!-~]{1,255}", key) and next(turn) % 8 != 0:
        # Most have a key of their own, or they would be refused for having another's.
        case.headers["Idempotency-Key"] = f"{key[:200]}{CALLER.split()[-1]}{next(turn)}"
    if operation == "apply_apply" and positive and isinstance(case.body, dict):
        # That no two have one name is not for a schema to say.
        for i, pool in enumerate(case.body.get("pools", [])):
            pool["name"] = f"p{i}-{next(turn)}"
            settle(pool)
    if operation in ("pools_create", "hosts_label") and positive and isinstance(case.body, dict):
        settle(case.body)
    if operation in ("auth_login", "auth_token"):
        body = case.body
        if isinstance(body, dict) and isinstance(body.get("name"), str):
            n = next(turn)
            # Names of their own, or each would wait for the one before; and some that are right.
            case.body = {**body, **LEAVER} if n % 4 == 0 else {**body, "name": f"{n}-{CALLER}-{body['name']}"}
    elif operation == "auth_logout" and bears(case):
        case.headers["Authorization"] = f"Bearer {sign_in()}"
    elif operation == "me_password" and bears(case):
        case.headers["Authorization"] = f"Bearer {GUESSED[next(turn) % len(GUESSED)]}"


@schemathesis.check
def failures_are_documented_problems(ctx, response, case):
    """Each failure is a problem document (RFC 9457) whose code the document names for this operation and status."""
    status = response.status_code
    # What no operation answers has nothing in the document.
    if status < 400 or status == 405:
        return
    problem = response.json()
    assert problem["status"] == status, f"the status {status} is told as {problem['status']}"
    code = problem["code"]
    if code == "no_such_path":
        return
    said = case.operation.definition.raw["responses"].get(str(status), {}).get("description", "")
    assert code in re.findall(r"[a-z_]+", said), f"{status} {code} is not documented here, but: {said}"
    assert code not in ("internal_error", "database_unavailable"), f"{code}: {problem['detail']}"


@schemathesis.check
def answers_are_not_stored(ctx, response, case):
    """No cache keeps an answer, and no browser takes it for something else."""
    assert response.headers.get("cache-control") == ["no-store"], response.headers.get("cache-control")
    assert response.headers.get("x-content-type-options") == ["nosniff"]
