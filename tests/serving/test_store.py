"""The store of scripts in SQLite: what was acknowledged is there, whatever happens afterwards."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from hypothesis import given, settings
from hypothesis import strategies as st

from lekhai_helpers.ship import store as store_module
from lekhai_helpers.ship import store_open, store_upgrade
from lekhai_helpers.ship.store import NewScript, ScriptStore, StoredScript, StoreError, UnknownScript
from lekhai_helpers.ship.store_schema import metadata, search_form

TABLE = "| Visual | Audio |\n|---|---|\n| ভোরের বারান্দা | ভিও: নতুন দিন |"


def script(number: int = 0, **request) -> NewScript:
    asked = {"brand": "ঝিলমাটি", "product": "দেয়ালের রং", "message": f"বার্তা {number}", "industry": "রং (Paint)"}
    return NewScript(asked | request, TABLE, number % 2 == 0, ["2 row(s)"], "lekhai-q8_0.gguf@3f2a9c1d", 1.25)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'scripts.db'}"


@pytest.fixture
def store(url):
    with ScriptStore(url) as opened:
        yield opened


def test_what_is_added_comes_back_whole(store):
    stored = store.add(script(1, duration_seconds=30))
    assert isinstance(stored, StoredScript) and stored.created_at.tzinfo is UTC
    assert store.get(stored.id) == stored == store.search()[0]
    assert datetime.now(UTC) - stored.created_at < timedelta(minutes=1)


def test_without_an_address_the_scripts_lie_in_the_folder_of_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("LEKHAI_RUNS", str(tmp_path / "a" / "runs"))
    with ScriptStore() as store:
        store.add(script())
    assert (tmp_path / "a" / "runs" / "scripts.db").exists()


@pytest.mark.parametrize("id", ["", "nonsense", "' OR 1=1 --", "00000000-0000-4000-8000-000000000000"])
def test_an_id_that_is_not_there_is_none(store, id):
    store.add(script())
    assert store.get(id) is None


# --- search


@pytest.mark.parametrize("query", ["অরুণিমা", "অরুণিমা চা", "THE MORNING", "সকালের", "বারান্দা", "  নতুন   দিন  "])
def test_search_looks_through_brand_product_message_and_script(store, query):
    wanted = store.add(script(brand="অরুণিমা", product="চা", message="সকালের কাপ, the Morning cup"))
    store.add(NewScript({"brand": "অন্য"}, "| ছবি | কথা |", True, [], "m", 1))
    assert store.search(query) == [wanted]


def test_search_does_not_mind_the_unicode_form(store):
    """য় and ো come as one code point or as two, by keyboard and by phone; they look the same."""
    typed_one, typed_two = "\u09df\u09cb", "\u09af\u09bc\u09c7\u09be"
    assert typed_one != typed_two and unicodedata.normalize("NFC", typed_one) == unicodedata.normalize("NFC", typed_two)
    first, second = store.add(script(brand=f"ক{typed_one}")), store.add(script(brand=f"ক{typed_two}"))
    for query in (f"ক{typed_one}", f"ক{typed_two}"):
        assert {found.id for found in store.search(query)} == {first.id, second.id}


def test_search_does_not_mind_joiners_and_the_script_of_digits(store):
    wanted = store.add(script(message="র\u200d্যাব ৩০ দিন"))
    assert store.search("র্যাব") == store.search("30") == store.search("৩০") == [wanted]


@pytest.mark.parametrize("query", ["100%", "a_b", "a/b", "a\\b", "[x]", "'", '"', "';--"])
def test_wildcards_and_quotes_are_only_letters(store, query):
    wanted = store.add(script(message=f"x {query} y"))
    store.add(script(message="x 1000 axb ab y"))
    assert store.search(query) == [wanted]
    assert len(store.search()) == 2


@settings(deadline=None, derandomize=True)
@given(st.text(max_size=30))
def test_whatever_was_written_is_found_by_itself(query):
    """And no query makes the search fail."""
    with tempfile.TemporaryDirectory() as folder, ScriptStore(f"sqlite:///{folder}/s.db") as store:
        stored = store.add(script(brand=query))
        assert store.search(stored.request["brand"]) == [stored]
        store.search(query)


@settings(deadline=None, derandomize=True)
@given(st.text())
def test_the_form_searched_in_is_the_same_when_taken_twice(text):
    assert search_form(search_form(text)) == search_form(text)


def test_a_very_long_search_is_answered(store):
    store.add(script())
    assert store.search(" ".join(f"w{number}" for number in range(5000))) == store.search("ক" * 200_000) == []


def test_search_filters_by_industry(store):
    paint, tea = store.add(script()), store.add(script(industry="চা (Tea)"))
    assert store.search(industry="চা  (Tea)") == [tea]
    assert store.search(industry="রং (Paint)") == [paint]
    assert store.search(industry="রং") == []


def test_what_no_database_can_hold_is_marked_and_kept(store):
    stored = store.add(script(brand="ক\x00\ud800খ", other=["\x00"]))
    assert stored.request["brand"].startswith("ক�") and stored.request["other"] == ["�"]
    assert store.get(stored.id) == stored


# --- pages


def test_pages_stay_the_same_while_scripts_come_in(store):
    """An offset would show the last script of a page again as soon as one is added."""
    old = [store.add(script(number)).id for number in range(23)][::-1]
    seen, before = [], None
    while page := store.search(limit=5, before=before):
        seen += [found.id for found in page]
        before = seen[-1]
        store.add(script(99))
    assert seen == old


def test_pages_lose_none_of_several_scripts_of_one_moment(store, monkeypatch):
    class Frozen(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2026, 1, 2, 3, 4, 5, tzinfo=tz)

    monkeypatch.setattr(store_module, "datetime", Frozen)
    added = {store.add(script(number)).id for number in range(7)}
    first = [found.id for found in store.search(limit=3)]
    second = [found.id for found in store.search(limit=100, before=first[-1])]
    assert len(first + second) == 7 and set(first + second) == added


@pytest.mark.parametrize("before", ["nonsense", "00000000-0000-4000-8000-000000000000"])
def test_a_page_after_a_script_that_is_not_there_is_refused(store, before):
    store.add(script())
    with pytest.raises(UnknownScript, match="begin the list again"):
        store.search(before=before)


def test_a_page_has_between_one_and_a_hundred_scripts(store):
    for number in range(103):
        store.add(script(number))
    assert [len(store.search(limit=limit)) for limit in (-1, 0, 1, 20, 10**9)] == [1, 1, 1, 20, 100]


# --- together


def test_threads_and_a_second_store_write_at_once(store, url):
    with ScriptStore(url) as other, ThreadPoolExecutor(16) as pool:
        stored = list(pool.map(lambda number: (store, other)[number % 2].add(script(number)), range(64)))
    assert len({found.id for found in stored}) == 64
    assert all(store.get(found.id) == found for found in stored)


def test_many_processes_may_open_a_new_store_at_once(tmp_path):
    program = "import sys; from lekhai_helpers.ship.store import ScriptStore; ScriptStore(sys.argv[1]).close()"
    address = f"sqlite:///{tmp_path / 'new.db'}"
    started = [
        subprocess.Popen([sys.executable, "-c", program, address], stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    assert [(process.wait(120), process.stderr.read()) for process in started] == [(0, "")] * 4


# --- nothing acknowledged is lost

WRITER = """
import sys
from lekhai_helpers.ship.store import NewScript, ScriptStore
store = ScriptStore(sys.argv[1])
while True:
    stored = store.add(NewScript({"brand": "ঝিল", "message": "ক" * 2000}, "| ক | খ |", True, [], "m", 1.0))
    print(stored.id, flush=True)
"""


def acknowledged_before_kill(url: str, enough: int) -> list[str]:
    """Let another process add scripts, kill it in the middle, and return the ids it had acknowledged."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, url], stdout=subprocess.PIPE, text=True)
    ids = [writer.stdout.readline().strip() for _ in range(enough)]
    writer.send_signal(signal.SIGKILL)
    return ids + [line.strip() for line in writer.communicate(timeout=60)[0].splitlines() if len(line) == 37]


def test_a_kill_loses_no_script_that_was_acknowledged(url):
    ids = acknowledged_before_kill(url, 25)
    with ScriptStore(url) as store:
        assert all(store.get(id) is not None for id in ids)
        store.add(script())
    assert sqlite3.connect(url.removeprefix("sqlite:///")).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_commit_waits_for_the_disk(store):
    """In WAL mode anything less than FULL may lose the last scripts when the power goes."""
    with store._database.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


def test_a_full_disk_is_said_and_costs_nothing_that_was_there(store, url):
    """SQLite's own page limit makes the disk full."""
    kept = [store.add(script(number)) for number in range(3)]
    with store._database.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match=r"disk is full.*free some space"):
        store.add(script(message="ক" * 200_000))
    assert store.search() == kept[::-1]
    store._database.engine.dispose()  # there is space again
    assert store.get(store.add(script(message="ক" * 200_000)).id)


def test_a_really_full_disk_is_said(tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", mount], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("a small disk can only be mounted as root, outside a container")
    try:
        with ScriptStore(f"sqlite:///{mount / 'scripts.db'}") as store:
            kept = store.add(script())
            with pytest.raises(StoreError, match="disk is full"):
                store.add(script(message="ক" * 400_000))
            assert store.search() == [kept]
            assert store.get(store.add(script(1)).id)
    finally:
        subprocess.run(["umount", "-l", mount], check=True)


def test_a_file_moved_in_use_is_said_and_never_written_to_in_vain(store, tmp_path):
    """SQLite goes on writing to a deleted file and reports success."""
    first = store.add(script())
    aside = shutil.move(tmp_path / "scripts.db", tmp_path / "aside.db")
    for _ in range(2):
        with pytest.raises(StoreError, match=r"deleted, moved or replaced while it was in use.*put it back"):
            store.add(script(1))
    with ScriptStore(f"sqlite:///{aside}") as moved:
        assert moved.search() == [first]  # what still lay in the log is in the file that was moved
    shutil.move(aside, tmp_path / "scripts.db")
    assert store.add(script(2)) and store.get(first.id) == first


def test_a_file_deleted_during_a_write_is_not_acknowledged(store, tmp_path, monkeypatch):
    real = store_module._insert

    def insert(connection, row, again):
        real(connection, row, again)
        (tmp_path / "scripts.db").unlink()

    monkeypatch.setattr(store_module, "_insert", insert)
    with pytest.raises(StoreError, match="deleted, moved or replaced"):
        store.add(script())


def test_a_file_put_in_its_place_is_not_spoilt(store, url, tmp_path):
    """The log of the old file lies beside the new one, and SQLite would take it for the new one's own."""
    for number in range(20):
        store.add(script(number))
    with ScriptStore(f"sqlite:///{tmp_path / 'other.db'}") as other:
        there = other.add(script(7))
    os.replace(tmp_path / "other.db", tmp_path / "scripts.db")
    with pytest.raises(StoreError, match="replaced while it was in use.*start the service again"):
        store.search()
    with ScriptStore(url) as started_again:
        assert started_again.search() == [there]
        assert started_again.get(started_again.add(script(8)).id)
        with started_again._database.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


# --- a file that cannot be used


def test_a_file_that_stays_locked_is_said(url, tmp_path, monkeypatch):
    monkeypatch.setattr(store_open, "WAIT_SECONDS", 0.2)
    with ScriptStore(url) as store:
        other = sqlite3.connect(tmp_path / "scripts.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"locked for more than.*end the other program"):
            store.add(script())
        assert store.search() == []  # reading goes on
        other.execute("ROLLBACK")
        other.close()
        assert store.get(store.add(script()).id)


def test_a_writer_waits_for_another_one(store, tmp_path):
    other = sqlite3.connect(tmp_path / "scripts.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.5, lambda: other.execute("ROLLBACK")).start()
    assert store.get(store.add(script()).id)
    other.close()


@pytest.mark.parametrize("content", [b"not a database at all, " * 100, b"SQLite format 3\x00" + b"\xff" * 5000])
def test_a_damaged_file_is_said_and_left_alone(url, tmp_path, content):
    (tmp_path / "scripts.db").write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged, or no SQLite database.*recover"):
        ScriptStore(url)
    assert (tmp_path / "scripts.db").read_bytes() == content


@pytest.fixture
def powerless():
    """A folder anybody may look into, and a test without root's right to write everywhere."""
    folder = Path(tempfile.mkdtemp(prefix="store", dir="/tmp"))
    folder.chmod(0o755)
    root = os.geteuid() == 0
    yield folder, lambda: os.seteuid(65534) if root else None
    if root:
        os.seteuid(0)
    folder.chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_that_cannot_be_written_is_said(powerless, there):
    folder, give_up_rights = powerless
    address = f"sqlite:///{folder / 'scripts.db'}"
    if there:
        ScriptStore(address).close()
        (folder / "scripts.db").chmod(0o444)
    folder.chmod(0o555)
    give_up_rights()
    with pytest.raises(StoreError, match=r"cannot be written.*right to write there"):
        ScriptStore(address).add(script())


def test_a_folder_that_is_a_file_is_said(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be written"):
        ScriptStore(f"sqlite:///{tmp_path / 'file' / 'scripts.db'}")


def test_the_table_of_another_program_is_left_alone(url, tmp_path):
    with sqlite3.connect(tmp_path / "scripts.db") as db:
        db.execute("CREATE TABLE scripts (name TEXT)")
    with pytest.raises(StoreError, match="made by another program"):
        ScriptStore(url)


def test_a_table_that_was_dropped_is_said(store, tmp_path):
    with sqlite3.connect(tmp_path / "scripts.db") as db:
        db.execute("DROP TABLE scripts")
    with pytest.raises(StoreError, match="not those LekhAI made"):
        store.search()


# --- addresses


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("nonsense", "cannot be read"),
        ("sqlite://", "every script would be lost"),
        ("sqlite:///:memory:", "every script would be lost"),
        ("sqlite:///x.db?mode=ro", "takes none"),
        ("mysql://me:hush-hush@host/x", "neither SQLite nor PostgreSQL"),
        ("postgresql://me:hush-hush@host:port/x", "cannot be read"),
        ("postgresql://me:hush@/-hush@host/x", "names no host"),
        ("postgresql://me:a@hush-hush/x@host/db", "needs a user and a database"),
        ("postgresql://host/db", "needs a user and a database"),
        ("postgresql:///db", "names no host"),
        ("postgresql://me:hush-hush@host/x?sslmode=hush-hush", "sslmode"),
        ("postgresql://me:hush-hush@host/x?password=hush-hush", "not known"),
    ],
)
def test_an_address_that_cannot_be_used_is_said_without_its_password(address, said):
    with pytest.raises(StoreError, match=said) as caught:
        ScriptStore(address)
    assert "hush" not in str(caught.value) and caught.value.__cause__ is None


# --- versions


def test_the_steps_make_the_table_that_the_code_expects(store):
    with store._database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "scripts_version"})
        assert compare_metadata(context, metadata) == []


def test_a_store_of_a_newer_lekhai_is_refused_and_untouched(url, tmp_path):
    ScriptStore(url).close()
    with sqlite3.connect(tmp_path / "scripts.db") as db:
        db.execute("UPDATE scripts_version SET version_num = '0999'")
    with pytest.raises(StoreError, match=r"newer LekhAI.*0999.*update LekhAI"):
        ScriptStore(url)
    assert sqlite3.connect(tmp_path / "scripts.db").execute("SELECT * FROM scripts_version").fetchall() == [("0999",)]


NEXT = """
import time
import sqlalchemy as sa
from alembic import op
revision, down_revision = "0002", "0001"
def upgrade():
    op.add_column("scripts", sa.Column("rating", sa.Float))
    {more}
"""


@pytest.fixture
def next_version(tmp_path, monkeypatch):
    """Return a function that gives the package a second step."""

    def plant(more: str = "pass") -> Path:
        folder = tmp_path / "migrations"
        shutil.copytree(store_upgrade.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "versions" / "0002_rating.py").write_text(NEXT.format(more=more))
        monkeypatch.setattr(store_upgrade, "MIGRATIONS", folder)
        return folder

    return plant


def columns(file: Path) -> list[str]:
    with sqlite3.connect(file) as db:
        return [row[1] for row in db.execute("PRAGMA table_info(scripts)")]


def test_an_older_store_is_upgraded_with_its_scripts_and_a_copy_kept(url, tmp_path, next_version):
    with ScriptStore(url) as store:
        old = store.add(script())
    next_version()
    with ScriptStore(url) as store:
        assert store.search() == [old]
    assert "rating" in columns(tmp_path / "scripts.db") and "rating" not in columns(tmp_path / "scripts.0001.db")


def test_an_upgrade_of_a_file_that_cannot_be_copied_first_is_said(url, tmp_path, next_version):
    ScriptStore(url).close()
    next_version()
    (tmp_path / "scripts.0001.db.writing").mkdir()
    (tmp_path / "scripts.0001.db.writing" / "x").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        ScriptStore(url)
    assert "rating" not in columns(tmp_path / "scripts.db")


def test_an_upgrade_that_fails_changes_nothing(url, tmp_path, next_version):
    with ScriptStore(url) as store:
        store.add(script())
    next_version('op.execute("SELECT nonsense")')
    with pytest.raises(StoreError):
        ScriptStore(url)
    assert "rating" not in columns(tmp_path / "scripts.db")
    assert sqlite3.connect(tmp_path / "scripts.db").execute("SELECT * FROM scripts_version").fetchall() == [("0001",)]


def test_an_upgrade_that_is_killed_changes_nothing_and_can_be_done_again(url, tmp_path, next_version):
    """Python's own way with SQLite commits every CREATE and ALTER at once: half an upgrade would stay."""
    with ScriptStore(url) as store:
        old = store.add(script())
    folder = next_version('open("{}", "w").close(); time.sleep(60)'.format(tmp_path / "halfway"))
    program = (
        "import sys, pathlib; from lekhai_helpers.ship import store, store_upgrade\n"
        "store_upgrade.MIGRATIONS = pathlib.Path(sys.argv[2]); store.ScriptStore(sys.argv[1])"
    )
    upgrading = subprocess.Popen([sys.executable, "-c", program, url, folder])
    while not (tmp_path / "halfway").exists():
        assert upgrading.poll() is None
        time.sleep(0.05)
    upgrading.send_signal(signal.SIGKILL)
    upgrading.wait()
    assert "rating" not in columns(tmp_path / "scripts.db")
    (folder / "versions" / "0002_rating.py").write_text(NEXT.format(more="pass"))
    with ScriptStore(url) as store:
        assert store.search() == [old]
    assert "rating" in columns(tmp_path / "scripts.db")


def test_the_steps_travel_with_the_package():
    assert (store_upgrade.MIGRATIONS / "env.py").exists()
    assert [path.name for path in sorted((store_upgrade.MIGRATIONS / "versions").glob("0*.py"))] == ["0001_scripts.py"]
