"""The description of the routes: complete, the same for people, and true of whatever follows it."""

from collections.abc import Callable, Iterator

import pytest

from reference import SentenceEncoder
from reference.serving import service
from reference.serving.openapi import BODIES, describe
from tests.reference.serving.conftest import NAME, Running


def test_every_route_is_described(shared: Running) -> None:
    said = shared.get("/openapi.json").json()
    assert set(said["paths"]) == set(shared.application._paths)
    assert set(BODIES) - {"/encode"} == {path for path, methods in said["paths"].items() if "post" in methods}
    embed = said["paths"]["/embed"]["post"]
    assert embed["summary"].startswith("Vectors of length 1 of a string")
    assert embed["requestBody"]["content"]["application/json"]["schema"]["required"] == ["inputs"]


def test_the_page_for_people_asks_nobody_else(shared: Running) -> None:
    answer = shared.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "POST /v1/embeddings" in answer.text
    assert "http://" not in answer.text
    assert "https://" not in answer.text


def test_a_key_is_part_of_the_description(service_of: Callable[..., Running]) -> None:
    said = describe(service_of(key="secret").application)
    assert said["paths"]["/embed"]["post"]["security"] == [{"key": []}]
    assert "security" not in said["paths"]["/health"]["get"]


@pytest.mark.soak
def test_requests_made_from_the_description_are_answered_as_it_says(
    encoder: SentenceEncoder, serve: Callable[..., Iterator[Running]]
) -> None:
    import schemathesis
    from hypothesis import HealthCheck, given, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

    running = serve(service.build(encoder, NAME))
    address = f"http://{next(running).address}"
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    checks = (not_a_server_error, status_code_conformance, content_type_conformance)
    for operation in schema.get_all_operations():
        found = operation.ok()

        @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=found.as_strategy())
        def sent(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=checks)

        sent()
    assert next(running, None) is None
