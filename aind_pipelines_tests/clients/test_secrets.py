"""Secrets and parameters by name; what goes wrong is said, the secret is not."""

import traceback

import pytest

from aind_pipelines.clients.errors import AccessRefused, ServiceError, ServiceUnavailable, UnexpectedAnswer
from aind_pipelines.clients.secrets import get_parameter, get_secret
from aind_pipelines_tests.clients.servers import AwsServer, free_port


def test_a_secret_and_a_parameter_are_read_by_name(aws_environment: AwsServer) -> None:
    aws_environment.secret("read/by/name", {"host": "h", "port": 1})
    aws_environment.client("ssm").put_parameter(Name="/p", Value='{"a": [1]}', Type="SecureString")
    assert get_secret("read/by/name") == {"host": "h", "port": 1}
    assert get_parameter("/p") == {"a": [1]}


def test_a_rotated_secret_is_seen_at_once(aws_environment: AwsServer) -> None:
    aws_environment.secret("rotated", {"password": "one"})
    assert get_secret("rotated") == {"password": "one"}
    aws_environment.client("secretsmanager").put_secret_value(SecretId="rotated", SecretString='{"password": "two"}')
    assert get_secret("rotated") == {"password": "two"}


def test_a_missing_name_is_named(aws_environment: AwsServer) -> None:
    with pytest.raises(ServiceError, match=r"secret 'no/such'.*Check the name"):
        get_secret("no/such")
    with pytest.raises(ServiceError, match=r"parameter '/no/such'.*Check the name"):
        get_parameter("/no/such")


@pytest.mark.parametrize("content", ["canary-not-json", '"canary-text"', '["canary-list"]', '{"a": "canary-cut'])
def test_a_secret_that_is_no_object_is_refused_without_showing_it(aws_environment: AwsServer, content: str) -> None:
    name = f"odd/{abs(hash(content))}"
    aws_environment.secret(name, content)
    with pytest.raises(UnexpectedAnswer, match="one JSON object") as raised:
        get_secret(name)
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None
    assert "canary" not in "".join(traceback.format_exception(raised.value))


def test_a_missing_region_says_which_variable_to_set(
    aws_environment: AwsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(ServiceError, match="AWS_REGION"):
        get_secret("any")


def test_missing_credentials_say_which_variables_to_set(
    aws_environment: AwsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(AccessRefused, match="AWS_ACCESS_KEY_ID"):
        get_secret("any")


def test_an_endpoint_that_is_down_is_an_outage(aws_environment: AwsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ServiceUnavailable, match="AWS_ENDPOINT_URL"):
        get_secret("any")
