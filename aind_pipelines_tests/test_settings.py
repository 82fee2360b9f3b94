"""Settings: where values come from and which of them wins."""

from pathlib import Path

import boto3
import pytest

from aind_pipelines.settings import (
    Policy,
    Settings,
    SettingsError,
    load_policy,
    load_settings,
    load_settings_with_origins,
    setting_names,
)


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    project, home = tmp_path / "project", tmp_path / "home"
    project.mkdir()
    home.mkdir()
    (project / "workspace.yaml").write_text("load_from: []\n")
    monkeypatch.chdir(project)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("AIND_PIPELINES_NO_DOTENV", raising=False)
    for name in list(__import__("os").environ):
        if name.startswith(("RDS_", "DOC_DB_", "CODE_OCEAN", "AWS_", "NBANK_", "METADATA_SERVICE", "AIND_")):
            monkeypatch.delenv(name)
    return project


def test_nothing_set_gives_defaults_and_says_so() -> None:
    loaded = load_settings_with_origins()
    assert loaded.values.rds_host is None
    assert loaded.values.doc_db_port == 27017
    assert set(loaded.origins.values()) == {"default"}


def test_argument_beats_environment_beats_project_beats_home(monkeypatch: pytest.MonkeyPatch) -> None:
    (Path.home() / ".env").write_text("RDS_HOST=from-home\nRDS_USER=from-home\nRDS_DATABASE=from-home\nRDS_PORT=1\n")
    Path(".env").write_text("RDS_HOST=from-project\nRDS_USER=from-project\nRDS_DATABASE=from-project\n")
    monkeypatch.setenv("RDS_HOST", "from-environment")
    monkeypatch.setenv("RDS_USERNAME", "from-environment")
    loaded = load_settings_with_origins(rds_host="from-argument")
    assert loaded.values.rds_host == "from-argument"
    assert loaded.values.rds_user == "from-environment"
    assert loaded.values.rds_database == "from-project"
    assert loaded.values.rds_port == 1
    assert loaded.origins["rds_user"] == "environment (RDS_USERNAME)"
    assert loaded.origins["rds_port"] == ".env of the home directory (RDS_PORT)"


def test_a_dotenv_file_that_is_no_text_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_bytes(b"\xff\xfeRDS_PASSWORD=canary-secret")
    with pytest.raises(SettingsError, match=r"\.env cannot be read") as raised:
        load_settings()
    assert "canary" not in str(raised.value)


def test_an_aws_parameter_is_read_with_what_a_dotenv_file_says_of_aws(moto_url: str) -> None:
    login = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-west-2"}
    boto3.client("ssm", endpoint_url=moto_url, **login).put_parameter(
        Name="/lab/settings", Value='{"RDS_HOST": "from-parameter"}', Type="SecureString", Overwrite=True
    )
    Path(".env").write_text(
        f"AWS_PARAM_STORE_NAME=/lab/settings\nAWS_ENDPOINT_URL={moto_url}\nAWS_REGION=us-west-2\n"
        "AWS_ACCESS_KEY_ID=a\nAWS_SECRET_ACCESS_KEY=b\n"
    )
    loaded = load_settings_with_origins()
    assert loaded.values.rds_host == "from-parameter"
    assert loaded.origins["rds_host"] == "AWS parameter /lab/settings (RDS_HOST)"


PAIR = "AWS_ACCESS_KEY_ID=a\nAWS_SECRET_ACCESS_KEY=b\n"
TOKEN = "AWS_SESSION_TOKEN=canary\n"


@pytest.mark.parametrize(
    ("environment", "project", "home", "origin"),
    [
        ("", PAIR + TOKEN, "", ".env of the project root (AWS_SESSION_TOKEN)"),
        (PAIR + TOKEN, "AWS_SESSION_TOKEN=other\n", "", "environment (AWS_SESSION_TOKEN)"),
        (TOKEN, PAIR, PAIR + "AWS_SESSION_TOKEN=other\n", None),
        (PAIR, TOKEN, "", None),
        (PAIR, PAIR + TOKEN, "", None),
        ("AWS_ACCESS_KEY_ID=a\n", "AWS_SECRET_ACCESS_KEY=b\n" + TOKEN, "", None),
        (TOKEN, PAIR + "AWS_SESSION_TOKEN=canary\n", "", ".env of the project root (AWS_SESSION_TOKEN)"),
    ],
)
def test_a_session_token_is_taken_from_where_the_key_pair_is(
    monkeypatch: pytest.MonkeyPatch, environment: str, project: str, home: str, origin: str | None
) -> None:
    for line in environment.splitlines():
        monkeypatch.setenv(*line.split("=", 1))
    Path(".env").write_text(project)
    (Path.home() / ".env").write_text(home)
    loaded = load_settings_with_origins()
    token = loaded.values.aws_session_token
    if origin is None:
        assert token is None
        assert "is left out, since the key pair in force is not from there" in loaded.origins["aws_session_token"]
    else:
        assert token is not None
        assert (token.get_secret_value(), loaded.origins["aws_session_token"]) == ("canary", origin)


def test_a_session_token_as_argument_needs_the_key_pair_beside_it() -> None:
    Path(".env").write_text(PAIR)
    assert load_settings(aws_session_token="canary").aws_session_token is None
    given = load_settings(aws_access_key_id="c", aws_secret_access_key="d", aws_session_token="canary")
    assert given.aws_session_token is not None


def test_an_aws_parameter_is_asked_for_with_the_session_token(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, object] = {}

    class Session(boto3.Session):
        def __init__(self, **given: object) -> None:
            made.update(given)
            raise ValueError("enough")

    monkeypatch.setattr(boto3, "Session", Session)
    Path(".env").write_text(PAIR + TOKEN + "AWS_PARAM_STORE_NAME=/x\n")
    with pytest.raises(SettingsError, match="enough"):
        load_settings()
    assert made["aws_session_token"] == "canary"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "e")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "f")
    with pytest.raises(SettingsError, match="enough"):
        load_settings()
    assert (made["aws_access_key_id"], made["aws_session_token"]) == ("e", None)


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RDS_HOST", "")
    assert load_settings().rds_host is None


def test_dotenv_files_are_not_read_where_the_lab_forbids_them(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("RDS_HOST=stray\n")
    monkeypatch.setenv("AIND_PIPELINES_NO_DOTENV", "1")
    assert load_settings().rds_host is None


def test_code_ocean_token_is_found_by_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_NAME", "cop_abc")
    loaded = load_settings_with_origins()
    assert loaded.values.code_ocean_api_token is not None
    assert loaded.values.code_ocean_api_token.get_secret_value() == "cop_abc"
    assert "SOME_NAME" in loaded.origins["code_ocean_api_token"]
    assert "cop_abc" not in repr(loaded)


def test_a_bad_value_names_the_variable_and_its_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RDS_PORT", "many")
    with pytest.raises(SettingsError, match=r"RDS_PORT \(environment \(RDS_PORT\)\).*integer"):
        load_settings()


@pytest.mark.parametrize("name", ["RDS_PORT", "DOC_DB_PORT", "DOC_DB_SSH_PORT"])
@pytest.mark.parametrize("port", ["0", "-1", "65536", "99999"])
def test_a_port_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, port: str) -> None:
    monkeypatch.setenv(name, port)
    with pytest.raises(SettingsError, match=rf"{name} .*a port is a number from 1 to 65535"):
        load_settings()


@pytest.mark.parametrize("name", ["METADATA_SERVICE_URL", "NBANK_REGISTRY", "CODE_OCEAN_DOMAIN", "AWS_ENDPOINT_URL"])
def test_an_address_without_scheme_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "127.0.0.1:5000")
    with pytest.raises(SettingsError, match=rf"{name} .*http:// or https://"):
        load_settings()
    monkeypatch.setenv(name, "HTTP://127.0.0.1:5000")
    load_settings()


def test_a_mark_at_the_beginning_of_a_file_is_no_part_of_it(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(LIVE, encoding="utf-8-sig")
    assert set(load_policy(file).archives) == {"live"}
    Path(".env").write_text("RDS_HOST=from-project\n", encoding="utf-8-sig")
    assert load_settings().rds_host == "from-project"


def test_a_policy_file_below_a_home_that_there_is_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIND_PIPELINES_CONFIG", "~nobody-of-this-name/x.toml")
    with pytest.raises(SettingsError, match=r"AIND_PIPELINES_CONFIG is ~nobody-of-this-name/x\.toml"):
        load_policy()


def test_policy_defaults_without_a_file() -> None:
    assert load_policy() == Policy()


def test_policy_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "elsewhere" / "policy.toml"
    file.parent.mkdir()
    file.write_text('[archives.live]\npath = "archives/live"\n')
    assert load_policy(file).archives["live"].path == file.parent / "archives" / "live"


LIVE = '[archives.live]\npath = "live"\n'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[deposits]\nzip_directories = true\n",
        '[archives.cold]\npath = "cold"\n',
        f'{LIVE}[deposits]\narchive = "live"\n',
        '[docdb]\nsources = [{database = "a"}, {database = "a", api_version = "v2"}]\n',
    ],
)
def test_a_policy_that_deposits_nowhere_or_where_it_says_is_good(tmp_path: Path, text: str) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(text)
    load_policy(file)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[archives", "cannot be read"),
        ("[s3]\nbucket = ['a']\n", r"s3\.bucket"),
        ("[metadata_service]\nrequests_per_second = 0\n", "requests_per_second"),
        (f'{LIVE}[deposits]\narchive = "liv"\n', r"deposits\.archive: .* no archive 'liv' \(it names: live\)"),
        ('[deposits]\narchive = "typo"\n', r"deposits\.archive: .* no archive 'typo' \(it names: none\)"),
        (f'{LIVE}[deposits.derived.sorted]\narchive = "liv"\ndtype = "d"\n', r"deposits\.derived\.sorted\.archive: "),
        (f'{LIVE}[inboxes.songs]\npath = "in"\narchive = "liv"\ndtype = "d"\n', r"inboxes\.songs\.archive: "),
        (f'{LIVE}[archives.cold]\npath = "x/../live"\n', "archives 'live' and 'cold' are the same directory"),
        ('[archives.live]\npath = ""\n', r"archives\.live\.path: .*empty"),
        ('[archives.live]\npath = "~nobody-of-this-name/a"\n', r"archives\.live\.path: .*cannot be resolved"),
        ("[s3]\nbuckets = []\n", r"s3\.buckets"),
        (
            '[docdb]\nsources = [{database = "a"}, {database = "a"}]\n',
            r"docdb\.sources: .*a\.data_assets is listed twice",
        ),
    ],
)
def test_a_bad_policy_names_the_file_and_the_place(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=problem) as raised:
        load_policy(file)
    assert str(file) in str(raised.value)


def test_a_missing_policy_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="AIND_PIPELINES_CONFIG"):
        load_policy(tmp_path / "none.toml")


def test_the_template_names_every_setting_and_nothing_else() -> None:
    template = (Path(__file__).parents[1] / ".env.template").read_text()
    named = {line.removeprefix("# ").split("=")[0] for line in template.splitlines() if "=" in line}
    assert named == {setting_names(field)[0] for field in Settings.model_fields}
