import pytest

from registry import errors
from registry.errors import TrustTraceError, UnknownName, first_line, near_path, redacted, unknown_name


def test_the_docstring_draws_every_error():
    drawn = [word for line in errors.__doc__.splitlines() for word in line.split() if hasattr(errors, word)]
    made = [error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, TrustTraceError)]
    assert sorted(drawn) == sorted(error.__name__ for error in made)


def test_errors_are_caught_by_pythons_names():
    assert issubclass(errors.InvalidInput, ValueError)
    assert issubclass(errors.Mismatch, ValueError)
    assert issubclass(errors.NotFound, LookupError)
    assert issubclass(UnknownName, errors.InvalidInput)


def test_an_unknown_name_comes_with_the_nearest_and_with_all():
    with pytest.raises(
        UnknownName, match=r"unknown dimension 'toxcity'; did you mean 'toxicity'\? known: privacy, toxicity"
    ):
        raise unknown_name("dimension", "toxcity", ["privacy", "toxicity"])
    assert str(unknown_name("dimension", "x", ["privacy"])) == "unknown dimension 'x'; known: privacy"


@pytest.mark.parametrize(
    ("text", "longest", "expected"),
    [
        ("no space left.\n  at line 3", None, "no space left"),
        (
            "\nThe following failures occurred:\n  a.bin: 404\nb.bin: 404",
            None,
            "The following failures occurred: a.bin: 404",
        ),
        ("known: " + "albert, " * 99, 20, "known: albert, alber"),
        ("  \n", None, "OSError"),
    ],
)
def test_the_first_line_of_an_error_says_what_went_wrong(text, longest, expected):
    assert first_line(OSError(text), longest) == expected


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://user:SECRET@host:5000/x", "http://***@host:5000/x"),
        ("postgresql://user:SE/CR?ET#@host/mlflow", "postgresql://***@host/mlflow"),
        ("http://user:SE@CRET@host", "http://***@host"),
        ("mysql+pymysql://user:SE'CR\"E<T@host/mlflow", "mysql+pymysql://***@host/mlflow"),
        ("http://user:5SECRET@host", "http://***@host"),
        ("postgresql:///mlflow?host=db&user=u&password=SECRET", "postgresql:///mlflow?host=db&user=u&password=***"),
        ("https://host/c?sv=1&sig=SECRET%3D&se=2", "https://host/c?sv=1&sig=***&se=2"),
        ("https://host/?X-Amz-Signature=SECRET", "https://host/?X-Amz-Signature=***"),
        ("https://host/?access_token=SECRET#top", "https://host/?access_token=***#top"),
    ],
)
def test_no_secret_of_an_address_is_shown(uri, expected):
    assert redacted(f"the registry at {uri} does not answer") == f"the registry at {expected} does not answer"


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:5000/#/models/steer.tiny.toxicity@champion",
        "models:/steer.tiny.toxicity@champion is not live",
        "write to a@b.example, or see http://host:5000 and a@b.example",
        "sqlite:///mlflow.db?timeout=5&key_words=a",
    ],
)
def test_what_is_no_secret_stays(text):
    assert redacted(text) == text


def test_a_mistyped_path_is_answered_with_the_nearest(tmp_path, monkeypatch):
    (tmp_path / "humility.csv").touch()
    (tmp_path / "series").mkdir()
    monkeypatch.chdir(tmp_path / "series")
    assert near_path("../humilty.csv") == "; did you mean ../humility.csv?"
    assert near_path(f"{tmp_path}/serie/") == f"; did you mean {tmp_path}/series?"
    assert near_path("../nothing.like") == near_path("../no/such/folder") == near_path("humilty.csv") == ";"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert near_path("~/humilty.csv") == "; did you mean ~/humility.csv?"
